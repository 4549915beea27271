"""The covariance of W's rows about mu, with the same bits however the rows arrive and whatever multiplies matrices.

A BLAS sums products in an order that depends on the processor, and possibly on threads. So it only gets whole numbers
here whose sums are below 2^53: whatever the order, no sum is rounded. The numbers of a column are scaled by a power of
two and split in two parts of 20 bits, as in Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication and its applications", Numerical Algorithms 59 (2012).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.geometry.methods import ROWS_PER_PRODUCT
from job.geometry.rows import Numbers

_BITS: Final = 20
"""A part of a number is at most 2^20, the sum of both parts at most 2^21, and that of 1,024 products of such sums at
most 2^(10 + 2 · 21) = 2^52."""
_LOW_UNIT: Final = 2.0 ** -(_BITS + 1)
"""What a 1 of the low part is of a 1 of the high part: what is left after rounding is at most a half."""
_LEAST_EXPONENT: Final = -900
"""The scale of a column whose largest number is smaller: 2^−900 is far below what a W holds that means anything."""
_COLUMNS_AT_ONCE: Final = 256
"""The matrix is symmetric, so of each such stripe of it only what lies below the diagonal is computed."""


class Covariance:
    """The fold over W's rows: add blocks of rows of any size, in order. Holds (hidden_size, hidden_size) float64 and
    three times ``ROWS_PER_PRODUCT`` rows.

    The covariance is that of the population, as of Cov(γ) in Park, Choe and Veitch, "The Linear Representation
    Hypothesis and the Geometry of Large Language Models" (2023): the sum over the V rows of (w − mu)(w − mu)ᵀ, divided
    by V, not by V − 1. mu is the published float32 one; w − mu is rounded once to float64. Of each number, what is
    below 2^−42 of the largest in its column and its group of 1,024 rows, or of 2^−900, is lost.
    """

    def __init__(self, mu: NDArray[np.float32]) -> None:
        """``mu``: (hidden_size,) float32."""
        size = len(mu)
        self._mu = mu.astype(np.float64)
        self._not_finite: NDArray[np.bool_] = ~np.isfinite(mu)
        """(hidden_size,) bool: columns in which no number less mu is finite."""
        self._rows: NDArray[np.float64] = np.empty((ROWS_PER_PRODUCT, size), np.float64)
        """Groups of rows begin at multiples of ``ROWS_PER_PRODUCT``, whatever blocks the rows come in."""
        self._n_seen = 0
        self._sums: NDArray[np.float64] = np.zeros((size, size), np.float64)
        self._sums_not_finite: NDArray[np.float64] = np.zeros((size, int(self._not_finite.sum())), np.float64)

    def add(self, numbers: Numbers) -> None:
        """Add the next rows, (n, hidden_size)."""
        first = 0
        while first < len(numbers):
            begin = self._n_seen % ROWS_PER_PRODUCT
            some = numbers[first : first + ROWS_PER_PRODUCT - begin]
            with np.errstate(invalid="ignore"):  # infinity − infinity
                np.subtract(some, self._mu, out=self._rows[begin : begin + len(some)], dtype=np.float64)
            first += len(some)
            self._n_seen += len(some)
            if self._n_seen % ROWS_PER_PRODUCT == 0:
                self._add_products(self._rows)

    def finish(self) -> NDArray[np.float64]:
        """(hidden_size, hidden_size) float64: the covariance of the rows added, of which there is at least one. It is
        exactly symmetric. What NaNs and infinities touch is what numpy gives for it. No rows can be added any more.
        """
        self._add_products(self._rows[: self._n_seen % ROWS_PER_PRODUCT])
        for begin in range(0, len(self._sums), _COLUMNS_AT_ONCE):
            stripe = slice(begin, begin + _COLUMNS_AT_ONCE)
            self._sums[:begin, stripe] = self._sums[stripe, :begin].T
        self._sums[:, self._not_finite] = self._sums_not_finite
        self._sums[self._not_finite] = self._sums_not_finite.T
        self._sums /= self._n_seen
        self._sums[np.isnan(self._sums)] = np.nan  # else the bits of a NaN would depend on the processor
        return self._sums

    def _add_products(self, rows: NDArray[np.float64]) -> None:
        """Add the products of at most ``ROWS_PER_PRODUCT`` rows, (n, hidden_size) float64, which are overwritten."""
        if self._not_finite.any():
            with np.errstate(invalid="ignore", over="ignore"):
                # Each summand is a NaN or an infinity, so the sum does not depend on their order.
                self._sums_not_finite += rows.T @ rows[:, self._not_finite]
            rows[:, self._not_finite] = 0
        high, low, exponents = _split(rows)
        both = high + low
        for begin in range(0, len(self._sums), _COLUMNS_AT_ONCE):
            stripe, end = slice(begin, begin + _COLUMNS_AT_ONCE), begin + _COLUMNS_AT_ONCE
            of_high = high[:, stripe].T @ high[:, :end]
            products = low[:, stripe].T @ low[:, :end]
            # Karatsuba: high · low + low · high takes one product. All these are whole numbers below 2^53.
            mixed = both[:, stripe].T @ both[:, :end]
            mixed -= of_high
            mixed -= products
            products *= _LOW_UNIT
            products += mixed
            products *= _LOW_UNIT
            products += of_high
            with np.errstate(over="ignore", under="ignore"):
                self._sums[stripe, :end] += np.ldexp(products, exponents[stripe, None] + exponents[:end])


def _split(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Split (n, hidden_size) finite float64 into (high + low · 2^−21) · 2^exponent, but for what is below.

    Overwrites ``rows``. high and low: (n, hidden_size) whole numbers, at most 2^20; exponents: (hidden_size,) int32.
    """
    largest = np.maximum(rows.max(axis=0, initial=0), -rows.min(axis=0, initial=0))
    exponents = np.maximum(np.frexp(largest)[1], _LEAST_EXPONENT) - _BITS
    rows *= np.ldexp(1.0, -exponents)
    high = np.rint(rows)
    rows -= high
    rows *= 1 / _LOW_UNIT
    return high, np.rint(rows, out=rows), exponents


def eigenvalues_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(hidden_size,) float64: the eigenvalues of a covariance, ascending, as ``numpy.linalg.eigvalsh`` gives them; all
    NaN if the covariance has a NaN or an infinity.

    LAPACK computes them: their last bits depend on its build, on the processor and on the number of threads.
    """
    if not np.isfinite(covariance).all():
        return np.full(len(covariance), np.nan)
    return np.linalg.eigvalsh(covariance).astype(np.float64, copy=False)
