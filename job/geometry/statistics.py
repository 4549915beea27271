"""The statistics of a survey: of norms and of the populations of black holes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Summary:
    """A summary of some numbers. ``std`` is the sample standard deviation (divided by n − 1), as in ``torch.std``."""

    mean: float
    std: float
    min: float
    median: float
    max: float


def summarise(values: NDArray[np.float64]) -> Summary | None:
    """(n,) float64 → their summary; None if there are no numbers. The std of a single number is 0."""
    if not len(values):
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        return Summary(
            mean=float(values.mean()),
            std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            min=float(values.min()),
            median=_median(values),
            max=float(values.max()),
        )


def _median(values: NDArray[np.float64]) -> float:
    """The median of (n,) float64, or NaN if there is one. As numpy's, which imports its masked arrays for it."""
    below, above, last = (len(values) - 1) // 2, len(values) // 2, len(values) - 1
    ordered = np.partition(values, (below, above, last))  # a NaN goes last
    return float("nan") if np.isnan(ordered[last]) else float(ordered[below : above + 1].mean())


def distribution(populations: NDArray[np.int64]) -> dict[int, int]:
    """(n_holes,) int64 → how many holes have each population, the largest population first."""
    sizes, counts = np.unique(populations, return_counts=True)
    return {int(size): int(count) for size, count in zip(sizes[::-1], counts[::-1], strict=True)}
