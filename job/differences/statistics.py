"""The numbers of two manifests, side by side. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from job.differences.schema import Number, Statistic
from job.manifest.schema import Manifest, Norms

_NORM_FIELDS: Final = ("mean", "std", "min", "median", "max")


def side_by_side(a: Manifest, b: Manifest) -> list[Statistic]:
    """Each number that manifests state of a survey, of both."""
    return [{"name": name, "a": number(a), "b": number(b)} for name, number in _NUMBERS.items()]


def _norm(summary: str, field: str) -> Callable[[Manifest], Number]:
    def number(manifest: Manifest) -> Number:
        norms: Norms | None = manifest["statistics"][summary]  # type: ignore[literal-required]
        return norms[field] if norms else None  # type: ignore[literal-required]

    return number


_NUMBERS: Final[Mapping[str, Callable[[Manifest], Number]]] = {
    "rows": lambda manifest: manifest["tensor"]["shape"][0],
    "columns": lambda manifest: manifest["tensor"]["shape"][1],
    "dtype": lambda manifest: manifest["tensor"]["dtype"],
    "tie": lambda manifest: manifest["tensor"].get("tie"),
    "unique rows": lambda manifest: manifest["statistics"]["unique_rows"],
    "duplicate rows": lambda manifest: manifest["statistics"]["duplicate_rows"],
    "black holes": lambda manifest: manifest["statistics"]["black_holes"],
    "black-hole tokens": lambda manifest: manifest["statistics"]["black_hole_tokens"],
    "largest population": lambda manifest: manifest["statistics"]["largest"],
    "smallest population": lambda manifest: manifest["statistics"]["smallest"],
    "tokens": lambda manifest: manifest["tokenizer"].get("n_tokens"),
    "rows beyond the tokenizer": lambda manifest: manifest["tokenizer"].get("rows_beyond"),
    "norm of mu": lambda manifest: manifest["statistics"]["mu"]["norm"],
    **{f"norm of rows, {field}": _norm("row_norm", field) for field in _NORM_FIELDS},
    **{f"norm of centred rows, {field}": _norm("gamma_centered_norm", field) for field in _NORM_FIELDS},
    **{f"norm of rows in holes, {field}": _norm("black_hole_row_norm", field) for field in ("min", "median", "max")},
}
