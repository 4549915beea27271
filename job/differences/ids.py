"""Which id of one survey stands for the same token as which id of another. Pure."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""(n,) int64: ids of tokens, ascending unless it is said otherwise."""

MappedBy = Literal["id", "token"]
"""``id``: the same id. ``token``: the same bytes, or where a token has none, the same piece."""


@dataclass(frozen=True)
class IdMap:
    """How the ids of survey A map to those of survey B."""

    by: MappedBy
    a: Ids
    """(n,): the mapped ids of A."""
    b: Ids
    """(n,): the ids of B that they map to; in the order of ``a``."""
    only_a: Ids
    """The ids of A whose token B has not."""
    only_b: Ids
    ambiguous_a: Ids
    """The ids of A whose token A or B has more than once, so that nothing says which is which."""
    ambiguous_b: Ids
    without_token_a: Ids
    """The ids of A that stand for no token."""
    without_token_b: Ids

    @property
    def n_moved(self) -> int:
        """How many tokens have another id in B."""
        return int((self.a != self.b).sum())


def map_same_ids(n_rows_a: int, n_rows_b: int) -> IdMap:
    """Each id to itself. The ids that one of the two lacks are only in the other."""
    both, none = np.arange(min(n_rows_a, n_rows_b)), np.empty(0, np.int64)
    only_a, only_b = (np.arange(len(both), n_rows) for n_rows in (n_rows_a, n_rows_b))
    return IdMap("id", both, both, only_a, only_b, none, none, none, none)


@dataclass(frozen=True)
class Spellings:
    """How the tokens of a survey are spelled, by id."""

    pieces: Sequence[str | None]
    """In the vocabulary. None where an id stands for no token."""
    token_bytes: Sequence[bytes | None]
    """None where nobody knows them."""


def map_by_token(a: Spellings, b: Spellings) -> IdMap:
    """Each id to the one with the same token.

    First by bytes and piece together, so that byte tokens are told from letters; what is left, by bytes alone, since
    vocabularies spell the same bytes differently. A token that one side has several times is left out.
    """
    rest_a, rest_b = _ids_with_token(a), _ids_with_token(b)
    without_token_a, without_token_b = (
        np.setdiff1d(np.arange(len(side.pieces)), rest) for side, rest in ((a, rest_a), (b, rest_b))
    )
    pairs: list[tuple[int, int]] = []
    ambiguous_a, ambiguous_b = list[int](), list[int]()
    for keys in (_by_both, _by_bytes):
        of_a, of_b = keys(a, rest_a), keys(b, rest_b)
        found = [(ids[0], of_b[key][0]) for key, ids in of_a.items() if len(ids) == 1 == len(of_b.get(key, ()))]
        pairs += found
        shared = [key for key in of_a.keys() & of_b.keys() if len(of_a[key]) > 1 or len(of_b[key]) > 1]
        ambiguous_a, ambiguous_b = ([id for key in shared for id in side[key]] for side in (of_a, of_b))
        rest_a, rest_b = (_without(rest, ids) for rest, ids in zip((rest_a, rest_b), _unzipped(found), strict=True))
    mapped_a, mapped_b = _unzipped(sorted(pairs))
    left_a, left_b = np.sort(_as_ids(ambiguous_a)), np.sort(_as_ids(ambiguous_b))
    return IdMap(
        "token",
        mapped_a,
        mapped_b,
        only_a=_without(rest_a, left_a),
        only_b=_without(rest_b, left_b),
        ambiguous_a=left_a,
        ambiguous_b=left_b,
        without_token_a=without_token_a,
        without_token_b=without_token_b,
    )


def _ids_with_token(side: Spellings) -> Ids:
    return _as_ids([id for id, piece in enumerate(side.pieces) if piece is not None])


def _by_both(side: Spellings, ids: Ids) -> dict[Hashable, list[int]]:
    """The ids by their bytes and piece."""
    found: dict[Hashable, list[int]] = {}
    for id in ids.tolist():
        found.setdefault((side.token_bytes[id], side.pieces[id]), []).append(id)
    return found


def _by_bytes(side: Spellings, ids: Ids) -> dict[Hashable, list[int]]:
    """The ids by their bytes, or by their piece if nobody knows its bytes."""
    found: dict[Hashable, list[int]] = {}
    for id in ids.tolist():
        content = side.token_bytes[id]
        found.setdefault(side.pieces[id] if content is None else content, []).append(id)
    return found


def _as_ids(ids: Sequence[int]) -> Ids:
    return np.array(ids, np.int64)


def _unzipped(pairs: Sequence[tuple[int, int]]) -> tuple[Ids, Ids]:
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _without(ids: Ids, others: Ids) -> Ids:
    return np.setdiff1d(ids, others, assume_unique=True)
