"""Publishes what the rows of W stand for: tokens.parquet, dead_tokens.json and valid_ids.safetensors."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.errors import TransientError
from job.scratch import disk_errors_translated
from job.store.artifacts import Artifact, ArtifactFolder
from job.store.safetensors_file import StoredTensor
from job.store.store import Store
from job.tokens.dead_tokens import class_counts, dead_tokens, dead_tokens_json, valid_ids
from job.tokens.naming import TokenNames
from job.tokens.table import RowNumbers, read_numbers, write_table

_CHUNK_NBYTES: Final = 4 << 20


@dataclass(frozen=True)
class TokenSummary:
    """How many rows there are of each kind."""

    classes: dict[str, int] | None
    """By class; None without a tokenizer."""
    dead_tokens: dict[str, int | None]
    """How many ids each list of dead_tokens.json holds; None where the list is null."""
    valid_ids: int | None
    """The rows that valid_ids marks; None without a tokenizer."""


def publish_tokens(
    output: ArtifactFolder, names: TokenNames, numbers: RowNumbers, workspace: Path
) -> tuple[dict[str, Artifact], TokenSummary]:
    """Publish the table of the tokens and what follows from it. Returns the artifacts by name, and their counts.

    Without a tokenizer nobody knows which ids are valid, so ``valid_ids`` is not published.

    Raises:
        TransientError, ConfigError: the store or the disk fails.
    """
    path, n_rows = workspace / "tokens.parquet", len(numbers.hole)
    flags = write_table(names.columns, numbers, path, output.metadata)
    with disk_errors_translated(path):
        nbytes = path.stat().st_size
    artifacts = output.publish_content("tokens", _chunks(path), nbytes)
    lists = dead_tokens(numbers, flags)
    provenance: dict[str, str | int | None] = {
        "model": output.metadata["model"],
        "commit": output.metadata["commit"],
        "n_rows": n_rows,
        "n_tokens": names.tokenizer.n_tokens if names.tokenizer else None,
        "w_sha256": output.metadata["w_sha256"],
    }
    content = dead_tokens_json(lists, provenance)
    artifacts |= output.publish_content("dead_tokens", [content], len(content))
    valid = valid_ids(flags) if flags else None
    if valid is not None:
        artifacts |= output.publish("valid_ids", {StoredTensor("valid_ids", "BOOL", (n_rows,)): [valid.tobytes()]})
    return artifacts, TokenSummary(
        class_counts(flags) if flags else None,
        {name: None if rows is None else len(rows) for name, rows in lists.items()},
        None if valid is None else int(valid.sum()),
    )


def published_numbers(store: Store, table: Artifact) -> RowNumbers:
    """What was measured of each row of W, as a published tokens.parquet has it.

    Raises:
        TransientError: the table is not there as its manifest has it, or the store fails.
    """
    content = store.read(table.key) or b""
    if hashlib.sha256(content).hexdigest() != table.sha256:
        raise TransientError(
            f"{store.url(table.key)}: found other bytes than were published, expected the SHA-256 {table.sha256}; the "
            "norms of rows are taken from it: check the store, and remove the file if it is damaged"
        )
    return read_numbers(content)


def _chunks(path: Path) -> Iterator[bytes]:
    with disk_errors_translated(path), path.open("rb") as file:
        while chunk := file.read(_CHUNK_NBYTES):
            yield chunk
