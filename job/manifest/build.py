"""Builds a manifest from the results of a survey. Pure, except that it reads the current time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from job import __version__
from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.tie import NamedTensor
from job.checkpoints.head.unembedding import Unembedding
from job.manifest.schema import (
    SCHEMA_VERSION,
    ActivitySeconds,
    ArtifactEntry,
    BlackHole,
    Comparison,
    EmbeddingEntry,
    Manifest,
    ResultsOfW,
    TokenCounts,
    TokenizerEntry,
)
from job.manifest.warnings import collect_warnings
from job.store.artifacts import Artifact

if TYPE_CHECKING:
    from job.tokens.naming import TokenNames
    from job.tokens.publish import TokenSummary


def name_rows(black_holes: Sequence[BlackHole], names: "TokenNames") -> list[BlackHole]:
    """The black holes with the names of their tokens."""
    tokens = names.of(token["id"] for hole in black_holes for token in hole["tokens"])
    return [
        {
            **hole,
            "tokens": [
                {"id": token.id, "piece": token.piece, "text": token.text}
                for token in (tokens[token["id"]] for token in hole["tokens"])
            ],
        }
        for hole in black_holes
    ]


def build_manifest(
    checkpoint: Checkpoint,
    unembedding: Unembedding,
    results: ResultsOfW,
    names: "TokenNames",
    *,
    token_counts: TokenCounts | None,
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
    manifest: Manifest = {
        "schema_version": SCHEMA_VERSION,
        "model": checkpoint.repo_id,
        "source": checkpoint.source,
        "revision": checkpoint.revision,
        "commit": checkpoint.commit,
        "hub_dates": {"created_at": checkpoint.created_at, "last_modified": checkpoint.last_modified}
        if checkpoint.created_at or checkpoint.last_modified
        else None,
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
        "token_counts": token_counts,
        "checkpoint": {"nbytes": checkpoint.nbytes, "bytes_fetched": bytes_fetched},
        "warnings": collect_warnings(note, checkpoint, unembedding, results["statistics"], tokenizer),
        "tool": {"name": "black-hole-survey", "version": __version__},
        "seconds": seconds,
        "activity_seconds": activity_seconds,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sequence": sequence,
        "previous": previous,
    }
    if checkpoint.revisions:
        manifest["revisions"] = list(checkpoint.revisions)
    return manifest


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


def token_counts_entry(summary: "TokenSummary") -> TokenCounts:
    """The manifest's entry for what was published of the tokens."""
    return {"classes": summary.classes, "dead_tokens": summary.dead_tokens, "valid_ids": summary.valid_ids}


def _tokenizer(names: "TokenNames", n_rows: int) -> TokenizerEntry:
    if names.tokenizer is None:
        return {"files": names.files, "unusable": names.unusable}
    return {
        "files": names.files,
        "kind": names.tokenizer.kind,
        "n_tokens": names.tokenizer.n_tokens,
        "n_ids": names.tokenizer.n_ids,
        "rows_beyond": max(0, n_rows - names.tokenizer.n_ids),
    }
