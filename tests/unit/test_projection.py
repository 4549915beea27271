"""The principal directions of γ′: what an exact decomposition gives, and the same bits however the rows arrive."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from job.geometry.eigen import symmetric_eigen
from job.geometry.projection import Coordinates, Projection, principal_directions, scale_of
from job.geometry.sampling import NUMBERS_IN_MEMORY, NUMBERS_REFINING, first_sample, krylov_size, second_sample

Rows = NDArray[np.float32]


def rows_with(variances: NDArray[np.float64], n_rows: int, seed: int = 0) -> Rows:
    """Rows whose columns have about these variances, turned so that no direction is that of a column."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n_rows, len(variances)), np.float32) * np.sqrt(variances).astype(np.float32)
    mirror = generator.standard_normal(len(variances)).astype(np.float32)
    mirror /= np.linalg.norm(mirror)
    reflected: Rows = rows - 2 * np.outer(rows @ mirror, mirror)
    return reflected


def centred(rows: Rows) -> Rows:
    with np.errstate(all="ignore"):
        gamma: Rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return gamma


def dimensions(rows: Rows) -> tuple[int, int]:
    n_rows, hidden_size = rows.shape
    return n_rows, hidden_size


def project(gamma: Rows, rows_per_block: int = 1000) -> Projection:
    scale = scale_of(np.linalg.norm(gamma.astype(np.float64), axis=1))
    directions = principal_directions(lambda ids: gamma[ids.start : ids.stop].copy(), *dimensions(gamma), scale)
    coordinates = Coordinates(directions, len(gamma))
    for first in range(0, len(gamma), rows_per_block):
        coordinates.add(gamma[first : first + rows_per_block])
    return coordinates.finish()


def exact(gamma: Rows) -> NDArray[np.float64]:
    """The three largest eigenvalues of the covariance, by LAPACK; 0 for those that a narrow matrix does not have."""
    size = gamma.shape[1]
    covariance = sum(
        (block.astype(np.float64).T @ block for block in np.array_split(gamma, 32)), np.zeros((size, size))
    )
    largest = np.linalg.eigvalsh(covariance / len(gamma))[::-1][:3].astype(np.float64)
    return np.pad(largest, (0, 3 - len(largest)))


def check(gamma: Rows, found: Projection, within: float) -> None:
    """A projection explains what an exact decomposition does, and is what it says that it is."""
    expected = exact(gamma)
    np.testing.assert_allclose(found.explained_variance, expected, rtol=within, atol=expected[0] * 1e-11)
    directions, coordinates = found.directions.astype(np.float64), found.coordinates.astype(np.float64)
    present = found.explained_variance > 0
    np.testing.assert_allclose(directions @ directions.T, np.diag(present.astype(float)), atol=1e-6)
    assert not directions[~present].any()
    longest = np.linalg.norm(gamma.astype(np.float64), axis=1).max()
    np.testing.assert_allclose(coordinates, gamma.astype(np.float64) @ directions.T, atol=longest * 2e-6)
    np.testing.assert_allclose(found.explained_variance, np.square(coordinates).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        coordinates.T @ coordinates / len(gamma), np.diag(found.explained_variance), atol=expected[0] * 1e-5
    )
    assert all(direction[np.abs(direction).argmax()] > 0 for direction in found.directions[present])


