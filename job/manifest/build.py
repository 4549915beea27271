"""Builds a manifest from the results of a survey. Pure, except that it reads the current time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from job import __version__
from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.tie import NamedTensor
from job.checkpoints.head.unembedding import Unembedding
from job.geometry.statistics import distribution, summarise
from job.manifest.schema import (
    SCHEMA_VERSION,
    ActivitySeconds,
    ArtifactEntry,
    BlackHole,
    CentroidSummary,
    Comparison,
    Counts,
    EmbeddingEntry,
    Manifest,
    Norms,
    ResultsOfW,
    Statistics,
    TokenizerEntry,
)
from job.manifest.warnings import collect_warnings
from job.store.artifacts import Artifact
from job.tokens.naming import TokenNames

if TYPE_CHECKING:  # only a survey that measures W needs them
    from job.geometry.black_holes import BlackHoles
    from job.geometry.measure import Measurement


MAX_LISTED_HOLES: Final = 5_000
MAX_LISTED_TOKENS: Final = 20_000
"""What a manifest lists, so that it stays readable and its making takes little memory. Real models have some thousands
of tokens in holes; ``black_hole_id`` of black_holes.safetensors has all of them, whatever their number."""


def build_statistics(
    measurement: "Measurement", holes: "BlackHoles", by_value: "BlackHoles", gamma_norms: NDArray[np.float64]
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
    }


def _counts(holes: "BlackHoles") -> Counts:
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


def list_black_holes(measurement: "Measurement", holes: "BlackHoles") -> list[BlackHole]:
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


def name_rows(black_holes: Sequence[BlackHole], names: TokenNames) -> list[BlackHole]:
    """The black holes with the names of their tokens."""
    return [
        {
            **hole,
            "tokens": [
                {"id": token.id, "piece": token.piece, "text": token.text}
                for token in (names.tokens[token["id"]] for token in hole["tokens"])
            ],
        }
        for hole in black_holes
    ]


def build_manifest(
    checkpoint: Checkpoint,
    unembedding: Unembedding,
    results: ResultsOfW,
    names: TokenNames,
    *,
    chosen_by_user: bool,
    note: str | None,
    page: str,
    sequence: int,
    previous: Comparison | None,
    bytes_fetched: int,
    seconds: dict[str, float],
    activity_seconds: ActivitySeconds,
) -> Manifest:
    """The manifest of a survey. ``note``: the list's note on the model. ``page``: the key of its page."""
    location = unembedding.location
    tokenizer = _tokenizer(names, location.shape[0])
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
            "chosen_by_user": chosen_by_user,
            "tied": unembedding.tied,
            "tie": unembedding.tie,
            "tie_evidence": unembedding.tie_evidence,
            "embedding": embedding_entry(checkpoint, unembedding.copy.embedding) if unembedding.copy else None,
            "dtype": location.dtype,
            "shape": list(location.shape),
            "strides": list(location.strides) if location.strides else None,
            "nbytes": location.nbytes,
            "file": location.file,
            "begin": location.begin,
            "end": location.end,
            "content_id": checkpoint.files[location.file].content_id,
            "content_id_from": checkpoint.files[location.file].id_from,
        },
        "w_sha256": results["w_sha256"],
        "statistics": results["statistics"],
        "black_holes": name_rows(results["black_holes"], names),
        "artifacts": results["artifacts"],
        "pages": {"report": page},
        "tokenizer": tokenizer,
        "checkpoint": {"nbytes": checkpoint.nbytes, "bytes_fetched": bytes_fetched},
        "warnings": collect_warnings(note, checkpoint, unembedding, results["statistics"], tokenizer),
        "tool": {"name": "black-hole-survey", "version": __version__},
        "seconds": seconds,
        "activity_seconds": activity_seconds,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sequence": sequence,
        "previous": previous,
    }


def embedding_entry(checkpoint: Checkpoint, embedding: NamedTensor) -> EmbeddingEntry:
    """The manifest's entry for an input embedding that is compared with all of W."""
    location = embedding.location
    return {
        "name": embedding.name,
        "file": location.file,
        "begin": location.begin,
        "end": location.end,
        "content_id": checkpoint.files[location.file].content_id,
    }


def artifact_entry(artifact: Artifact) -> ArtifactEntry:
    """The manifest's entry for a published object."""
    return {"key": artifact.key, "size": artifact.size, "sha256": artifact.sha256}


def _tokenizer(names: TokenNames, n_rows: int) -> TokenizerEntry:
    if names.tokenizer is None:
        return {"files": names.files, "unusable": names.unusable}
    return {
        "files": names.files,
        "kind": names.tokenizer.kind,
        "n_tokens": names.tokenizer.n_tokens,
        "n_ids": names.tokenizer.n_ids,
        "rows_beyond": max(0, n_rows - names.tokenizer.n_ids),
    }
