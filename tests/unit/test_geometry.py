"""What is measured of a matrix, held against brute force: any shape, dtype and division into blocks."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from job.geometry.black_holes import BlackHoles
from job.geometry.dedup import find_black_holes
from job.geometry.digests import Digest, xxh3_128
from job.geometry.measure import Measurement
from job.geometry.methods import Dedup
from job.geometry.rows import FLOATS, Block, centred, row_norms
from job.geometry.statistics import summarise

ITEM_NBYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
XXH3 = xxh3_128(seed=0)
TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@st.composite
def matrices(draw: st.DrawFn, accept: Callable[[float], bool] | None = None) -> tuple[Block, str]:
    """Stored rows with planted groups, of any bits: ±0, subnormals, infinities, NaNs of every payload.

    ``accept``: which numbers may occur, where not all may.
    """
    dtype = draw(st.sampled_from(sorted(FLOATS)))
    hidden_size = draw(st.integers(1, 5))
    number = st.binary(min_size=ITEM_NBYTES[dtype], max_size=ITEM_NBYTES[dtype]) | st.sampled_from(
        [
            bytes(ITEM_NBYTES[dtype]),
            bytes(ITEM_NBYTES[dtype] - 1) + b"\x80",  # −0
            b"\xff" * ITEM_NBYTES[dtype],  # a NaN
        ]
    )
    if accept:
        number = number.filter(lambda raw: accept(torch.frombuffer(bytearray(raw), dtype=TORCH_DTYPES[dtype]).item()))
    row = st.lists(number, min_size=hidden_size, max_size=hidden_size).map(b"".join)
    pool = draw(st.lists(row, min_size=1, max_size=8))
    rows = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=40))
    return np.frombuffer(bytearray(b"".join(rows)), np.uint8).reshape(len(rows), -1), dtype


def measured(rows: Block, dtype: str, block_nbytes: int = 1 << 20, digest: Digest = XXH3) -> Measurement:
    measurement = Measurement(len(rows), rows.shape[1] // ITEM_NBYTES[dtype], FLOATS[dtype], digest)
    rows_per_block = max(1, block_nbytes // rows.shape[1])
    for first in range(0, len(rows), rows_per_block):
        measurement.add(rows[first : first + rows_per_block])
    return measurement


def float64(rows: Block, dtype: str) -> NDArray[np.float64]:
    """The numbers in the rows, exactly."""
    return as_torch(rows, dtype).to(torch.float64).numpy()


def as_torch(rows: Block, dtype: str) -> torch.Tensor:
    """The numbers in the rows, as torch reads them."""
    return torch.from_numpy(rows).view(TORCH_DTYPES[dtype])


def black_holes(
    rows: Block, dtype: str, dedup: Dedup = "byte-hash", digest: Digest = XXH3
) -> tuple[BlackHoles, BlackHoles]:
    return find_black_holes(measured(rows, dtype, digest=digest), lambda ids: rows[ids], rows.shape[1], dedup)


def brute_force(keys: list[Hashable]) -> list[list[int]]:
    """The groups of at least two equal keys: the largest first, then by their first member."""
    groups = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def groups_of(holes: BlackHoles) -> list[list[int]]:
    return [members.tolist() for members in holes.members()]


@given(matrices(), st.sampled_from(["byte-hash", "torch-unique"]))
def test_both_methods_find_the_rows_whose_bytes_are_equal(matrix: tuple[Block, str], dedup: Dedup) -> None:
    rows, dtype = matrix
    holes, _ = black_holes(rows, dtype, dedup)
    expected = brute_force([row.tobytes() for row in rows])
    assert groups_of(holes) == expected
    assert holes.populations.tolist() == [len(group) for group in expected]
    assert holes.first_members.tolist() == [group[0] for group in expected]
    assert np.flatnonzero(holes.ids).tolist() == sorted(chain.from_iterable(expected))
    assert holes.unique_rows == len({row.tobytes() for row in rows})
    assert holes.duplicate_rows == len(rows) - holes.unique_rows == holes.n_tokens - holes.n_holes


@given(matrices(), st.sampled_from(["byte-hash", "torch-unique"]))
def test_counts_by_value_merge_signed_zeros_and_split_nans(matrix: tuple[Block, str], dedup: Dedup) -> None:
    rows, dtype = matrix
    _, by_value = black_holes(rows, dtype, dedup)
    values = float64(rows, dtype).tolist()
    keys: list[Hashable] = [
        ("nan", index) if any(map(math.isnan, row)) else tuple(value + 0.0 for value in row)
        for index, row in enumerate(values)
    ]
    assert groups_of(by_value) == brute_force(keys)


@given(matrices(lambda value: not math.isnan(value)))
def test_counts_by_value_are_those_of_torch_unique_where_no_nan_breaks_its_order(matrix: tuple[Block, str]) -> None:
    rows, dtype = matrix
    _, by_value = black_holes(rows, dtype)
    assert by_value.unique_rows == len(torch.unique(as_torch(rows, dtype), dim=0))


@pytest.mark.parametrize(
    "digest", [lambda _: bytes(16), lambda row: bytes(15) + row.tobytes()[:1]], ids=["constant", "one-byte"]
)
@given(matrix=matrices())
def test_a_hash_never_decides(digest: Digest, matrix: tuple[Block, str]) -> None:
    rows, dtype = matrix
    holes, _ = black_holes(rows, dtype, digest=digest)
    assert groups_of(holes) == brute_force([row.tobytes() for row in rows])


@given(matrices(), st.integers(1, 2000))
def test_results_are_the_same_bits_for_any_block_size(matrix: tuple[Block, str], block_nbytes: int) -> None:
    rows, dtype = matrix
    one, other = measured(rows, dtype), measured(rows, dtype, block_nbytes)
    assert one.mu.tobytes() == other.mu.tobytes()
    assert one.norms.tobytes() == other.norms.tobytes()
    assert one.digests.tobytes() == other.digests.tobytes()
    assert one.value_digests.tobytes() == other.value_digests.tobytes()


@pytest.mark.parametrize("hidden_size", [1, 2, 3, 300, 20_000])
def test_rows_are_summed_one_after_another(hidden_size: int) -> None:
    rows = torch.randn(200, hidden_size, generator=torch.Generator().manual_seed(2)).exp().view(torch.uint8).numpy()
    total = np.zeros(hidden_size)
    for row in float64(rows, "F32"):
        total += row
    assert measured(rows, "F32").mu.tobytes() == (total / len(rows)).astype(np.float32).tobytes()


@pytest.mark.parametrize("hidden_size", [1, 2, 300])
def test_the_centroid_of_many_rows_is_the_same_bits_for_any_block_size(hidden_size: int) -> None:
    rows = torch.randn(5000, hidden_size, generator=torch.Generator().manual_seed(1)).view(torch.uint8).numpy()
    centroids = {measured(rows, "F32", block_nbytes).mu.tobytes() for block_nbytes in (1, 999, 10_000, 1 << 20)}
    assert len(centroids) == 1


@given(matrices(lambda value: abs(value) < 1e30))
def test_the_centroid_is_the_exact_mean_but_for_rounding(matrix: tuple[Block, str]) -> None:
    rows, dtype = matrix
    values = float64(rows, dtype)
    n = len(rows)
    for computed, column in zip(measured(rows, dtype).mu, values.T, strict=True):
        exact = math.fsum(column) / n
        summing = n * np.finfo(np.float64).eps * math.fsum(np.abs(column)) / n
        rounding = max(abs(exact) * 2**-24, 2**-150)
        assert abs(float(computed) - exact) <= summing + rounding


@given(matrices(lambda value: abs(value) < 1e150))
def test_norms_are_those_of_the_exact_numbers(matrix: tuple[Block, str]) -> None:
    rows, dtype = matrix
    values = float64(rows, dtype)
    assert measured(rows, dtype).norms == pytest.approx([math.hypot(*row) for row in values], rel=1e-14, abs=1e-160)
    each = np.concatenate([row_norms(row[None].copy()) for row in values])
    assert row_norms(values).tobytes() == each.tobytes()


@given(matrices())
def test_centred_rows_are_float32_rows_minus_the_centroid(matrix: tuple[Block, str]) -> None:
    rows, dtype = matrix
    mu = measured(rows, dtype).mu
    expected = as_torch(rows, dtype).to(torch.float32) - torch.from_numpy(mu)
    assert torch.equal(torch.from_numpy(centred(rows, FLOATS[dtype], mu)).isnan(), expected.isnan())
    assert torch.equal(torch.from_numpy(centred(rows, FLOATS[dtype], mu)).nan_to_num(), expected.nan_to_num())


def test_more_than_255_holes_are_numbered_in_order() -> None:
    rows = torch.arange(300, dtype=torch.float32).repeat(2)[:, None].contiguous().view(torch.uint8).numpy()
    holes, _ = black_holes(rows, "F32")
    assert (holes.n_holes, holes.n_tokens, holes.unique_rows) == (300, 600, 300)
    assert holes.ids.tolist() == [*range(1, 301)] * 2


def test_rows_with_special_numbers_are_counted() -> None:
    rows = torch.tensor([[1.0, -0.0], [math.nan, 2.0], [math.inf, 3.0], [0.0, 4.0]]).view(torch.uint8).numpy()
    measurement = measured(rows, "F32")
    assert measurement.has_negative_zero.tolist() == [True, False, False, False]
    assert measurement.has_nan.tolist() == [False, True, False, False]
    assert measurement.has_infinity.tolist() == [False, False, True, False]


@given(st.lists(st.floats(width=64), min_size=1, max_size=30))
@example([1.7e308])  # twice of it is too much for a float
def test_the_median_is_that_of_numpy(numbers: list[float]) -> None:
    values = np.array(numbers)
    with np.errstate(all="ignore"):
        expected = np.median(values)
    summary = summarise(values)
    assert summary
    np.testing.assert_equal(summary.median, float(expected))
