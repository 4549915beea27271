"""The first three principal directions of γ′, from a sample of its rows and one pass over all of them.

It calls no BLAS: a BLAS sums in an order that depends on the processor and on threads, and its threads wait for each
other where cores are few. numpy's own loops (``einsum``, ``add.reduce``) always sum in the same order.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from job.geometry.eigen import symmetric_eigen
from job.geometry.methods import N_DIRECTIONS
from job.geometry.rows import canonical_nans
from job.geometry.sampling import VECTORS_PER_STEP, first_sample, n_steps, second_sample

Matrix = NDArray[np.float64]
Rows = NDArray[np.float32]
Key = TypeVar("Key")

N_REFINED: Final = 8
"""How many directions are refined: more than three, so that close ones are told apart."""
_THREADS: Final = 2
_GROUPS_AT_ONCE: Final = 8
"""How many groups the threads take before a signal is heeded, and at most how many sums wait to be added."""
_NOISE: Final = 2.0**-20
"""What is smaller, beside the largest eigenvalue, may be the rounding of float32."""
_ZERO: Final = 2.0**-40
"""A direction whose variance is smaller, beside that of the first, is none: float32 coordinates do not tell it from 0.
"""


@dataclass(frozen=True)
class Projection:
    """γ′ on its principal directions."""

    coordinates: Rows
    """(n_rows, 3) float32: γ′ · directionsᵀ."""
    directions: Rows
    """(3, hidden_size) float32: orthonormal rows, or rows of zeros if γ′ has a lower rank."""
    explained_variance: Matrix
    """(3,) float64: the mean square of the coordinates, descending."""


def scale_of(norms: Matrix) -> np.float32:
    """A power of two that keeps the squares of rows with these norms within float32: 1 unless they are extreme."""
    largest = norms[norms < np.finfo(np.float32).max].max(initial=0)  # no NaN is smaller than anything
    exponent = int(np.frexp(largest)[1])
    return np.float32(1 if abs(exponent) < 32 or not largest else np.ldexp(1.0, -np.clip(exponent, -126, 126)))


def principal_directions(rows_of: Callable[[range], Rows], n_rows: int, hidden_size: int, scale: np.float32) -> Matrix:
    """(at most N_REFINED, hidden_size) float64: orthonormal directions, of the largest variance first.

    Args:
        rows_of: returns some neighbouring rows of γ′, (n, hidden_size) float32. Two threads call it.
        scale: what they are multiplied by.
    """

    def scaled(group: range) -> Rows:
        rows = rows_of(group)
        return _finite(rows * scale if scale != 1 else rows)

    directions = _of_sample([scaled(group) for group in first_sample(n_rows, hidden_size)])
    further = second_sample(n_rows, hidden_size)
    return _refined(directions, scaled, further) if further else directions


def _of_sample(sample: Sequence[Rows]) -> Matrix:
    """The leading directions of rows in memory.

    They are the Rayleigh-Ritz vectors of a block Krylov subspace (block Lanczos with full reorthogonalisation: Golub
    and Van Loan, Matrix Computations, 10.3).
    """
    hidden_size, n_rows = sample[0].shape[1], sum(map(len, sample))
    basis = _extended(np.empty((0, hidden_size)), _signs(min(VECTORS_PER_STEP, n_rows), hidden_size))
    images, newest = np.empty((0, hidden_size)), basis
    for _ in range(n_steps(n_rows, hidden_size)):
        images = np.concatenate([images, _second_moment(lambda rows: rows, sample, newest)])
        grown = _extended(basis, images[-len(newest) :])
        newest, basis = grown[len(basis) :], grown
        if not len(newest):
            break
    basis = basis[: len(images)]
    products = np.einsum("ij,kj->ik", basis, images)
    _, vectors = symmetric_eigen((products + products.T) / 2)
    directions: Matrix = np.einsum("ij,jk->ik", vectors[:N_REFINED], basis)
    return directions


def _refined(directions: Matrix, rows_of: Callable[[range], Rows], groups: Sequence[range]) -> Matrix:
    """Better directions than these, by more rows: one step of the power method, and Nyström's approximation of the
    covariance by that step (Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53 (2011),
    5.4)."""
    start = directions.astype(np.float32).astype(np.float64)
    image = _second_moment(rows_of, groups, start)
    products = np.einsum("ij,kj->ik", start, image)
    values, vectors = symmetric_eigen((products + products.T) / 2)
    is_signal = values > max(values.max(initial=0) * _NOISE, 0)
    factor = np.einsum("ij,jk->ik", vectors[is_signal] / np.sqrt(values[is_signal, None]), image)
    _, order = symmetric_eigen(np.einsum("ij,kj->ik", factor, factor))
    refined = _extended(np.empty((0, factor.shape[1])), np.einsum("ij,jk->ik", order, factor))
    return _extended(refined, start)[: len(start)]


class Coordinates:
    """The fold over all rows of γ′ that projects them. Holds 12 bytes per row, and 84 at its end."""

    def __init__(self, directions: Matrix, n_rows: int) -> None:
        """``directions``: (n, hidden_size), orthonormal; the first three count."""
        self._directions: Rows = np.zeros((N_DIRECTIONS, directions.shape[1]), np.float32)
        self._directions[: len(directions)] = directions[:N_DIRECTIONS]
        self._coordinates: Rows = np.empty((n_rows, N_DIRECTIONS), np.float32)
        self._n_seen = 0

    def add(self, rows: Rows) -> None:
        """Add the next rows, (n, hidden_size) float32."""
        into = self._coordinates[self._n_seen : self._n_seen + len(rows)]
        with np.errstate(invalid="ignore", over="ignore"):
            np.einsum("ij,kj->ik", rows, self._directions, out=into)
        self._n_seen += len(rows)

    def finish(self) -> Projection:
        """The projection, with directions turned within their span so that each explains as much as it can."""
        found: Matrix = np.ascontiguousarray(self._coordinates.T, np.float64)
        vectors = _principal_axes(found)
        directions = np.einsum("ij,jk->ik", vectors, self._directions.astype(np.float64))
        for axis, direction in zip(vectors, directions, strict=True):
            if direction[np.abs(direction).argmax()] < 0:
                axis *= -1
                direction *= -1
        with np.errstate(invalid="ignore", over="ignore"):
            for index, axis in enumerate(vectors):
                self._coordinates[:, index] = axis[0] * found[0] + axis[1] * found[1] + axis[2] * found[2]
            squares = np.square(self._coordinates.T.astype(np.float64, order="C"))
            variance = np.add.reduce(squares, axis=1) / len(self._coordinates)
        variance[np.isnan(variance)] = np.nan  # else the bits of a NaN would depend on the processor
        return Projection(_canonical(self._coordinates), _canonical(directions.astype(np.float32)), variance)


def _principal_axes(coordinates: Matrix) -> Matrix:
    """(3, 3) float64: the principal axes of (3, n) coordinates as rows; zeros in place of one without variance."""
    is_finite = np.isfinite(coordinates).all(axis=0)
    finite = coordinates if is_finite.all() else np.where(is_finite, coordinates, 0)
    products = [[np.add.reduce(one * other) for one in finite] for other in finite]
    values, axes = symmetric_eigen(np.array(products) / coordinates.shape[1])
    axes[values <= max(values[0] * _ZERO, 0)] = 0
    return axes


def _canonical(values: Rows) -> Rows:
    """The same array, changed in place: each NaN has the same bits, and no zero has a sign."""
    values += np.float32(0)
    return canonical_nans(values)


def _second_moment(rows_of: Callable[[Key], Rows], keys: Sequence[Key], vectors: Matrix) -> Matrix:
    """Σ x (x · v) over the rows x of all groups, for each row v of ``vectors``: (n, hidden_size) float64.

    Two threads compute the groups' sums, which are added in the order of the groups.
    """
    narrow = vectors.astype(np.float32)
    total: Matrix = np.zeros_like(vectors)

    def of_group(key: Key) -> Rows:
        rows = rows_of(key)
        moment: Rows = np.einsum("ij,ik->kj", rows, np.einsum("ij,kj->ik", rows, narrow))
        return moment

    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(keys), _GROUPS_AT_ONCE):  # so that a signal is heeded soon
            for moment in pool.map(of_group, keys[first : first + _GROUPS_AT_ONCE]):
                total += moment
    return total


def _extended(basis: Matrix, candidates: Matrix) -> Matrix:
    """The orthonormal rows of ``basis``, and after them those that ``candidates`` add to their span, in their order.

    Gram and Schmidt's method, twice for each row ("twice is enough": Parlett, The Symmetric Eigenvalue Problem, 6.9).
    """
    rows = np.empty((min(len(basis) + len(candidates), basis.shape[1]), basis.shape[1]))
    rows[: len(basis)] = basis
    n_rows = len(basis)
    for candidate in candidates:
        if n_rows == len(rows):
            break
        vector, known = _unit(candidate, 0), rows[:n_rows]
        for _ in range(2):
            vector = _unit(vector - np.einsum("i,ij->j", np.einsum("ij,j->i", known, vector), known), _ZERO)
        if vector.any():
            rows[n_rows] = vector
            n_rows += 1
    return rows[:n_rows]


def _unit(vector: Matrix, least: float) -> Matrix:
    """A vector of any length made one of length 1; all 0 if it is no longer than ``least``."""
    length = np.sqrt(np.add.reduce(np.square(vector)))
    return vector / length if length > least else np.zeros_like(vector)


def _finite(rows: Rows) -> Rows:
    """The same array; each row that holds a NaN or an infinity is now all 0, so that it counts for nothing."""
    if not np.isfinite(rows).all():
        rows[~np.isfinite(rows).all(axis=1)] = 0
    return rows


def _signs(n_vectors: int, hidden_size: int) -> Matrix:
    """(n_vectors, hidden_size) float64 of 1 and −1, as if at random, the same everywhere and always."""
    digest = hashlib.shake_128(b"").digest(-(-n_vectors * hidden_size // 8))
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=n_vectors * hidden_size)
    return 1.0 - 2.0 * bits.reshape(n_vectors, hidden_size).astype(np.float64)
