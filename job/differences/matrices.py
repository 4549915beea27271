"""Whether W is the same, or which of its rows, and how far the centroid moved."""

import math
from typing import Final, Literal

import numpy as np

from job.differences.ids import IdMap
from job.differences.numbers import centroid_shift
from job.differences.published_data import PublishedSurvey, lacking
from job.differences.schema import CentroidDifference, WDifference

RowsOfW = Literal["compare rows", "skip rows"]
"""Whether the rows of W are compared one by one, for which both are read, if the two are not the same."""

_SKIPPED_ROWS: Final = "which rows of W are the same: both would have to be read for that; the verb compare does"


def compare_w(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap | None, rows_of_w: RowsOfW, untold: list[str]
) -> WDifference:
    sha256 = [a.manifest["w_sha256"], b.manifest["w_sha256"]]
    tensors = a.manifest["tensor"], b.manifest["tensor"]
    is_same = sha256[0] == sha256[1] and tensors[0]["shape"] == tensors[1]["shape"]
    is_same = is_same and tensors[0]["dtype"] == tensors[1]["dtype"]
    found: WDifference = {"same": is_same, "sha256": sha256, "same_rows": None, "compared_rows": None}
    if ids is None:
        return found
    if is_same and ids.by == "id":
        return {**found, "same_rows": len(ids.a), "compared_rows": len(ids.a)}
    reason = _why_no_rows(a, b, rows_of_w)
    if reason:
        untold.append(reason)
        return found
    digests_a, digests_b = a.row_digests(), b.row_digests()
    same_rows = int((digests_a[ids.a] == digests_b[ids.b]).sum())
    return {**found, "same_rows": same_rows, "compared_rows": len(ids.a)}


def _why_no_rows(a: PublishedSurvey, b: PublishedSurvey, rows_of_w: RowsOfW) -> str | None:
    """Why rows of W are not compared one by one; None if they can be."""
    dtypes, shapes = ([survey.manifest["tensor"][name] for survey in (a, b)] for name in ("dtype", "shape"))
    if dtypes[0] != dtypes[1]:
        return f"which rows of W are the same: A has {dtypes[0]}, B has {dtypes[1]}"
    if shapes[0][1:] != shapes[1][1:]:
        return f"which rows of W are the same: A has rows of {shapes[0][1]:,} columns, B of {shapes[1][1]:,}"
    if unpublished := lacking("W", a, b):
        return f"which rows of W are the same: {unpublished}"
    return _SKIPPED_ROWS if rows_of_w == "skip rows" else None


def compare_centroids(a: PublishedSurvey, b: PublishedSurvey, untold: list[str]) -> CentroidDifference | None:
    columns = [survey.manifest["tensor"]["shape"][1] for survey in (a, b)]
    if columns[0] != columns[1]:
        untold.append(f"how far the centroid moved: the hidden sizes are {columns[0]:,} and {columns[1]:,}")
        return None
    mu_a, mu_b = a.tensor("mu", "mu"), b.tensor("mu", "mu")
    if mu_a is None or mu_b is None:
        untold.append(f"how far the centroid moved: {lacking('mu', a, b)}")
        return None
    found = centroid_shift(mu_a.astype(np.float32), mu_b.astype(np.float32))
    if not math.isfinite(found.shift):
        norms = {"A": found.norm_a, "B": found.norm_b}
        names = " and ".join(name for name, norm in norms.items() if not math.isfinite(norm))
        untold.append(f"how far the centroid moved: mu of {names} holds a NaN or an infinity")
        return None
    return {
        "shift": found.shift,
        "angle_degrees": _finite(found.angle_degrees),
        "norms": [_finite(found.norm_a), _finite(found.norm_b)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
