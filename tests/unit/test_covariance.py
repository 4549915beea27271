"""The covariance of W's rows: what numpy gives, and the same bits however the rows arrive and whatever computes it."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from job.geometry.covariance import Covariance, eigenvalues_of
from job.geometry.methods import ROWS_PER_PRODUCT
from job.geometry.rows import FLOATS

TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
Matrix = NDArray[np.float64]


def random_rows(n_rows: int, hidden_size: int, seed: int = 0) -> Matrix:
    """Rows with a centroid that is no 0, in columns of very different sizes that are correlated."""
    generator = np.random.default_rng(seed)
    mixed = generator.standard_normal((n_rows, hidden_size)) @ generator.standard_normal((hidden_size, hidden_size))
    rows: Matrix = (mixed + generator.standard_normal(hidden_size)) * 10.0 ** generator.integers(-6, 6, hidden_size)
    return rows


def centroid(rows: Matrix) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        mu: NDArray[np.float32] = rows.mean(axis=0).astype(np.float32)
    return mu


def covariance_of(rows: Matrix, mu: NDArray[np.float32] | None = None, rows_per_block: int = 10**9) -> Matrix:
    covariance = Covariance(centroid(rows) if mu is None else mu)
    for first in range(0, len(rows), rows_per_block):
        covariance.add(rows[first : first + rows_per_block])
    return covariance.finish()


def by_definition(rows: Matrix, mu: NDArray[np.float32]) -> Matrix:
    """What a person computes from the published W and mu."""
    with np.errstate(all="ignore"):
        centred = rows - mu.astype(np.float64)
        product: Matrix = centred.T @ centred
        return product / len(rows)


def relative_error(found: Matrix, expected: Matrix) -> float:
    """The largest error, relative to the standard deviations of the two columns."""
    deviations = np.sqrt(np.diagonal(expected))
    return float(np.max(np.abs(found - expected) / np.outer(deviations, deviations)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("n_rows", "hidden_size"), [(50, 1), (5000, 7), (ROWS_PER_PRODUCT, 64), (2500, 300)])
def test_the_covariance_is_that_of_numpy_for_every_dtype(dtype: str, n_rows: int, hidden_size: int) -> None:
    stored = torch.from_numpy(random_rows(n_rows, hidden_size) / 1e3).to(TORCH_DTYPES[dtype])
    rows, mu = stored.to(torch.float64).numpy(), stored.to(torch.float64).mean(0).to(torch.float32).numpy()
    used = rows.std(axis=0) > 0  # in F16, small columns are zeros
    covariance = Covariance(mu)
    covariance.add(FLOATS[dtype].numbers(stored.view(torch.uint8).numpy()))
    found = covariance.finish()
    assert found.dtype == np.float64
    chosen = found[np.ix_(used, used)]
    assert relative_error(chosen, by_definition(rows, mu)[np.ix_(used, used)]) < 1e-12
    assert relative_error(chosen, np.atleast_2d(np.cov(rows[:, used].T, bias=True))) < 1e-11
    assert not found[~used].any()


def test_it_is_divided_by_the_number_of_rows_and_taken_about_the_given_centroid() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 4.0]])
    assert covariance_of(rows).tolist() == [[1.0, 2.0], [2.0, 4.0]]
    assert covariance_of(rows, np.zeros(2, np.float32)).tolist() == [[5.0, 6.0], [6.0, 8.0]]


@given(st.integers(1, 3000), st.integers(1, 6), st.integers(1, 3000), st.integers(0, 99))
def test_it_has_the_same_bits_for_any_division_into_blocks(
    n_rows: int, hidden_size: int, rows_per_block: int, seed: int
) -> None:
    rows = random_rows(n_rows, hidden_size, seed)
    assert covariance_of(rows).tobytes() == covariance_of(rows, rows_per_block=rows_per_block).tobytes()


def test_it_is_exactly_symmetric_over_many_stripes() -> None:
    found = covariance_of(random_rows(2000, 700))
    assert found.tobytes() == found.T.tobytes()


@given(
    st.lists(st.lists(st.floats(-1e150, 1e150), min_size=2, max_size=2), min_size=1, max_size=40),
    st.sampled_from([np.float32, np.float64]),
)
@example([[1.0, 2.012710925115822e-273]], np.float64)
def test_each_entry_is_the_exact_sum_but_for_rounding(numbers: list[list[float]], dtype: type) -> None:
    with np.errstate(over="ignore"):
        rows = np.array(numbers).astype(dtype).astype(np.float64)
    rows[~np.isfinite(rows)] = 0
    mu = np.zeros(2, np.float32)
    found = covariance_of(rows, mu)
    exact = [[Fraction(value) for value in row] for row in rows.tolist()]
    largest = [max(Fraction(2) ** -900, *(abs(row[column]) for row in exact)) for column in range(2)]
    for i in range(2):
        for j in range(2):
            expected = sum((row[i] * row[j] for row in exact), Fraction(0)) / len(exact)
            allowed = largest[i] * largest[j] * Fraction(2) ** -40 + Fraction(1e-300)
            assert abs(Fraction(float(found[i, j])) - expected) <= allowed


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_gives_what_numpy_gives_and_touches_nothing_else(special: float) -> None:
    rows = random_rows(2100, 5)
    rows[7, 2] = special
    if special == 1e300:
        rows[:, 2] = special  # a centroid beyond float32
    mu = centroid(rows)
    found = covariance_of(rows, mu, 100)
    expected = by_definition(rows, mu)
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    assert not np.isfinite(expected[2]).any()
    assert relative_error(found[np.ix_(others, others)], expected[np.ix_(others, others)]) < 1e-12
    assert np.isnan(eigenvalues_of(found)).all()


def test_all_columns_may_be_nan() -> None:
    rows = random_rows(100, 5)
    rows[7] = np.nan
    assert np.isnan(covariance_of(rows)).all()


def test_eigenvalues_ascend_and_are_those_of_the_definition() -> None:
    rows = random_rows(4000, 40)
    found = eigenvalues_of(covariance_of(rows))
    assert (np.diff(found) >= 0).all()
    singular = np.linalg.svd(rows - centroid(rows).astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(found[::-1], singular**2 / len(rows), rtol=1e-9, atol=found[-1] * 1e-14)


def test_rows_that_are_all_the_same_have_no_covariance() -> None:
    assert not covariance_of(np.full((2000, 3), 0.5)).any()
    assert not covariance_of(np.zeros((1, 3))).any()