RANKS = np.arange(1.0, 481.0)
LARGE: dict[str, Callable[[], Rows]] = {
    "as a harmonic series": lambda: rows_with(1 / RANKS, 20_000),
    "slowly": lambda: rows_with(RANKS**-0.5, 20_000),
    "slowly, and rows of very different lengths": lambda: (
        rows_with(RANKS**-0.5, 20_000) * np.exp(np.random.default_rng(1).standard_normal((20_000, 1)) / 2)
    ).astype(np.float32),
    "after three that stand out": lambda: rows_with(np.where(RANKS <= 3, 8 - RANKS, 1.0), 20_000),
    "after three that are equal": lambda: rows_with(np.where(RANKS <= 3, 9.0, 1 / RANKS), 20_000),
    "but the last rows are elsewhere": lambda: (
        rows_with(1 / RANKS, 20_000)
        + np.float32(3) * (np.arange(20_000) > 19_500)[:, None] * rows_with(np.ones(480), 1, seed=5)
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_of_a_large_w_it_explains_what_an_exact_decomposition_does_within_one_percent(kind: str) -> None:
    gamma = centred(LARGE[kind]())
    assert gamma.size > NUMBERS_IN_MEMORY, "so that more than the first sample is needed"
    check(gamma, project(gamma), 0.01)


@pytest.mark.parametrize(
    ("n_rows", "hidden_size"), [(5000, 1), (5000, 2), (5000, 3), (20, 500), (3, 40), (2, 5), (1, 7), (8000, 200)]
)
def test_of_a_small_w_it_is_the_exact_one_even_if_nothing_stands_out(n_rows: int, hidden_size: int) -> None:
    gamma = centred(rows_with(np.ones(hidden_size), n_rows))
    check(gamma, project(gamma), 0.001)


@pytest.mark.parametrize("factor", [1e-35, 1e-12, 1e12, 1e36])
def test_numbers_may_be_tiny_or_huge(factor: float) -> None:
    gamma = centred((rows_with(1 / RANKS[:40], 3000) * factor).astype(np.float32))
    check(gamma, project(gamma), 0.001)


def test_a_direction_may_explain_a_millionth_of_another() -> None:
    gamma = centred(rows_with(np.array([1, 1e-6, 1e-8]), 4000))
    check(gamma, project(gamma), 0.01)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_directions_that_gamma_does_not_have_are_zero(rank: int) -> None:
    generator = np.random.default_rng(0)
    gamma = (generator.integers(-9, 9, (600, rank)) @ generator.integers(-9, 9, (rank, 30))).astype(np.float32)
    found = project(gamma)
    assert (found.explained_variance > 0).tolist() == [True] * rank + [False] * (3 - rank)
    check(gamma, found, 1e-6)


@pytest.mark.parametrize("kind", ["a row", "all rows"])
def test_what_is_not_finite_is_nan_and_leaves_other_rows_alone(kind: str) -> None:
    gamma = centred(rows_with(1 / RANKS[:20], 500))
    whole = project(gamma[1:])
    gamma[:1] = np.inf
    if kind == "all rows":
        gamma[:] = np.nan
    with np.errstate(invalid="ignore"):
        found = project(gamma)
    assert np.isnan(found.explained_variance).all()
    assert np.isnan(found.coordinates[0]).all()
    if kind == "a row":
        np.testing.assert_allclose(found.coordinates[1:], whole.coordinates, atol=1e-4)


@settings(max_examples=20)
@given(st.integers(1, 1500), st.integers(1, 40), st.integers(1, 1500), st.integers(0, 99))
def test_it_has_the_same_bits_for_any_division_into_blocks(
    n_rows: int, hidden_size: int, rows_per_block: int, seed: int
) -> None:
    gamma = centred(rows_with(1 / np.arange(1, hidden_size + 1), n_rows, seed))
    one, other = project(gamma, n_rows), project(gamma, rows_per_block)
    for name in ("coordinates", "directions", "explained_variance"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_eigenvalues_and_eigenvectors_are_those_of_lapack(size: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    matrix += matrix.T
    values, vectors = symmetric_eigen(matrix)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-11)
    np.testing.assert_allclose(vectors @ matrix @ vectors.T, np.diag(values), atol=1e-10)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(size), atol=1e-12)


@given(st.integers(1, 300_000), st.integers(1, 20_000))
def test_samples_are_spread_over_all_rows_and_bounded(n_rows: int, hidden_size: int) -> None:
    first, second = first_sample(n_rows, hidden_size), second_sample(n_rows, hidden_size)
    assert sum(map(len, first)) * hidden_size <= max(NUMBERS_IN_MEMORY, 4 * hidden_size)
    assert sum(map(len, second)) * hidden_size <= max(NUMBERS_REFINING, n_rows * hidden_size // 4)
    for sample in filter(None, (first, second)):
        assert all(0 <= one.start < one.stop <= other.start for one, other in pairwise(sample))
        assert sample[0].start == 0
        assert sample[-1].stop > n_rows - 2 * n_rows / len(sample) - 1
    if not second:
        assert sum(map(len, first)) == n_rows or 8 * hidden_size > NUMBERS_IN_MEMORY
    assert krylov_size(n_rows, hidden_size) <= min(n_rows, hidden_size, 64)
