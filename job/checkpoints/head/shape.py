"""Which way a matrix lies in its file: row by row, or column by column."""

from collections.abc import Mapping
from dataclasses import replace

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.unpickler import CONVERT_ADVICE
from job.checkpoints.head.config import (
    EMBEDDING_SIZE_NAMES,
    HIDDEN_SIZE_NAMES,
    MAX_PADDING,
    VOCAB_SIZE_NAMES,
    stated_number,
    stated_numbers,
)
from job.errors import UnsupportedCheckpoint


def rows_first(location: TensorLocation, config: Mapping[str, object], where: str) -> TensorLocation:
    """A matrix with the vocabulary along its rows, in a layout whose rows can be put together.

    Raises:
        UnsupportedCheckpoint: it is a view in which numbers of the file occur more than once. The rows that are put
            together would not be bounded by the file.
    """
    if location.strides is not None and _may_overlap(location.shape, location.strides):
        raise UnsupportedCheckpoint(
            f"{where}: found a view of shape {list(location.shape)} and strides {list(location.strides)}, in which rows"
            f" or columns overlap, expected each number stored once; {CONVERT_ADVICE}"
        )
    return transposed(location) if is_column_major(location, config) else location


def _may_overlap(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether an index of one dimension may reach into what the next index of another begins."""
    n_spanned = 1
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1):
        if stride < n_spanned:
            return True
        n_spanned += (size - 1) * stride
    return False


def is_smaller_than_stated(location: TensorLocation, config: Mapping[str, object]) -> bool:
    """Whether a matrix has fewer rows or columns than the config says, as a slice of it has."""
    stated = stated_number(config, VOCAB_SIZE_NAMES), stated_number(config, HIDDEN_SIZE_NAMES)
    return any(number is not None and side < number[1] for side, number in zip(location.shape, stated, strict=True))


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
