"""What a page shows of each row: columns of numbers and texts, read from a published tokens.parquet."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from arro3.core import Array, RecordBatch

_BATCH_ROWS: Final = 16_384


@dataclass(frozen=True)
class NamedCodes:
    """A column of few different texts."""

    codes: NDArray[np.uint8]
    """(n_rows,) uint8: indices of ``names``; ``len(names)`` stands for none."""
    names: tuple[str, ...]


@dataclass(frozen=True)
class TokenTexts:
    """What the tokenizer says of each row."""

    texts: list[str]
    """The tokens; empty beyond the tokenizer. Those that are no text have escapes for their bytes."""
    classes: NamedCodes
    scripts: NamedCodes
    round_trips: NDArray[np.uint8]
    """(n_rows,) uint8: 1 for true, 0 for false, 2 if it cannot be told."""
    reachable: NDArray[np.uint8]
    """(n_rows,) uint8: likewise."""


@dataclass(frozen=True)
class RowTable:
    """tokens.parquet, as far as the page shows it."""

    norm: NDArray[np.float32]
    gamma_norm: NDArray[np.float32]
    hole: NDArray[np.int32]
    tokens: TokenTexts | None
    """None without a tokenizer."""


def read_rows(table: bytes) -> RowTable:
    """What tokens.parquet says of each row.

    Raises:
        ValueError: a column is missing.
    """
    from arro3.io import read_parquet

    reader = read_parquet(table, batch_size=_BATCH_ROWS)
    names = set(reader.schema.names)
    if missing := {"norm", "gamma_norm", "hole"} - names:
        raise ValueError(f"tokens.parquet: has no column {', '.join(sorted(missing))}")
    numbers: dict[str, list[NDArray[np.generic]]] = {"norm": [], "gamma_norm": [], "hole": []}
    texts: list[str] = []
    flags: dict[str, list[NDArray[np.uint8]]] = {"round_trips": [], "reachable": []}
    codes = {"class": _CodeBuilder(), "script": _CodeBuilder()}
    has_tokens = {"text", "bytes", "class", "script", "round_trips", "reachable"} <= names
    for batch in reader:
        for name, parts in numbers.items():
            parts.append(batch[name].to_numpy())
        if has_tokens:
            texts.extend(_texts(batch))
            for name, column in flags.items():
                column.append(_three_valued(batch[name]))
            for name, builder in codes.items():
                builder.add(batch[name])
    norm, gamma_norm, hole = (np.concatenate(parts) for parts in numbers.values())
    tokens = None
    if has_tokens:
        round_trips, reachable = (np.concatenate(column) for column in flags.values())
        tokens = TokenTexts(texts, codes["class"].built(), codes["script"].built(), round_trips, reachable)
    return RowTable(norm.astype(np.float32), gamma_norm.astype(np.float32), hole.astype(np.int32), tokens)


class _CodeBuilder:
    """Puts the batches of a dictionary column together, whose dictionaries may differ."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._parts: list[NDArray[np.int64]] = []

    def add(self, column: "Array") -> None:
        from arro3.core import dictionary_dictionary, dictionary_indices

        dictionary = dictionary_dictionary(column).to_pylist()
        lookup = [-1 if name is None else self._names.setdefault(name, len(self._names)) for name in dictionary]
        indices = [-1 if index is None else index for index in dictionary_indices(column).to_pylist()]
        self._parts.append(np.array([*lookup, -1])[indices])

    def built(self) -> NamedCodes:
        codes, names = np.concatenate(self._parts), tuple(self._names)
        if len(names) > np.iinfo(np.uint8).max:
            raise ValueError(f"tokens.parquet: a column has {len(names)} different names, expected fewer than 256")
        return NamedCodes(np.where(codes < 0, len(names), codes).astype(np.uint8), names)


def _texts(batch: "RecordBatch") -> list[str]:
    texts: list[str] = [text or "" for text in batch["text"].to_pylist()]
    for index in [index for index, text in enumerate(texts) if "\ufffd" in text]:
        exact = batch["bytes"][index].as_py()
        if exact is not None:
            texts[index] = bytes(exact).decode("utf-8", "backslashreplace")
    return texts


def _three_valued(column: "Array") -> NDArray[np.uint8]:
    return np.array([2 if value is None else value for value in column.to_pylist()], np.uint8)
