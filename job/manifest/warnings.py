"""Every warning of a survey, gathered: what a reader should know before trusting its numbers.

Those about the choice of W come from ``job.checkpoints.head.warnings``; a plan shows them too.
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
    """All warnings, in the order in which a reader meets their subjects. ``note``: what the list says of the model."""
    return [
        *filter(None, [note]),
        *_adapter(checkpoint),
        *unembedding.warnings,
        *_numbers(statistics, is_quantised=unembedding.location.dtype not in FLOAT_DTYPES),
        *_tokens(tokenizer),
    ]


def _adapter(checkpoint: Checkpoint) -> Iterator[str]:
    if checkpoint.followed_from:
        asked = checkpoint.followed_from[0]
        yield f"surveyed as the model that the adapter {asked} adapts; what the adapter changes is not in it"


def _numbers(statistics: Statistics, *, is_quantised: bool) -> Iterator[str]:
    odd = statistics["rows_with_nan"] + statistics["rows_with_infinity"]
    if odd:
        yield f"{odd:,} rows hold a NaN or an infinity; mu and the norms suffer from it"
    norm = statistics["mu"]["norm"]
    if not odd and (norm is None or not math.isfinite(norm)):
        yield "W's numbers exceed what float32 can hold; mu and gamma_centered suffer from it"
    if not statistics["by_value"]["agrees"]:
        yield (
            "black holes are groups of rows with the same bits; by value, as torch.unique compares, other rows group "
            f"({statistics['by_value']['unique_rows']:,} unique rows in place of {statistics['unique_rows']:,}): "
            f"{statistics['rows_with_negative_zero']:,} rows hold a −0 and {statistics['rows_with_nan']:,} a NaN"
            f"{', and rows of different bytes may stand for the same numbers' if is_quantised else ''}"
        )


def _tokens(tokenizer: TokenizerEntry) -> Iterator[str]:
    if "unusable" in tokenizer:
        yield f"the tokens of the black holes are not named: {tokenizer['unusable']}"
