"""The fields of a manifest that follow from what was measured of W's rows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.geometry.black_holes import BlackHoles
from job.geometry.measure import Measurement
from job.geometry.projection import Projection
from job.geometry.statistics import distribution, summarise
from job.manifest.schema import BlackHole, CentroidSummary, Counts, ExplainedVariance, Norms, Statistics

MAX_LISTED_HOLES: Final = 5_000
MAX_LISTED_TOKENS: Final = 20_000
"""What a manifest lists, so that it stays readable and its making takes little memory. Real models have some thousands
of tokens in holes; ``black_hole_id`` of black_holes.safetensors has all of them, whatever their number."""


def build_statistics(
    measurement: Measurement,
    holes: BlackHoles,
    by_value: BlackHoles,
    gamma_norms: NDArray[np.float64],
    projection: Projection | None,
) -> Statistics:
    """The manifest's statistics. ``gamma_norms``: (n_rows,) float64, the norms of γ′'s rows."""
    populations = summarise(holes.populations.astype(np.float64))
    return {
        **_counts(holes),
        "share_of_rows": holes.n_tokens / len(holes.ids),
        "largest": int(holes.populations[0]) if holes.n_holes else 0,
        "smallest": int(holes.populations[-1]) if holes.n_holes else 0,
        "mean_population": populations.mean if populations else None,
        "median_population": populations.median if populations else None,
        "distribution": {str(size): count for size, count in distribution(holes.populations).items()},
        "by_value": {"agrees": bool(np.array_equal(holes.ids, by_value.ids)), **_counts(by_value)},
        "rows_with_negative_zero": int(measurement.has_negative_zero.sum()),
        "rows_with_nan": int(measurement.has_nan.sum()),
        "rows_with_infinity": int(measurement.has_infinity.sum()),
        "mu": _centroid(measurement.mu),
        "row_norm": _norms(measurement.norms),
        "black_hole_row_norm": _norms(measurement.norms[holes.ids > 0]),
        "gamma_centered_norm": _norms(gamma_norms),
        "gamma_centered_norm_of_first_rows": gamma_norms[:10].tolist(),
        "projection": _explained(projection.explained_variance, gamma_norms) if projection else None,
    }


def _explained(variance: NDArray[np.float64], gamma_norms: NDArray[np.float64]) -> ExplainedVariance:
    """What (3,) float64 variances are, and what part of the variance of all rows of γ′."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        total = np.square(gamma_norms).sum() / len(gamma_norms)
        shares = variance / total if total else np.zeros_like(variance)
    return {"explained_variance": variance.tolist(), "share_of_variance": shares.tolist()}


def _counts(holes: BlackHoles) -> Counts:
    return {
        "unique_rows": holes.unique_rows,
        "duplicate_rows": holes.duplicate_rows,
        "black_holes": holes.n_holes,
        "black_hole_tokens": holes.n_tokens,
    }


def _norms(values: NDArray[np.float64]) -> Norms | None:
    """A summary of (n,) float64; None if there are no numbers."""
    summary = summarise(values)
    if summary is None:
        return None
    return {
        "mean": summary.mean,
        "std": summary.std,
        "min": summary.min,
        "median": summary.median,
        "max": summary.max,
    }


def _centroid(mu: NDArray[np.float32]) -> CentroidSummary:
    """The norm of mu, (hidden_size,) float32, and a summary of its components."""
    values = mu.astype(np.float64)
    components = _norms(values)
    if components is None:
        raise ValueError("mu has no components")
    return {"norm": float(np.sqrt(np.square(values).sum())), **components}


def list_black_holes(measurement: Measurement, holes: BlackHoles) -> list[BlackHole]:
    """The largest black holes with their first rows, as many as a manifest lists. The tokens have no names yet."""
    populations = holes.populations[:MAX_LISTED_HOLES]
    most = max(2, _equal_share(populations, MAX_LISTED_TOKENS))
    return [
        {
            "id": number,
            "population": len(members),
            "row_norm": float(measurement.norms[members[0]]),
            "tokens": [{"id": int(row), "piece": None, "text": None} for row in members[:most]],
        }
        for number, members in enumerate(holes.members(MAX_LISTED_HOLES), 1)
    ]


def _equal_share(populations: NDArray[np.int64], total: int) -> int:
    """How many tokens each hole may list, so that all holes list at most ``total``; small holes list all of theirs."""
    if populations.sum() <= total:
        return int(populations.max(initial=0))
    left, n_left = total, len(populations)
    for population in populations[::-1].tolist():  # the smallest first
        if population > left // n_left:
            break
        left, n_left = left - population, n_left - 1
    return left // n_left
