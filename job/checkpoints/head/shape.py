"""What a matrix's shape says beside the config: how many rows and columns were meant, and which way it lies."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.head.config import HEAD_WIDTH, N_ROWS, WIDTH, stated_number

MAX_PADDING = 1024
"""Rows beyond the vocabulary up to which a side of the matrix is still taken to be the vocabulary's."""


def lies_by_columns(location: TensorLocation, config: Mapping[str, object]) -> bool:
    """Whether a matrix is stored as hidden_size × vocab_size, told only where the config leaves no other reading."""
    n_rows, width = stated_number(config, N_ROWS), stated_number(config, WIDTH)
    if n_rows is None or width is None or location.strides is not None:
        return False
    first, second = location.shape
    widths = {width[1], *(number for name in HEAD_WIDTH if (number := _number(config, name)))}
    return first in widths and 0 <= second - n_rows[1] < MAX_PADDING and not 0 <= first - n_rows[1] < MAX_PADDING


def transposed(location: TensorLocation) -> TensorLocation:
    """The transpose of a matrix stored row by row: the same bytes, read by columns."""
    first, second = location.shape
    return replace(location, shape=(second, first), strides=(1, second))


def remarks_on_shape(location: TensorLocation, config: Mapping[str, object]) -> Iterator[str]:
    """What is not as the config says: more or fewer rows than tokens, other columns than the hidden state has."""
    rows, columns = location.shape
    stated_rows, stated_width = stated_number(config, N_ROWS), stated_number(config, WIDTH)
    if location.strides == (1, rows):
        yield f"W is stored as {columns:,} × {rows:,}, the vocabulary along its columns; it is published the other way"
    if stated_rows and stated_rows[1] != rows:
        kind = "padded" if rows > stated_rows[1] else "short"
        yield f"W has {rows:,} rows, {CONFIG} sets {stated_rows[0]} to {stated_rows[1]:,}: it is {kind}"
    if stated_width and stated_width[1] != columns:
        same = [name for name in HEAD_WIDTH if _number(config, name) == columns]
        why = f", and {same[0]} to {columns:,}: a projection lies between them" if same else ""
        yield f"W has {columns:,} columns, {CONFIG} sets {stated_width[0]} to {stated_width[1]:,}{why}"


def _number(config: Mapping[str, object], name: str) -> int | None:
    stated = stated_number(config, (name,))
    return stated[1] if stated else None
