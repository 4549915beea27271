"""Collects the warnings of a survey: what a reader of its results should know.

The warnings about the choice of W come from ``job.checkpoints.head.warnings``, because a plan shows them too.
"""

import math
from collections.abc import Iterator

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.unembedding import Unembedding
from job.manifest.schema import Statistics, TokenizerEntry


def collect_warnings(
    note: str | None,
    checkpoint: Checkpoint,
    unembedding: Unembedding,
    statistics: Statistics,
    tokenizer: TokenizerEntry,
) -> list[str]:
    """All warnings: first that W can hardly be right, then about the model, W, the numbers, the tokens. ``note``: the
    list's note on the model."""
    return [
        *_alike_warnings(statistics, unembedding.location.shape[0]),
        *filter(None, [note]),
        *_adapter_warnings(checkpoint),
        *unembedding.warnings,
        *_number_warnings(statistics, is_quantised=unembedding.location.dtype not in FLOAT_DTYPES),
        *_tokenizer_warnings(tokenizer),
    ]


def _adapter_warnings(checkpoint: Checkpoint) -> Iterator[str]:
    if checkpoint.followed_from:
        adapter = checkpoint.followed_from[0]
        yield f"this is the base model of the adapter {adapter}; the adapter's own changes are not surveyed"


def _alike_warnings(statistics: Statistics, n_rows: int) -> Iterator[str]:
    """Warn if most rows are the same, as where a file was given its size but not its content."""
    norms, largest = statistics["row_norm"], statistics["largest"]
    cause = "the checkpoint may be an unfinished download, or its weights were never loaded"
    if norms and norms["max"] == 0:
        yield f"all {n_rows:,} rows are zeros: {cause}"
    elif largest == n_rows:
        yield f"all {n_rows:,} rows are bit-for-bit the same: {cause}"
    elif largest > n_rows / 2:
        yield f"{largest:,} of {n_rows:,} rows, more than half, are bit-for-bit the same: {cause}"


def _number_warnings(statistics: Statistics, *, is_quantised: bool) -> Iterator[str]:
    n_not_finite = statistics["rows_with_nan"] + statistics["rows_with_infinity"]
    if n_not_finite:
        yield (
            f"{n_not_finite:,} rows hold a NaN or an infinity; so mu, some norms and what follows from them are NaN or "
            "infinite too"
        )
    norm = statistics["mu"]["norm"]
    if not n_not_finite and (norm is None or not math.isfinite(norm)):
        yield "W's numbers are too large for float32; mu and gamma_centered may hold infinities or NaNs"
    by_value = statistics["by_value"]
    if not by_value["agrees"]:
        yield (
            "black holes are groups of rows with equal bits; comparing by value, as torch.unique does, gives other "
            f"groups ({by_value['unique_rows']:,} unique rows instead of {statistics['unique_rows']:,}): "
            f"{statistics['rows_with_negative_zero']:,} rows hold a −0 and {statistics['rows_with_nan']:,} a NaN"
            f"{', and rows with different bytes may stand for the same numbers' if is_quantised else ''}"
        )


def _tokenizer_warnings(tokenizer: TokenizerEntry) -> Iterator[str]:
    if "unusable" in tokenizer:
        yield f"the tokens of the black holes have no names: {tokenizer['unusable']}"
