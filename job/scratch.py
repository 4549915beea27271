"""W on this machine's disk, to be read again: a copy made while W arrives, or the local checkpoint's own file."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from job.errors import TransientError
from job.geometry.rows import Block


@dataclass(frozen=True)
class RowFile:
    """Rows of ``row_nbytes`` bytes, one after another from byte ``begin`` of a file. Read without mapping it, so that
    memory does not grow with what has been read."""

    path: Path
    begin: int
    n_rows: int
    row_nbytes: int

    def read(self, ids: NDArray[np.int64]) -> Block:
        """The rows with these ids: (n,) int64 → (n, row_nbytes) uint8."""
        rows = np.empty((len(ids), self.row_nbytes), np.uint8)
        with self.path.open("rb", buffering=0) as file:
            for row, row_id in zip(rows, ids, strict=True):
                self._read_into(file, row, int(row_id))
        return rows

    def read_blocks(self, ids: NDArray[np.int64], block_nbytes: int) -> Iterator[Block]:
        """The rows with these ids, about ``block_nbytes`` at a time."""
        rows_per_block = max(1, block_nbytes // self.row_nbytes)
        for first in range(0, len(ids), rows_per_block):
            yield self.read(ids[first : first + rows_per_block])

    def blocks(self, block_nbytes: int) -> Iterator[Block]:
        """All rows in order, about ``block_nbytes`` at a time."""
        rows_per_block = max(1, block_nbytes // self.row_nbytes)
        with self.path.open("rb", buffering=0) as file:
            for first in range(0, self.n_rows, rows_per_block):
                block = np.empty((min(rows_per_block, self.n_rows - first), self.row_nbytes), np.uint8)
                self._read_into(file, block.reshape(-1), first)
                yield block

    def _read_into(self, file: FileIO, buffer: NDArray[np.uint8], first_row: int) -> None:
        view, offset = buffer.data, self.begin + first_row * self.row_nbytes
        while len(view):
            n_read = os.preadv(file.fileno(), [view], offset)
            if not n_read:
                raise TransientError(
                    f"{self.path}: ends at byte {offset}, more was expected; it changed while it was read"
                )
            view, offset = view[n_read:], offset + n_read


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder of one's own below ``parent``, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="black-hole-survey-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_copy(rows: RowFile) -> Iterator[Callable[[bytes], None]]:
    """A function that appends bytes to the file of ``rows``.

    Raises:
        TransientError: the scratch disk is full.
    """
    try:
        with rows.path.open("wb", buffering=0) as file:
            yield partial(_write_all, file)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TransientError(
            f"scratch folder {rows.path.parent}: is full, {rows.n_rows * rows.row_nbytes:,} bytes are needed "
            "for a copy of W; make room or set SCRATCH to a larger disk"
        ) from error


def _write_all(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
