"""Tables as the library that is asked for, or is installed, has them: pandas, polars or arrow (pyarrow)."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final, Literal, TypeAlias

from black_hole_survey.errors import MissingPackage, NotPublished
from black_hole_survey.tensors import join_limited

TableLibrary = Literal["pandas", "polars", "arrow"]

AnyTable: TypeAlias = Any
"""A pandas or polars DataFrame or a pyarrow Table, as was asked for: no union, for the same reason as ``AnyTensor``."""

NEEDS: Final[dict[TableLibrary, tuple[str, ...]]] = {
    "pandas": ("pandas", "pyarrow"),
    "polars": ("polars",),
    "arrow": ("pyarrow",),
}
"""The packages by which each reads Parquet, the library that is preferred first."""


def installed_library() -> TableLibrary | None:
    """The first library that is installed with all it needs; None if there is none. Imports none of them."""
    return next((library for library, packages in NEEDS.items() if all(map(find_spec, packages))), None)


def read_parquet(
    content: memoryview, columns: Sequence[str] | None, library: TableLibrary | None, where: str
) -> AnyTable:
    """The table in a Parquet file, or only some of its columns. ``where``: its address, for errors.

    Raises:
        NotPublished: the table has no such column.
        MissingPackage: the library is not installed; or, if none is asked for, there is none.
    """
    if isinstance(columns, str):
        raise TypeError(f"{where}: found columns={columns!r}, expected a list of names; for one column: [{columns!r}]")
    wanted = None if columns is None else list(columns)
    match _checked(library or installed_library(), "a table"):
        case "pandas":
            import pandas as pd  # type: ignore[import-untyped]
            import pyarrow.parquet as pq  # type: ignore[import-untyped]

            _check_columns(wanted, pq.ParquetFile(BytesIO(content)).schema_arrow.names, where)
            return pd.read_parquet(BytesIO(content), columns=wanted, engine="pyarrow")
        case "polars":
            import polars as pl

            _check_columns(wanted, list(pl.read_parquet_schema(BytesIO(content))), where)
            return pl.read_parquet(BytesIO(content), columns=wanted)
        case "arrow":
            import pyarrow as pa
            import pyarrow.parquet as pq

            _check_columns(wanted, pq.ParquetFile(pa.BufferReader(content)).schema_arrow.names, where)
            return pq.read_table(pa.BufferReader(content), columns=wanted)


def from_rows(rows: list[Mapping[str, object]], library: TableLibrary | None) -> AnyTable:
    """A table of these rows; the list itself if no library is asked for and none is installed."""
    chosen = library or installed_library()
    if chosen is None:
        return rows
    match _checked(chosen, "a table"):
        case "pandas":
            import pandas as pd

            return pd.DataFrame(rows)
        case "polars":
            import polars as pl

            return pl.DataFrame(rows, infer_schema_length=None)
        case "arrow":
            import pyarrow as pa

            return pa.Table.from_pylist(rows)


def _check_columns(wanted: list[str] | None, names: list[str], where: str) -> None:
    unknown = [name for name in wanted or [] if name not in names]
    if unknown:
        raise NotPublished(
            f"{where}: found no column {join_limited(map(repr, unknown))}, expected some of {', '.join(names)}; "
            "correct the names; a survey by an earlier version of the job may have fewer columns"
        )


def _checked(library: TableLibrary | None, what: str) -> TableLibrary:
    if library is None:
        raise MissingPackage(f"{what}: found no library for it, expected one; pip install pandas pyarrow, or polars")
    if library not in NEEDS:
        raise ValueError(f"{what}: found library {library!r}, expected one of {', '.join(NEEDS)}")
    missing = [package for package in NEEDS[library] if not find_spec(package)]
    if missing:
        packages = " ".join(missing)
        raise MissingPackage(f"{what} as {library}: found no {packages}, expected it; pip install {packages}")
    return library
