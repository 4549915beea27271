"""Distances between the centroids of black holes."""

import numpy as np
from numpy.typing import NDArray


def distances(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n, n) float32: the Euclidean distance of each two of (n, d) points, 0 on the diagonal. NaN where a point has a
    NaN or an infinity.

    Each distance is that of the difference, and not taken from squares of norms: near points would cancel out.
    """
    numbers = points.copy()
    numbers[~np.isfinite(numbers).all(axis=1)] = np.nan
    found = np.zeros((len(numbers), len(numbers)), np.float32)
    for row, point in enumerate(numbers):
        found[row] = np.sqrt(np.square(numbers - point).sum(axis=1))
    return found
