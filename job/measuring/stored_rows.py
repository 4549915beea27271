"""W's rows on the local disk, which are read a second time, and rows of a matrix that is not stored row by row."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from job.errors import TransientError
from job.scratch import disk_errors_translated, scratch_copy
from job.store.store import Chunk

if TYPE_CHECKING:
    from job.geometry.rows import Block

_STRIPE_NBYTES: Final = 16 << 20
"""The bytes of rows that are made from columns at a time. A larger value needs fewer reads."""
_LINE_NBYTES: Final = 1 << 20
"""The bytes that are read at a time of a row or column whose items do not lie side by side."""


@dataclass(frozen=True)
class RowFile:
    """Rows of ``row_nbytes`` bytes, one after another from byte ``begin`` of a file.

    The file is not memory-mapped, because memory would grow with each row that is read.
    """

    path: Path
    begin: int
    n_rows: int
    row_nbytes: int

    def read(self, ids: NDArray[np.int64]) -> "Block":
        """The rows with these ids: (n,) int64 → (n, row_nbytes) uint8."""
        rows = np.empty((len(ids), self.row_nbytes), np.uint8)
        with _open(self.path) as file:
            for row, row_id in zip(rows, ids, strict=True):
                self._read_into(file, row, int(row_id))
        return rows

    def read_run(self, ids: range) -> "Block":
        """Rows that lie one after another: (n, row_nbytes) uint8."""
        rows = np.empty((len(ids), self.row_nbytes), np.uint8)
        with _open(self.path) as file:
            self._read_into(file, rows.reshape(-1), ids.start)
        return rows

    def blocks(self, block_nbytes: int) -> Iterator["Block"]:
        """All rows in order, about ``block_nbytes`` at a time."""
        rows_per_block = max(1, block_nbytes // self.row_nbytes)
        with _open(self.path) as file:
            for first in range(0, self.n_rows, rows_per_block):
                block = np.empty((min(rows_per_block, self.n_rows - first), self.row_nbytes), np.uint8)
                self._read_into(file, block.reshape(-1), first)
                yield block

    def _read_into(self, file: FileIO, buffer: NDArray[np.uint8], first_row: int) -> None:
        _read_exactly(file, buffer, self.begin + first_row * self.row_nbytes)


def to_row_major(
    chunks: Iterable[Chunk], scratch: Path, shape: tuple[int, ...], strides: tuple[int, ...], item_nbytes: int
) -> Iterator[Chunk]:
    """The bytes of a matrix in row order, from ``chunks`` of its stored bytes. These are first copied to the disk.

    ``shape``: (n_rows, hidden_size). ``strides``: items from row to row and from column to column. Rows or columns are
    read one by one: whichever have their items closer together.

    Raises:
        TransientError: the disk fails, or the copy changed before all rows were read.
    """
    (n_rows, hidden_size), (row_stride, column_stride) = shape, strides
    stored_copy, written = scratch / "stored", hashlib.sha256()
    with scratch_copy(stored_copy) as append:
        for chunk in chunks:
            append(chunk)
            written.update(chunk)
    rows_per_stripe = max(1, _STRIPE_NBYTES // (hidden_size * item_nbytes))
    with _open(stored_copy) as file:
        for first in range(0, n_rows, rows_per_stripe):
            stripe = np.empty((min(rows_per_stripe, n_rows - first), hidden_size, item_nbytes), np.uint8)
            begin = first * row_stride * item_nbytes
            if column_stride <= row_stride:
                for index, row in enumerate(stripe):
                    _read_line(file, row, begin + index * row_stride * item_nbytes, column_stride)
            else:
                for index in range(hidden_size):
                    _read_line(file, stripe[:, index], begin + index * column_stride * item_nbytes, row_stride)
            yield stripe.reshape(-1).data
        _check_copy(file, written.digest())
    stored_copy.unlink()


def _check_copy(file: FileIO, sha256: bytes) -> None:
    """Check that a copy still holds the bytes that were written to it. Rows are made from parts of many columns, so
    they have no digest of their own to compare with."""
    with disk_errors_translated(str(file.name)):
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").digest()
    if found != sha256:
        raise TransientError(
            f"{file.name}: found other bytes than were written, expected the same; the copy of W on disk changed: run "
            "again, and check the disk and memory"
        )


def _read_line(file: FileIO, line: NDArray[np.uint8], offset: int, stride: int) -> None:
    """Read a row or column, (n_items, item_nbytes) uint8, whose items lie ``stride`` items apart."""
    if stride == 1 and line.flags.c_contiguous:
        _read_exactly(file, line.reshape(-1), offset)
        return
    n_items, item_nbytes = line.shape
    items_at_once = max(1, _LINE_NBYTES // (max(1, stride) * item_nbytes))
    for first in range(0, n_items, items_at_once):
        piece = line[first : first + items_at_once]
        span = np.empty(((len(piece) - 1) * stride + 1) * item_nbytes, np.uint8)
        _read_exactly(file, span, offset + first * stride * item_nbytes)
        piece[:] = as_strided(span, piece.shape, (stride * item_nbytes, 1))


def _open(path: Path) -> FileIO:
    with disk_errors_translated(path):
        return FileIO(path)


def _read_exactly(file: FileIO, buffer: NDArray[np.uint8], offset: int) -> None:
    view = buffer.data
    while len(view):
        with disk_errors_translated(str(file.name)):
            n_read = os.preadv(file.fileno(), [view], offset)
        if not n_read:
            raise TransientError(
                f"{file.name}: ends at byte {offset:,}, expected more bytes; run again when nothing else writes to it"
            )
        view, offset = view[n_read:], offset + n_read
