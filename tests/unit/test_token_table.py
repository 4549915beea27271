"""tokens.parquet, as the readers of the ecosystem read it, and the files that follow from it."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas  # type: ignore[import-untyped]  # it ships no types
import polars
import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
import pytest

from job.errors import TransientError
from job.tokens.dead_tokens import DEFINITIONS, dead_tokens, dead_tokens_json, valid_ids
from job.tokens.table import METADATA_KEY, RowNumbers, TokenFlags, read_numbers, write_table
from tests.token_tables import BEYOND, Row, numbers_of, numbers_of_qwen3_4b, write_columns

METADATA = {"model": "org/model", "commit": "c0ffee", "tensor": "lm_head.weight", "version": "1", "w_sha256": "ab" * 32}
ROWS = [
    Row("a"),
    Row("<unused0>", "reserved", is_reserved=True, round_trips=None, reachable=None),
    Row("never", round_trips=False, reachable=False),
    Row("half", "partial_utf8", round_trips=False, reachable=True),
    Row("<s>", "special", reachable=None),
    BEYOND,
    Row("nul\0 and ملف =cmd()"),
    Row("<unused1>", "reserved", is_reserved=True, round_trips=True, reachable=True),
]
NUMBERS = numbers_of(len(ROWS), [[1, 5], [2, 3]])
COLUMNS = {
    "id": "int32",
    "piece": "string",
    "text": "string",
    "bytes": "binary",
    "class": "dictionary<values=string, indices=int8, ordered=0>",
    **dict.fromkeys(("is_special", "is_reserved", "is_byte", "is_partial_utf8", "is_added"), "bool"),
    "round_trips": "bool",
    "reachable": "bool",
    "script": "dictionary<values=string, indices=int16, ordered=0>",
    "norm": "float",
    "gamma_norm": "float",
    "hole": "int32",
}


def write(folder: Path, rows: list[Row] = ROWS, numbers: RowNumbers = NUMBERS) -> tuple[Path, TokenFlags | None]:
    path = folder / "tokens.parquet"
    columns = write_columns(folder / "columns.arrow", rows) if rows else None
    return path, write_table(columns, numbers, path, METADATA)


def test_a_table_has_the_columns_of_its_description_and_says_where_it_comes_from(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(write(tmp_path)[0])
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert list(table.schema.names) == list(COLUMNS)
    metadata = pyarrow.parquet.read_metadata(tmp_path / "tokens.parquet").metadata
    assert json.loads(metadata[METADATA_KEY.encode()]) == METADATA
    not_null = {"id", "class", "is_special", "is_reserved", "is_byte", "is_partial_utf8", "is_added"}
    assert {field.name for field in table.schema if not field.nullable} == not_null | {"norm", "gamma_norm", "hole"}


def test_pandas_polars_pyarrow_and_duckdb_read_the_same_rows(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    expected = {
        "id": list(range(len(ROWS))),
        "piece": [row.piece for row in ROWS],
        "bytes": [None if row.piece is None else row.piece.encode() for row in ROWS],
        "class": [row.kind for row in ROWS],
        "is_reserved": [row.is_reserved for row in ROWS],
        "reachable": [row.reachable for row in ROWS],
        "script": [None if row.piece is None else "Latin" for row in ROWS],
        "norm": NUMBERS.norm.tolist(),
        "gamma_norm": NUMBERS.gamma_norm.tolist(),
        "hole": NUMBERS.hole.tolist(),
    }
    assert pyarrow.parquet.read_table(path).select(list(expected)).to_pydict() == expected
    assert polars.read_parquet(path).select(list(expected)).to_dict(as_series=False) == expected
    frame = pandas.read_parquet(path)[list(expected)].astype(object)
    assert frame.where(frame.notna(), None).to_dict("list") == expected
    names = ", ".join(f'"{name}"' for name in expected)
    rows = duckdb.connect().execute(f"SELECT {names} FROM '{path}' ORDER BY id").fetchall()  # noqa: S608 - the test's own names
    assert [list(column) for column in zip(*rows, strict=True)] == list(expected.values())


def test_without_a_tokenizer_a_table_has_only_what_was_measured(tmp_path: Path) -> None:
    path, flags = write(tmp_path, rows=[])
    table = pyarrow.parquet.read_table(path)
    assert table.schema.names == ["id", "norm", "gamma_norm", "hole"]
    assert table["hole"].to_pylist() == NUMBERS.hole.tolist()
    assert flags is None


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    numbers, rows = numbers_of(20_000, [[7, 19_000]]), [Row(f"token {number}") for number in range(20_000)]
    write_table(write_columns(tmp_path / "one", rows), numbers, tmp_path / "1", METADATA)
    write_table(write_columns(tmp_path / "two", rows), numbers, tmp_path / "2", dict(reversed(METADATA.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("n_rows", [len(ROWS) - 1, len(ROWS) + 1])
def test_columns_of_another_number_of_rows_are_no_table(n_rows: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"rows.*expected {n_rows}"):
        write(tmp_path, numbers=numbers_of(n_rows, []))


def test_a_full_disk_is_an_error_that_a_retry_may_mend() -> None:
    with pytest.raises(TransientError, match="/dev/full: No space left on device"):
        write_table(None, numbers_of(400_000, []), Path("/dev/full"), METADATA)


def test_what_was_measured_is_read_from_a_table_bit_for_bit(tmp_path: Path) -> None:
    numbers = numbers_of(40_000, [[1, 39_999]])
    numbers.norm[3], numbers.gamma_norm[4] = np.inf, np.nan
    write_table(None, numbers, tmp_path / "table", METADATA)
    read = read_numbers((tmp_path / "table").read_bytes())
    assert read.norm.tobytes() == numbers.norm.tobytes()
    assert read.gamma_norm.tobytes() == numbers.gamma_norm.tobytes()
    assert np.array_equal(read.hole, numbers.hole)


def test_only_the_holes_take_a_few_percent_of_the_file(tmp_path: Path) -> None:
    numbers = numbers_of_qwen3_4b()
    rows = [Row(f"{number * 2_654_435_761 % 2**32:x}") for number in range(len(numbers.hole))]
    path, _ = write(tmp_path, rows, numbers)
    size = path.stat().st_size
    with path.open("rb") as file:
        footer = pyarrow.parquet.ParquetFile(file).metadata
    columns = [footer.schema.names.index(name) for name in ("id", "hole")]
    read = footer.serialized_size
    for group in map(footer.row_group, range(footer.num_row_groups)):
        if group.column(columns[1]).statistics.max > 0:
            read += sum(group.column(column).total_compressed_size for column in columns)
    assert read < 0.03 * size
    assert len(polars.scan_parquet(path).filter(polars.col("hole") > 0).collect()) == 2_100


def test_dead_tokens_are_listed_by_what_is_known_of_them(tmp_path: Path) -> None:
    _, flags = write(tmp_path)
    lists = dead_tokens(NUMBERS, flags)
    assert {name: None if ids is None else ids.tolist() for name, ids in lists.items()} == {
        "in_black_hole": [1, 2, 3, 5],
        "unreachable": [2],
        "not_round_tripping": [2, 3],
        "beyond_tokenizer": [5],
        "reserved": [1, 7],
        "reserved_in_black_hole": [1],
    }
    assert flags is not None
    assert np.flatnonzero(valid_ids(flags)).tolist() == [0, 3, 4, 6]
    provenance: dict[str, str | int | None] = {
        "model": "org/model",
        "commit": "c0ffee",
        "n_rows": 8,
        "n_tokens": 7,
        "w_sha256": "ab",
    }
    document = json.loads(dead_tokens_json(lists, provenance))
    assert list(document) == ["schema_version", *provenance, "ids", "definitions"]
    assert document["definitions"].keys() == document["ids"].keys() == DEFINITIONS.keys()
    assert document["ids"]["unreachable"] == [2]


def test_what_cannot_be_told_of_any_token_is_null_and_not_an_empty_list(tmp_path: Path) -> None:
    assert {name for name, ids in dead_tokens(NUMBERS, None).items() if ids is not None} == {"in_black_hole"}
    _, flags = write(tmp_path, [Row("a", round_trips=None, reachable=None)] * len(ROWS))
    unknown = {name for name, ids in dead_tokens(NUMBERS, flags).items() if ids is None}
    assert unknown == {"unreachable", "not_round_tripping"}
