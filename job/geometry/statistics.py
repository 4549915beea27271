"""The statistics of a survey: of norms and of the populations of black holes."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from job.geometry.black_holes import BlackHoles


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
            median=float(np.median(values)),
            max=float(values.max()),
        )


def describe_black_holes(holes: BlackHoles) -> dict[str, object]:
    """The number of holes and of rows in them, statistics of their populations, and ``distribution``: population →
    number of holes that have it."""
    sizes, counts = np.unique(holes.populations, return_counts=True)
    summary = summarise(holes.populations.astype(np.float64))
    return {
        **counts_of(holes),
        "share_of_rows": holes.n_tokens / len(holes.ids),
        "largest": int(holes.populations[0]) if holes.n_holes else 0,
        "smallest": int(holes.populations[-1]) if holes.n_holes else 0,
        "mean_population": summary.mean if summary else None,
        "median_population": summary.median if summary else None,
        "distribution": {str(size): int(count) for size, count in zip(sizes[::-1], counts[::-1], strict=True)},
    }


def counts_of(holes: BlackHoles) -> dict[str, int]:
    """The counts, by the names that keep them apart."""
    return {
        "unique_rows": holes.unique_rows,
        "duplicate_rows": holes.duplicate_rows,
        "black_holes": holes.n_holes,
        "black_hole_tokens": holes.n_tokens,
    }


def describe_norms(norms: NDArray[np.float64]) -> dict[str, float] | None:
    """(n,) float64 → the fields of their Summary; None if there are no norms."""
    summary = summarise(norms)
    return asdict(summary) if summary else None


def describe_centroid(mu: NDArray[np.float32]) -> dict[str, float]:
    """The norm of mu, and the Summary of its components."""
    values = mu.astype(np.float64)
    return {"norm": float(np.sqrt(np.square(values).sum())), **(describe_norms(values) or {})}
