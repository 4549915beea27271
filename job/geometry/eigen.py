"""Eigenvalues and eigenvectors of a small symmetric matrix, with the same bits everywhere.

Those of LAPACK depend on its build and on the processor."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MAX_SWEEPS: Final = 40
"""Jacobi's method converges quadratically: 64 columns take about 7 sweeps."""
_LEAST: Final = 2.0**-44
"""What is left beside the diagonal, as a part of the largest entry. The last sweep usually leaves far less."""


def symmetric_eigen(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The eigenvalues of a symmetric (n, n) float64, descending, and its eigenvectors as rows in that order.

    Jacobi's method with n / 2 rotations at a time, in the order of a round-robin tournament (Golub and Van Loan, Matrix
    Computations, 8.5). It has only sums, products, quotients and roots of single numbers, which are rounded alike
    everywhere.
    """
    work, vectors = matrix.copy(), np.eye(len(matrix))
    rounds, least = list(_rounds(len(matrix))), np.abs(matrix).max(initial=0) * _LEAST
    for _ in range(_MAX_SWEEPS):
        if np.abs(work - np.diag(np.diagonal(work))).max(initial=0) <= least:
            break
        for first, second in rounds:
            _rotate(work, vectors, first, second)
    values = np.diagonal(work).copy()
    order = np.argsort(-values, kind="stable")
    return values[order], vectors[order]


def _rotate(
    work: NDArray[np.float64], vectors: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> None:
    """Make the entries at (first, second) zero by rotating these rows and columns of ``work``, in place."""
    entry = work[first, second]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cotangent = (work[second, second] - work[first, first]) / (2 * entry)
        tangent = np.copysign(1, cotangent) / (np.abs(cotangent) + np.sqrt(cotangent * cotangent + 1))
    tangent[entry == 0] = 0
    cosine = 1 / np.sqrt(tangent * tangent + 1)
    sine = tangent * cosine
    for array in (work, work.T, vectors):
        ours, theirs = array[first], array[second]
        array[first] = cosine[:, None] * ours - sine[:, None] * theirs
        array[second] = sine[:, None] * ours + cosine[:, None] * theirs


def _rounds(size: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rounds of a tournament in which each of ``size`` players meets each other one once."""
    players = list(range(size + size % 2))
    for _ in range(len(players) - 1):
        pairs = list(zip(players[: len(players) // 2], players[: len(players) // 2 - 1 : -1], strict=True))
        met = np.array([pair for pair in pairs if max(pair) < size], np.intp).reshape(-1, 2)
        yield met[:, 0], met[:, 1]
        players.insert(1, players.pop())
