"""Columns of data on a page: arrays and texts as inert, compressed tags, which ``columns.js`` reads."""

import base64
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from job.report.text import escape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.float32 | np.uint8 | np.uint16 | np.int32]

ColumnType: TypeAlias = Literal["f32", "u8", "u16", "i32", "text"]
_TYPES: Final[dict[str, ColumnType]] = {"<f4": "f32", "|u1": "u8", "<u2": "u16", "<i4": "i32"}
MAX_TEXT: Final = 200
"""The characters of a text that are shown."""
_LEVEL: Final = 6


@dataclass(frozen=True)
class Column:
    """A column as it lies on a page."""

    type: ColumnType
    length: int
    """The number of values."""
    content: str
    """The values in little-endian order, or texts in UTF-8 with U+0000 between two, deflated, as base64."""


def number_column(values: "Numbers") -> Column:
    """The column of a (n,) array of float32, uint8, uint16 or int32.

    Raises:
        KeyError: the array is of another type.
    """
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return Column(_TYPES[little.dtype.str], len(values), _packed(little.tobytes()))


def list_column(type: Literal["f32", "i32"], values: Sequence[float]) -> Column:
    """The column of some numbers, without numpy, which a page that shows few need not import."""
    packed = array({"f32": "f", "i32": "i"}[type], values)
    if sys.byteorder == "big":
        packed.byteswap()
    return Column(type, len(packed), _packed(packed.tobytes()))


def text_column(texts: Sequence[str]) -> Column:
    """The column of these texts as they are shown: escaped, and long ones cut. None of them is told from ``""``."""
    return Column("text", len(texts), _packed("\0".join(shown_texts(texts)).encode()))


def shown_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts as a page shows them."""
    return (text if len(text) <= MAX_TEXT and text.isprintable() else shown_text(text) for text in texts)


def shown_text(text: str, limit: int = MAX_TEXT) -> str:
    """The text with escapes in place of what does not print as itself, cut after ``limit`` characters."""
    rest = len(text) - limit
    return escape(text[:limit]) + (f" … and {rest:,} more characters" if rest > 0 else "")


def _packed(content: bytes) -> str:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(deflate.compress(content) + deflate.flush()).decode("ascii")
