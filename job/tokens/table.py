"""tokens.parquet: what each row of W stands for, and what was measured of it.

Some thousand rows are in memory at a time. The columns of the tokens come from the process that reads the tokenizer,
as an Arrow IPC file.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Final

import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_ipc, read_parquet, write_parquet
from numpy.typing import NDArray
from typing_extensions import Buffer

from job.scratch import disk_errors_translated
from job.tokens.classes import CLASSES

ROW_GROUP_ROWS: Final = 4_096
"""Measured by ``python -m benchmarks.tokens`` with Qwen's 151,936 rows, 2,100 of them in holes: ``id`` and ``hole`` of
the holes, with the footer, take 1.8 % of the file's 3.7 MB. With half as many rows in a group it is 3.1 %, of 3.9 MB;
with four times as many 0.6 %, but then each reader of a few rows decompresses more."""
METADATA_KEY: Final = "black_hole_survey"
"""The key of the file's metadata, a JSON object. It is one key, because arro3 writes several in random order."""
_BATCH_ROWS: Final = 16_384
_COMPRESSION: Final = "zstd(3)"
_DIFFERS_BY_ROW: Final = ("id", "piece", "text", "bytes", "norm", "gamma_norm")
"""The columns of which a dictionary would hold each value once. Without one, the file has two thirds of the size."""

_ID: Final = Field("id", DataType.int32(), nullable=False)
_NUMBERS: Final = (
    Field("norm", DataType.float32(), nullable=False),
    Field("gamma_norm", DataType.float32(), nullable=False),
    Field("hole", DataType.int32(), nullable=False),
)


@dataclass(frozen=True)
class RowNumbers:
    """What was measured of each row of W."""

    norm: NDArray[np.float32]
    """(n_rows,) float32: the Euclidean norm of the row."""
    gamma_norm: NDArray[np.float32]
    """(n_rows,) float32: that of the row of γ′."""
    hole: NDArray[np.int32]
    """(n_rows,) int32: the number of its black hole; 0 in none."""


@dataclass(frozen=True)
class TokenFlags:
    """What is said of the token of each row, as far as counts and lists follow from it."""

    classes: NDArray[np.int8]
    """(n_rows,) int8: the class, as its index in ``CLASSES``."""
    is_reserved: NDArray[np.bool_]
    """(n_rows,) bool."""
    round_trips: NDArray[np.int8]
    """(n_rows,) int8: 1 for true, 0 for false, −1 if it cannot be told."""
    reachable: NDArray[np.int8]
    """(n_rows,) int8: likewise."""


def write_table(
    columns: Path | None, numbers: RowNumbers, path: Path, metadata: Mapping[str, str]
) -> TokenFlags | None:
    """Write tokens.parquet to ``path``. The same input gives the same bytes. Returns the flags of the tokens, if any.

    Args:
        columns: the Arrow IPC file with the columns of the tokens, a row for each row of W. None if no token can be
            named; then the table has ``id``, ``norm``, ``gamma_norm`` and ``hole`` alone.
        metadata: the table's origin, for the file's own metadata.

    Raises:
        TransientError: the disk fails.
        ValueError: ``columns`` has more or fewer rows than W.
    """
    batches = read_ipc(columns) if columns else None
    of_tokens = [batches.schema.field(index) for index in range(len(batches.schema))] if batches else []
    schema = Schema([_ID, *of_tokens, *_NUMBERS])
    flags: list[TokenFlags] = []
    tokens = _with_flags(batches, flags) if batches else _no_columns(len(numbers.hole))
    with disk_errors_translated(path):
        file = _ScratchFile(path, "wb")
        with BufferedWriter(file) as buffered:
            write_parquet(
                RecordBatchReader.from_batches(schema, _merged(tokens, numbers, schema)),
                buffered,
                compression=_COMPRESSION,
                column_dictionary_enabled={name: False for name in _DIFFERS_BY_ROW if name in schema.names},
                column_encoding={
                    "id": "delta_binary_packed",
                    "norm": "byte_stream_split",
                    "gamma_norm": "byte_stream_split",
                },
                max_row_group_size=ROW_GROUP_ROWS,
                key_value_metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)},
            )
        if file.error:
            raise file.error
    if not batches:
        return None
    joined = _joined(flags)
    if len(joined.classes) != len(numbers.hole):
        raise ValueError(f"{columns}: found {len(joined.classes):,} rows, expected {len(numbers.hole):,}, as W has")
    return joined


class _ScratchFile(FileIO):
    """A file to write to that keeps its first error, because arro3 panics where writing raises one."""

    error: OSError | None = None

    def write(self, content: Buffer, /) -> int:
        view = memoryview(content)
        if self.error is None:
            try:
                return super().write(view)
            except OSError as error:
                self.error = error
        return len(view)


def read_numbers(table: bytes) -> RowNumbers:
    """What a published tokens.parquet says was measured of each row."""
    parts = [[batch[name].to_numpy() for name in ("norm", "gamma_norm", "hole")] for batch in read_parquet(table)]
    norm, gamma_norm, hole = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return RowNumbers(norm, gamma_norm, hole)


def _no_columns(n_rows: int) -> Iterator[tuple[int, list[Array]]]:
    for first in range(0, n_rows, _BATCH_ROWS):
        yield min(_BATCH_ROWS, n_rows - first), []


def _with_flags(batches: RecordBatchReader, flags: list[TokenFlags]) -> Iterator[tuple[int, list[Array]]]:
    """The number of rows and the columns of each batch, whose flags are appended to ``flags``."""
    for batch in batches:
        flags.append(_flags(batch))
        yield batch.num_rows, batch.columns


def _merged(tokens: Iterator[tuple[int, list[Array]]], numbers: RowNumbers, schema: Schema) -> Iterator[RecordBatch]:
    """The batches of the table. ``tokens``: the number of rows of each, and the columns of their tokens."""
    first = 0
    for n_in_batch, columns in tokens:
        rows = slice(first, first := first + n_in_batch)
        if first > len(numbers.hole):
            return
        ids = np.arange(rows.start, rows.stop, dtype=np.int32)
        measured = (numbers.norm[rows], numbers.gamma_norm[rows], numbers.hole[rows])
        arrays = [Array.from_numpy(ids), *columns, *map(Array.from_numpy, measured)]
        yield RecordBatch.from_arrays(arrays, schema=schema)


def _flags(batch: RecordBatch) -> TokenFlags:
    return TokenFlags(
        np.array([CLASSES.index(name) for name in batch["class"].cast(DataType.utf8()).to_pylist()], np.int8),
        batch["is_reserved"].to_numpy(),
        _three_valued(batch["round_trips"]),
        _three_valued(batch["reachable"]),
    )


def _three_valued(column: Array) -> NDArray[np.int8]:
    """(n,) int8: 1 for true, 0 for false, −1 for null."""
    return np.array([-1 if value is None else value for value in column.to_pylist()], np.int8)


def _joined(parts: list[TokenFlags]) -> TokenFlags:
    return TokenFlags(
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.is_reserved for part in parts]),
        np.concatenate([part.round_trips for part in parts]),
        np.concatenate([part.reachable for part in parts]),
    )
