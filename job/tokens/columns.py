"""Writes what each row of W stands for as columns of an Arrow IPC file, and reads rows of it.

Imports the Arrow library where it is used.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from job.tokens.classes import CLASSES
from job.tokens.descriptions import Descriptions
from job.tokens.tokenizer import Token

if TYPE_CHECKING:
    from arro3.core import RecordBatch, Schema

N_ROWS_OF_BATCH: Final = 16_384
FLAGS: Final = ("is_special", "is_reserved", "is_byte", "is_partial_utf8", "is_added")
_T = TypeVar("_T")


def write_token_columns(
    descriptions: Descriptions,
    round_trips: Sequence[bool | None],
    reachable: Sequence[bool | None],
    n_rows: int,
    path: Path,
) -> None:
    """Write ``n_rows`` rows: piece, text, bytes, class, the flags, round_trips, reachable, script. Those beyond the ids
    of the tokenizer are null but for the class and the flags.

    Args:
        round_trips: by id, as ``reachable`` is.
    """
    from arro3.core import RecordBatchReader
    from arro3.io import write_ipc

    schema = _schema()
    values: dict[str, Sequence[object]] = {
        "piece": _padded(descriptions.pieces, n_rows),
        "text": _padded(descriptions.texts, n_rows),
        "bytes": _padded(descriptions.token_bytes, n_rows),
        "round_trips": _padded(round_trips, n_rows),
        "reachable": _padded(reachable, n_rows),
    }
    scripts = np.full(n_rows, -1, np.int16)
    of_ids = descriptions.script_index[:n_rows]
    scripts[: len(of_ids)] = of_ids
    arrays: dict[str, NDArray[np.int8 | np.int16 | np.bool_]] = {
        "class": descriptions.classes.class_index,
        "script": scripts,
    }
    arrays |= {flag: getattr(descriptions.classes, flag) for flag in FLAGS}
    names = {"class": CLASSES, "script": descriptions.script_names}
    batches = _batches(schema, values, arrays, names, n_rows)
    write_ipc(RecordBatchReader.from_batches(schema, batches), path)


def read_tokens(path: Path, rows: Collection[int]) -> Iterator[Token]:
    """The tokens of these rows, which are all different, in ascending order."""
    from arro3.core import Array
    from arro3.io import read_ipc

    wanted, begin = np.array(sorted(rows), np.int64), 0
    for batch in read_ipc(path):
        here = wanted[(wanted >= begin) & (wanted < begin + batch.num_rows)]
        some = batch.select(["piece", "text"]).take(Array.from_numpy((here - begin).astype(np.uint64)))
        for n, row in enumerate(here.tolist()):
            yield Token(row, some["piece"][n].as_py(), some["text"][n].as_py())
        begin += batch.num_rows


def _schema() -> "Schema":
    from arro3.core import DataType, Field, Schema

    string, boolean = DataType.string(), DataType.bool()
    return Schema(
        [
            Field("piece", string),
            Field("text", string),
            Field("bytes", DataType.binary()),
            Field("class", DataType.dictionary(DataType.int8(), string), nullable=False),
            *(Field(flag, boolean, nullable=False) for flag in FLAGS),
            Field("round_trips", boolean),
            Field("reachable", boolean),
            Field("script", DataType.dictionary(DataType.int16(), string)),
        ]
    )


def _batches(
    schema: "Schema",
    values: Mapping[str, Sequence[object]],
    arrays: Mapping[str, NDArray[np.int8 | np.int16 | np.bool_]],
    names: Mapping[str, Sequence[str]],
    n_rows: int,
) -> Iterator["RecordBatch"]:
    """Batches of rows.

    Args:
        values: columns, each with ``n_rows`` values or None.
        arrays: columns without null, each (n_rows,); of indices where the column has ``names``.
        names: what an index stands for, by column; −1 stands for null.
    """
    from arro3.core import Array, DataType, RecordBatch

    # One dictionary for all batches, as an IPC file has to have it; null is its last value, at −1.
    dictionaries = {
        column: RecordBatch.from_arrays(
            [Array([*known, None], DataType.string()).cast(schema.field(column).type)],
            names=[column],
        )
        for column, known in names.items()
    }

    def column(name: str, begin: int, end: int) -> Array:
        if name in values:
            return Array(values[name][begin:end], schema.field(name).type)
        some = arrays[name][begin:end]
        if name not in names:
            return Array.from_numpy(some)
        indices = np.where(some < 0, len(names[name]), some).astype(np.uint64)
        return dictionaries[name].take(Array.from_numpy(indices))[name]

    for begin in range(0, n_rows, N_ROWS_OF_BATCH):
        end = min(begin + N_ROWS_OF_BATCH, n_rows)
        yield RecordBatch.from_arrays([column(name, begin, end) for name in schema.names], schema=schema)


def _padded(values: Sequence[_T | None], n_rows: int) -> list[_T | None]:
    """The values of the first ``n_rows`` ids; None where there are no ids."""
    return [*values[:n_rows], *[None] * (n_rows - len(values))]
