"""surveys.parquet: the rows of all surveys, from which an update learns what need not be read again.

arro3 may end the process at a damaged file. So the file states its own SHA-256, and is parsed only if that holds.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from io import BytesIO
from itertools import accumulate
from typing import TYPE_CHECKING, Final, get_type_hints

from job import __version__
from job.catalogue.row import SurveyRow

if TYPE_CHECKING:
    from arro3.core import Array

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
METADATA_KEY: Final = "black_hole_survey"
"""The key of the file's metadata, a JSON object."""
_ROW_GROUP_ROWS: Final = 10_000
_UNKNOWN: Final = "0" * 64
_DIGEST: Final = re.compile(rb'"file_sha256": "([0-9a-f]{64})"')
_MAX_FOOTER: Final = 1_000_000


@dataclass(frozen=True)
class Rows:
    """The surveys of an OUTPUT."""

    rows: tuple[SurveyRow, ...] = ()
    ignored: Mapping[str, str | None] = field(default_factory=dict)
    """What is named like a manifest and is none: the keys with the marks of the listing."""


def rows_as_parquet(rows: Rows) -> bytes:
    """The content of surveys.parquet. The same rows give the same bytes."""
    from arro3.core import Field, RecordBatch, Schema
    from arro3.io import write_parquet

    hints = get_type_hints(SurveyRow)
    arrays = [_array([getattr(row, name) for row in rows.rows], hints[name]) for name in _names()]
    schema = Schema([Field(name, array.type, nullable=True) for name, array in zip(_names(), arrays, strict=True)])
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "ignored": dict(sorted(rows.ignored.items())),
        "file_sha256": _UNKNOWN,
    }
    file = BytesIO()
    write_parquet(
        RecordBatch.from_arrays(arrays, schema=schema),
        file,
        compression="zstd(3)",
        max_row_group_size=_ROW_GROUP_ROWS,
        key_value_metadata={METADATA_KEY: json.dumps(metadata)},
    )
    content = file.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    before, _, after = content.rpartition(_UNKNOWN.encode())
    return before + digest + after


def rows_of_parquet(content: bytes, where: str) -> Rows | None:
    """The rows of a surveys.parquet; None if this version of the job has not written it, or if it is damaged."""
    found = list(_DIGEST.finditer(content, max(0, len(content) - _MAX_FOOTER)))
    if not found:
        logger.warning("%s: not a table of this job, or damaged; it is made anew from the manifests", where)
        return None
    begin, end = found[-1].span(1)
    digest = hashlib.sha256(content[:begin])
    digest.update(_UNKNOWN.encode())
    digest.update(content[end:])
    if digest.hexdigest().encode() != found[-1][1]:
        logger.warning("%s: its content differs from its SHA-256; it is made anew from the manifests", where)
        return None
    return _parsed(content, where)


def _parsed(content: bytes, where: str) -> Rows | None:
    from arro3.io import read_parquet

    reader = read_parquet(content)
    metadata = json.loads((reader.schema.metadata or {})[METADATA_KEY.encode()])
    is_of_this_version = (metadata["schema_version"], metadata["version"]) == (SCHEMA_VERSION, __version__)
    if not is_of_this_version or reader.schema.names != _names():
        logger.info("%s: written by version %s; it is made anew from the manifests", where, metadata["version"])
        return None
    rows: list[SurveyRow] = []
    for batch in reader:
        columns = {name: batch[name].to_pylist() for name in _names()}
        for number in range(batch.num_rows):
            values = {name: column[number] for name, column in columns.items()}
            lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
            rows.append(SurveyRow(**values | lists))
    return Rows(tuple(rows), metadata["ignored"])


def _names() -> Sequence[str]:
    return [each.name for each in fields(SurveyRow)]


def _array(values: Sequence[object], hint: object) -> "Array":
    """The Arrow array of a column."""
    from arro3.core import Array, DataType, list_array

    kinds: Mapping[object, DataType] = {
        **dict.fromkeys((str, str | None), DataType.utf8()),
        **dict.fromkeys((int, int | None), DataType.int64()),
        **dict.fromkeys((float, float | None), DataType.float64()),
        **dict.fromkeys((bool, bool | None), DataType.bool()),
    }
    if hint in kinds:
        return Array(values, kinds[hint])
    lists = [value for value in values if isinstance(value, tuple)]
    offsets = Array([0, *accumulate(map(len, lists))], DataType.int32())
    items = Array(
        [item for value in lists for item in value], DataType.utf8() if hint == tuple[str, ...] else DataType.int64()
    )
    return list_array(offsets, items)
