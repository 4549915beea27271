"""Which way a matrix lies in its file: row by row, or column by column."""

from collections.abc import Mapping
from dataclasses import replace

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.head.config import (
    EMBEDDING_SIZE_NAMES,
    HIDDEN_SIZE_NAMES,
    MAX_PADDING,
    VOCAB_SIZE_NAMES,
    stated_number,
    stated_numbers,
)


def is_column_major(location: TensorLocation, config: Mapping[str, object]) -> bool:
    """Whether a matrix is stored as hidden_size × vocab_size. True only if the config allows no other reading."""
    n_rows, width = stated_number(config, VOCAB_SIZE_NAMES), stated_number(config, HIDDEN_SIZE_NAMES)
    if n_rows is None or width is None or location.strides is not None:
        return False
    first, second = location.shape
    widths = {width[1], *stated_numbers(config, EMBEDDING_SIZE_NAMES).values()}
    return first in widths and 0 <= second - n_rows[1] < MAX_PADDING and not 0 <= first - n_rows[1] < MAX_PADDING


def transposed(location: TensorLocation) -> TensorLocation:
    """The transpose of a matrix that is stored row by row: the same bytes, with other strides."""
    first, second = location.shape
    return replace(location, shape=(second, first), strides=(1, second))
