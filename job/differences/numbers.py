"""How the centroids and the norms of two surveys differ. Pure."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.differences.ids import Ids

QUANTILES: Final = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MAX_BINS: Final = 61


@dataclass(frozen=True)
class CentroidShift:
    """How far a centroid moved. What is not finite cannot be told: NaN."""

    shift: float
    """The norm of the difference."""
    angle_degrees: float
    """Between the two; NaN if one of them is zero."""
    norm_a: float
    norm_b: float


def centroid_shift(mu_a: NDArray[np.float32], mu_b: NDArray[np.float32]) -> CentroidShift:
    """How far the centroid moved from A to B, both (hidden_size,)."""
    a, b = mu_a.astype(np.float64), mu_b.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        unit_a, unit_b = a / norm_a, b / norm_b
        # The arc cosine would lose half of the digits of a small angle (W. Kahan, How Futile are Mindless Assessments
        # of Roundoff in Floating-Point Computation?, section 12).
        angle = 2 * math.atan2(float(np.linalg.norm(unit_a - unit_b)), float(np.linalg.norm(unit_a + unit_b)))
        return CentroidShift(float(np.linalg.norm(b - a)), math.degrees(angle), norm_a, norm_b)


@dataclass(frozen=True)
class NormChanges:
    """How the norms of mapped rows changed from A to B."""

    n_changed: int
    """Rows whose norm is another number."""
    n_not_finite: int
    """Rows of which one of the two norms is no finite number, so that there is no change to tell."""
    quantiles: tuple[float, ...] | None
    """Of the change, at ``QUANTILES``; None if there is no row to tell of."""
    mean: float | None
    rms: float | None
    """The root of the mean of the squared changes."""
    edges: tuple[float, ...]
    """Of the bins of a histogram of the changes; empty if no norm changed."""
    counts: tuple[int, ...]
    most: Ids
    """Which of the rows changed most, the most first; those that did not change are not among them."""


def compare_norms(a: NDArray[np.float32], b: NDArray[np.float32], n_most: int) -> NormChanges:
    """How the norms changed, row by row: both (n,)."""
    finite = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    change = b[finite].astype(np.float64) - a[finite]
    n_not_finite = len(a) - len(finite)
    if not len(change):
        return NormChanges(0, n_not_finite, None, None, None, (), (), np.empty(0, np.int64))
    size = np.abs(change)
    n_changed = int((size > 0).sum())
    candidates = np.argpartition(-size, min(n_most, len(size) - 1))[: n_most + 1] if n_most < len(size) else None
    # Of rows that changed as much, the first ones; argpartition alone would leave that to chance.
    least = 0.0 if candidates is None else float(size[candidates].min())
    considered = np.flatnonzero((size >= least) & (size > 0))
    most = considered[np.lexsort((considered, -size[considered]))][:n_most]
    counts, edges = np.histogram(change, _bins(change)) if n_changed else (np.empty(0, int), np.empty(0))
    return NormChanges(
        n_changed,
        n_not_finite,
        tuple(np.quantile(change, QUANTILES).tolist()),
        float(change.mean()),
        float(np.sqrt(np.mean(np.square(change)))),
        tuple(edges.tolist()),
        tuple(counts.tolist()),
        finite[most],
    )


def _bins(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """The edges of at most ``MAX_BINS`` bins as wide as each other, of which the middle one has 0 in its middle."""
    reach = float(np.abs(change).max())
    return np.linspace(-reach, reach, MAX_BINS + 1) if math.isfinite(reach) and reach > 0 else np.array([-1.0, 1.0])
