"""How ids map, what became of holes, and which norms changed: beside plain loops over sets."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.differences.holes import HoleChanges, compare_holes
from job.differences.ids import IdMap, Spellings, map_by_token, map_same_ids, spell
from job.differences.numbers import MAX_BINS, centroid_shift, compare_norms
from job.geometry.black_holes import number_holes

VOCABULARY = st.lists(
    st.one_of(st.none(), st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.sampled_from([b"x", b"y", b"z"])))),
    max_size=12,
)


def spellings(tokens: Sequence[tuple[str, bytes | None] | None]) -> Spellings:
    return spell(token or (None, None) for token in tokens)


def holes_of(labels: Sequence[int]) -> "np.typing.NDArray[np.int32]":
    """Rows with the same label are identical."""
    return number_holes(np.array(labels, np.int64)).ids


@given(VOCABULARY, VOCABULARY)
def test_every_id_is_mapped_or_counted_once_and_mapped_ones_have_the_same_bytes(
    a: list[tuple[str, bytes | None] | None], b: list[tuple[str, bytes | None] | None]
) -> None:
    ids = map_by_token(spellings(a), spellings(b))
    for tokens, parts in (
        (a, (ids.a, ids.only_a, ids.ambiguous_a, ids.without_token_a)),
        (b, (ids.b, ids.only_b, ids.ambiguous_b, ids.without_token_b)),
    ):
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(tokens)))
        assert [id for id, token in enumerate(tokens) if token is None] == parts[3].tolist()
    for id_a, id_b in zip(ids.a.tolist(), ids.b.tolist(), strict=True):
        (piece_a, bytes_a), (piece_b, bytes_b) = a[id_a], b[id_b]
        assert (bytes_a == bytes_b) if bytes_a is not None else (piece_a, None) == (piece_b, bytes_b)
    # What is the same token on both sides, once each, is mapped.
    once_a, once_b = ({token for token, n in Counter(side).items() if token and n == 1} for side in (a, b))
    for token in once_a & once_b:
        assert (a.index(token), b.index(token)) in set(zip(ids.a.tolist(), ids.b.tolist(), strict=True))
    # What is only on one side is on no other by its bytes.
    keys_b = {token[0] if token[1] is None else token[1] for id, token in enumerate(b) if token and id not in ids.b}
    assert not keys_b & {token[0] if token[1] is None else token[1] for id in ids.only_a if (token := a[id])}


def test_byte_tokens_are_told_from_letters_and_spellings_do_not_matter() -> None:
    a = spellings([("A", b"A"), ("<0x41>", b"A"), ("\u2581the", b" the"), ("<s>", None), ("two", b"2"), ("zwei", b"2")])
    b = spellings([("\u0120the", b" the"), ("<0x41>", b"A"), ("A", b"A"), ("<s>", None), ("deux", b"2"), None])
    ids = map_by_token(a, b)
    assert list(zip(ids.a.tolist(), ids.b.tolist(), strict=True)) == [(0, 2), (1, 1), (2, 0), (3, 3)]
    assert (ids.ambiguous_a.tolist(), ids.ambiguous_b.tolist()) == ([4, 5], [4])
    assert (ids.without_token_b.tolist(), ids.n_moved) == ([5], 2)


def expected_fates(a: Sequence[int], b: Sequence[int], pairs: set[tuple[int, int]]) -> dict[str, int]:
    """What became of the holes, by joining sets until none share a token."""
    parts: list[tuple[set[int], set[int]]] = [({hole}, set()) for hole in set(a) - {0}]
    parts += [(set(), {hole}) for hole in set(b) - {0}]
    for id_a, id_b in pairs:
        if a[id_a] and b[id_b]:
            left = next(part for part in parts if a[id_a] in part[0])
            right = next(part for part in parts if b[id_b] in part[1])
            if left is not right:
                parts.remove(right)
                left[0].update(right[0])
                left[1].update(right[1])
    counts: Counter[str] = Counter()
    for holes_a, holes_b in parts:
        members_a = {pair for pair in pairs if a[pair[0]] in holes_a}
        members_b = {pair for pair in pairs if b[pair[1]] in holes_b}
        if not members_a and not members_b:
            fate = "unmapped"
        elif not holes_a or not holes_b:
            fate = "vanished" if holes_a else "appeared"
        elif (len(holes_a), len(holes_b)) == (1, 1):
            fate = "kept" if members_a == members_b else "changed"
        elif len(holes_b) == 1:
            fate = "merged"
        else:
            fate = "split" if len(holes_a) == 1 else "regrouped"
        counts[fate] += 1
    return dict(counts)


LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=16)


@given(LABELS, LABELS, st.randoms(use_true_random=False))
def test_holes_are_kept_changed_merged_and_split_as_sets_say(a: list[int], b: list[int], random: "object") -> None:
    holes_a, holes_b = holes_of(a), holes_of(b)
    n_mapped = random.randint(0, min(len(a), len(b)))  # type: ignore[attr-defined]
    of_a = sorted(random.sample(range(len(a)), n_mapped))  # type: ignore[attr-defined]
    of_b = random.sample(range(len(b)), n_mapped)  # type: ignore[attr-defined]
    none = np.empty(0, np.int64)
    ids = IdMap("token", np.array(of_a, np.int64), np.array(of_b, np.int64), *[none] * 6)
    pairs = set(zip(of_a, of_b, strict=True))

    found = compare_holes(holes_a, holes_b, ids)

    assert dict(Counter(event.fate for event in found.events)) == expected_fates(holes_a, holes_b, pairs)  # type: ignore[arg-type]
    assert found.entered.tolist() == sorted(j for i, j in pairs if holes_b[j] and not holes_a[i])
    assert found.left.tolist() == sorted(i for i, j in pairs if holes_a[i] and not holes_b[j])
    assert found.unmapped_a.tolist() == [i for i in range(len(a)) if holes_a[i] and i not in of_a]
    assert sorted(id for event in found.events for id in event.entered.tolist()) == found.entered.tolist()
    assert sorted(id for event in found.events for id in event.left.tolist()) == found.left.tolist()
    assert [event.size for event in found.events] == sorted((event.size for event in found.events), reverse=True)
    assert sum(event.n_a for event in found.events) == (holes_a > 0).sum()
    assert sum(event.n_b for event in found.events) == (holes_b > 0).sum()


def same_rows(a: Sequence[int], b: Sequence[int]) -> HoleChanges:
    return compare_holes(holes_of(a), holes_of(b), map_same_ids(len(a), len(b)))


def test_a_hole_that_takes_in_rows_that_only_b_has_is_kept_with_both_populations() -> None:
    found = same_rows([1, 1, 2], [1, 1, 2, 1, 1])
    assert [(event.fate, event.n_a, event.n_b) for event in found.events] == [("kept", 2, 4)]
    assert found.unmapped_b.tolist() == [3, 4]


FLOATS = st.lists(st.floats(0, 100, width=32) | st.sampled_from([math.nan, math.inf]), max_size=30)


@given(FLOATS, st.integers(1, 6), st.data())
def test_the_norms_that_changed_most_come_first_and_ties_by_row(
    a: list[float], n_most: int, data: st.DataObject
) -> None:
    b = [value if data.draw(st.booleans()) else data.draw(st.floats(0, 100, width=32)) for value in a]
    before, now = np.array(a, np.float32), np.array(b, np.float32)
    found = compare_norms(before, now, n_most)
    finite = [row for row in range(len(a)) if math.isfinite(a[row]) and math.isfinite(b[row])]
    changes = {row: float(now[row]) - float(before[row]) for row in finite}
    changed = [row for row in finite if changes[row]]
    assert found.n_changed == len(changed)
    assert found.n_not_finite == len(a) - len(finite)
    assert found.most.tolist() == sorted(changed, key=lambda row: (-abs(changes[row]), row))[:n_most]
    assert sum(found.counts) == (len(finite) if changed else 0)
    assert len(found.counts) in (0, MAX_BINS)


def test_a_centroids_angle_is_right_also_where_it_is_tiny_and_untold_where_there_is_none() -> None:
    x, y = np.array([1, 0], np.float32), np.array([0, 2], np.float32)
    assert centroid_shift(x, y).angle_degrees == pytest.approx(90)
    assert centroid_shift(x, y).shift == pytest.approx(math.sqrt(5))
    assert centroid_shift(x, -x).angle_degrees == pytest.approx(180)
    tiny = centroid_shift(x, np.array([1, 1e-9], np.float32))
    assert tiny.angle_degrees == pytest.approx(math.degrees(1e-9), rel=1e-6)
    assert math.isnan(centroid_shift(x, 0 * x).angle_degrees)
