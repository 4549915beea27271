"""What was learnt of a model, as the fields of its manifest."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job import __version__
from job.checkpoints.checkpoint import Checkpoint
from job.geometry.black_holes import BlackHoles
from job.geometry.measure import Measurement
from job.geometry.statistics import counts_of, describe_black_holes, describe_centroid, describe_norms
from job.manifest.filing import SCHEMA_VERSION, Manifest
from job.subject import Subject
from job.tying import describe_embedding


def describe_statistics(
    measurement: Measurement, holes: BlackHoles, by_value: BlackHoles, gamma_norms: NDArray[np.float64]
) -> dict[str, object]:
    """Every number of a survey. ``gamma_norms``: (n_rows,) float64, the norms of γ′'s rows."""
    return {
        **describe_black_holes(holes),
        "by_value": {"agrees": bool(np.array_equal(holes.ids, by_value.ids)), **counts_of(by_value)},
        "rows_with_negative_zero": int(measurement.has_negative_zero.sum()),
        "rows_with_nan": int(measurement.has_nan.sum()),
        "rows_with_infinity": int(measurement.has_infinity.sum()),
        "mu": describe_centroid(measurement.mu),
        "row_norm": describe_norms(measurement.norms),
        "black_hole_row_norm": describe_norms(measurement.norms[holes.ids > 0]),
        "gamma_centered_norm": describe_norms(gamma_norms),
        "gamma_centered_norm_of_first_rows": gamma_norms[:10].tolist(),
    }


def list_black_holes(measurement: Measurement, holes: BlackHoles) -> list[dict[str, Any]]:
    """Each hole with its rows, whose tokens are not named yet."""
    return [
        {
            "id": number,
            "population": len(members),
            "row_norm": float(measurement.norms[members[0]]),
            "tokens": [{"id": int(row), "piece": None, "text": None} for row in members],
        }
        for number, members in enumerate(holes.members(), 1)
    ]


def describe(subject: Subject, measured: dict[str, Any], tokenizer: dict[str, object], bytes_fetched: int) -> Manifest:
    """The manifest, but for the report's artifact. ``measured``: what follows from W's bytes alone."""
    checkpoint, unembedding = subject.checkpoint, subject.unembedding
    location = unembedding.location
    return {
        "schema_version": SCHEMA_VERSION,
        "model": checkpoint.repo_id,
        "source": checkpoint.source,
        "revision": checkpoint.revision,
        "commit": checkpoint.commit,
        "followed_from": list(checkpoint.followed_from),
        "tensor": {
            "name": unembedding.name,
            "reason": unembedding.reason,
            "chosen_by_user": subject.ref.tensor is not None or subject.ref.file is not None,
            "tied": unembedding.tied,
            "tie": unembedding.tie,
            "tie_evidence": unembedding.tie_evidence,
            "embedding": describe_embedding(checkpoint, unembedding.copy.embedding) if unembedding.copy else None,
            "dtype": location.dtype,
            "shape": list(location.shape),
            "strides": list(location.strides) if location.strides else None,
            "nbytes": location.nbytes,
            "file": location.file,
            "begin": location.begin,
            "end": location.end,
            "content_id": checkpoint.files[location.file].content_id,
        },
        **measured,
        "tokenizer": tokenizer,
        "checkpoint": {"nbytes": checkpoint.nbytes, "bytes_fetched": bytes_fetched},
        "warnings": [
            *filter(None, [subject.ref.note]),
            *_followed(checkpoint),
            *unembedding.warnings,
            *_warnings(measured["statistics"], tokenizer, one_to_one=subject.encoding.one_to_one),
        ],
        "tool": {"name": "black-hole-survey", "version": __version__},
        "seconds": dict(subject.clock.stages),
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _followed(checkpoint: Checkpoint) -> list[str]:
    if not checkpoint.followed_from:
        return []
    asked = checkpoint.followed_from[0]
    return [f"surveyed as the model that the adapter {asked} adapts; what the adapter changes is not in it"]


def _warnings(statistics: dict[str, Any], tokenizer: dict[str, object], *, one_to_one: bool) -> list[str]:
    """What a reader of the numbers should know before trusting them."""
    found = []
    if odd := statistics["rows_with_nan"] + statistics["rows_with_infinity"]:
        found.append(f"{odd:,} rows hold a NaN or an infinity; mu and the norms suffer from it")
    norm = statistics["mu"]["norm"]
    if not odd and (norm is None or not math.isfinite(norm)):
        found.append("W's numbers exceed what float32 can hold; mu and gamma_centered suffer from it")
    if not statistics["by_value"]["agrees"]:
        found.append(
            "black holes are groups of rows with the same bits; by value, as torch.unique compares, other rows group "
            f"({statistics['by_value']['unique_rows']:,} unique rows in place of {statistics['unique_rows']:,}): "
            f"{statistics['rows_with_negative_zero']:,} rows hold a −0 and {statistics['rows_with_nan']:,} a NaN"
            f"{'' if one_to_one else ', and rows of different bytes may stand for the same numbers'}"
        )
    if "unusable" in tokenizer:
        found.append(f"the tokens of the black holes are not named: {tokenizer['unusable']}")
    return found
