"""Columns of tokens as the process of the tokenizer writes them, for tables of tests; and the holes of a real model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_ipc

from job.tokens.classes import CLASSES
from job.tokens.table import RowNumbers
from tests.real_models.test_published_figures import planted_groups

FIGURES = json.loads((Path(__file__).parent / "data" / "published_figures.json").read_text())
QWEN3_4B = FIGURES["Qwen/Qwen3-4B-Instruct-2507"]
STRING, BOOL = DataType.string(), DataType.bool()
SCHEMA = Schema(
    [
        Field("piece", STRING),
        Field("text", STRING),
        Field("bytes", DataType.binary()),
        Field("class", DataType.dictionary(DataType.int8(), STRING), nullable=False),
        *(
            Field(f"is_{name}", BOOL, nullable=False)
            for name in ("special", "reserved", "byte", "partial_utf8", "added")
        ),
        Field("round_trips", BOOL),
        Field("reachable", BOOL),
        Field("script", DataType.dictionary(DataType.int16(), STRING)),
    ]
)


@dataclass(frozen=True)
class Row:
    """What the columns say of one row."""

    piece: str | None = None
    kind: str = "ordinary"
    is_reserved: bool = False
    round_trips: bool | None = True
    reachable: bool | None = True


BEYOND = Row(None, "beyond_tokenizer", round_trips=None, reachable=None)


def write_columns(path: Path, rows: Sequence[Row], batch_rows: int = 16_384) -> Path:
    """An Arrow IPC file of these rows."""
    # One dictionary serves all batches, as an IPC file has to have it.
    kinds, scripts = (
        RecordBatch.from_arrays([Array([*names, None], STRING).cast(SCHEMA.field(column).type)], names=["_"])
        for column, names in (("class", CLASSES), ("script", ("Latin",)))
    )

    def batch(part: Sequence[Row]) -> RecordBatch:
        texts = [row.piece for row in part]
        kind_ids = np.array([CLASSES.index(row.kind) for row in part], np.uint64)
        script_ids = np.array([row.piece is None for row in part], np.uint64)
        arrays = [
            Array(texts, STRING),
            Array(texts, STRING),
            Array([None if text is None else text.encode() for text in texts], DataType.binary()),
            kinds.take(Array.from_numpy(kind_ids))["_"],
            Array([row.kind == "special" for row in part], BOOL),
            Array([row.is_reserved for row in part], BOOL),
            Array([row.kind == "byte" for row in part], BOOL),
            Array([row.kind == "partial_utf8" for row in part], BOOL),
            Array([False for _ in part], BOOL),
            Array([row.round_trips for row in part], BOOL),
            Array([row.reachable for row in part], BOOL),
            scripts.take(Array.from_numpy(script_ids))["_"],
        ]
        return RecordBatch.from_arrays(arrays, schema=SCHEMA)

    batches = (batch(rows[first : first + batch_rows]) for first in range(0, len(rows), batch_rows))
    write_ipc(RecordBatchReader.from_batches(SCHEMA, batches), path)
    return path


def numbers_of(n_rows: int, groups: Sequence[Sequence[int]]) -> RowNumbers:
    """Random norms, and these black holes."""
    generator = np.random.default_rng(0)
    holes = np.zeros(n_rows, np.int32)
    for number, group in enumerate(groups, 1):
        holes[list(group)] = number
    norm, gamma_norm = generator.normal(1, 0.1, (2, n_rows)).astype(np.float32)
    return RowNumbers(norm, gamma_norm, holes)


def numbers_of_qwen3_4b() -> RowNumbers:
    """Those of 151,936 rows with the populations and the ids published for Qwen3-4B-Instruct-2507."""
    groups = sorted(planted_groups(QWEN3_4B), key=lambda group: (-len(group), group[0]))
    return numbers_of(QWEN3_4B["n_rows"], groups)
