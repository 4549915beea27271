"""What became of the black holes of one survey in another: those with the same tokens, and those that changed. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from job.differences.ids import IdMap, Ids

Fate = Literal["kept", "changed", "merged", "split", "regrouped", "appeared", "vanished", "unmapped"]
"""What became of holes that share tokens. ``kept``: the same tokens. ``changed``: one hole of A and one of B, with some
other tokens. ``merged``: several of A, one of B; ``split``: one, several; ``regrouped``: several, several.
``appeared``: no token of the hole of B was in a hole of A; ``vanished``: the reverse. ``unmapped``: none of its tokens
maps."""

FATES: Final[tuple[Fate, ...]] = (
    *("merged", "split", "regrouped", "changed", "appeared", "vanished", "unmapped", "kept"),
)

Holes = NDArray[np.int32]
"""(n_rows,) int32: for each row the number of its hole, 0 in none."""


@dataclass(frozen=True)
class HoleEvent:
    """What became of some holes, which share tokens with each other and with no others."""

    fate: Fate
    a: tuple[int, ...]
    """The numbers of the holes of A."""
    b: tuple[int, ...]
    """Those of B."""
    n_a: int
    """The rows of A in these holes, mapped or not."""
    n_b: int
    entered: Ids
    """The ids in B of mapped tokens that are in one of these holes of B, and were in no hole of A."""
    left: Ids
    """The ids in A of mapped tokens that were in one of these holes of A, and are in no hole of B."""

    @property
    def size(self) -> int:
        return max(self.n_a, self.n_b)


@dataclass(frozen=True)
class HoleChanges:
    """How black holes, and the tokens in them, differ."""

    events: tuple[HoleEvent, ...]
    """The largest first; of the same size, by their numbers."""
    entered: Ids
    """The ids in B of mapped tokens in a hole of B that were in none of A."""
    left: Ids
    """The ids in A of mapped tokens in a hole of A that are in none of B."""
    unmapped_a: Ids
    """The ids in A of tokens in a hole that do not map."""
    unmapped_b: Ids


def compare_holes(holes_a: Holes, holes_b: Holes, ids: IdMap) -> HoleChanges:
    """What became of the holes of A in B, with the tokens mapped by ``ids``."""
    before, now = holes_a[ids.a], holes_b[ids.b]
    entered, left = np.sort(ids.b[(now > 0) & (before == 0)]), np.sort(ids.a[(before > 0) & (now == 0)])
    mapped_a, mapped_b = np.zeros(len(holes_a), np.bool_), np.zeros(len(holes_b), np.bool_)
    mapped_a[ids.a], mapped_b[ids.b] = True, True
    sides = _Side(holes_a, mapped_a, left), _Side(holes_b, mapped_b, entered)
    pairs = np.unique(np.stack((before, now))[:, (before > 0) & (now > 0)], axis=1)
    events = [_event(a, b, *sides) for a, b in _connected(pairs, sides[0].n_holes, sides[1].n_holes)]
    events.sort(key=lambda event: (-event.size, event.a, event.b))
    return HoleChanges(
        tuple(events),
        entered,
        left,
        unmapped_a=np.flatnonzero((holes_a > 0) & ~mapped_a),
        unmapped_b=np.flatnonzero((holes_b > 0) & ~mapped_b),
    )


class _Side:
    """The holes of one survey."""

    def __init__(self, holes: Holes, mapped: NDArray[np.bool_], moved: Ids) -> None:
        self.n_holes = int(holes.max(initial=0))
        self.populations = np.bincount(holes, minlength=self.n_holes + 1)
        self.n_mapped = np.bincount(holes[mapped], minlength=self.n_holes + 1)
        # The tokens that moved, by hole.
        self._of_moved = holes[moved]
        order = np.argsort(self._of_moved, kind="stable")
        self._moved, self._of_moved = moved[order], self._of_moved[order]

    def population(self, numbers: tuple[int, ...]) -> int:
        return int(self.populations[list(numbers)].sum())

    def moved(self, numbers: tuple[int, ...]) -> Ids:
        """The tokens in these holes that are in no hole of the other survey."""
        begins, ends = (np.searchsorted(self._of_moved, numbers, side) for side in ("left", "right"))
        parts = [self._moved[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))

    def has_mapped(self, numbers: tuple[int, ...]) -> bool:
        return bool(self.n_mapped[list(numbers)].any())


def _event(a: tuple[int, ...], b: tuple[int, ...], side_a: _Side, side_b: _Side) -> HoleEvent:
    left, entered = side_a.moved(a), side_b.moved(b)
    return HoleEvent(
        _fate(a, b, side_a, side_b, is_same=not len(left) and not len(entered)),
        a,
        b,
        side_a.population(a),
        side_b.population(b),
        entered,
        left,
    )


def _fate(a: tuple[int, ...], b: tuple[int, ...], side_a: _Side, side_b: _Side, *, is_same: bool) -> Fate:
    if not a or not b:
        side, numbers = (side_a, a) if a else (side_b, b)
        if not side.has_mapped(numbers):
            return "unmapped"
        return "vanished" if a else "appeared"
    if len(a) == 1 and len(b) == 1:
        return "kept" if is_same else "changed"
    if len(b) == 1:
        return "merged"
    return "split" if len(a) == 1 else "regrouped"


def _connected(
    pairs: NDArray[np.int32], n_holes_a: int, n_holes_b: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The holes of A and of B that share tokens with each other and with no others. Each hole is in one of them.

    ``pairs``: (2, n), the holes of A and of B that share a token.
    """
    of_a: dict[int, list[int]] = {number: [] for number in range(1, n_holes_a + 1)}
    of_b: dict[int, list[int]] = {number: [] for number in range(1, n_holes_b + 1)}
    for a, b in pairs.T.tolist():
        of_a[a].append(b)
        of_b[b].append(a)
    while of_a:
        found_a, found_b = set[int](), set[int]()
        waiting = {next(iter(of_a))}
        while waiting:
            found_a |= waiting
            reached = {b for a in waiting for b in of_a.pop(a)} - found_b
            found_b |= reached
            waiting = {a for b in reached for a in of_b.pop(b)} - found_a
        yield tuple(sorted(found_a)), tuple(sorted(found_b))
    for b in of_b:
        yield (), (b,)
