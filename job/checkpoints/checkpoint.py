"""The reading contract: what every source (the Hub, a folder, S3) gives, and nothing about how it gets it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from job.checkpoints.transport.parallel import stream_range
from job.errors import CorruptCheckpoint

CHUNK_NBYTES: Final = 8 << 20
"""A request's worth of bytes: large enough that a round trip of 100 ms costs little, small enough to hold several."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkpoint: its size in bytes and an id that changes only when its bytes do."""

    size: int
    content_id: str


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor lies: its numbers are within bytes ``begin`` to ``end`` (half-open) of ``file``, little-endian."""

    file: str
    begin: int
    end: int
    dtype: str
    """By safetensors' name: ``F64``, ``F32``, ``F16``, ``BF16``, …; by ggml's where rows are quantised: ``Q8_0``, …"""
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    """Items from one index to the next, in each dimension; None: row after row, without gaps."""

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint pinned to one commit. Nothing has been read from its files yet."""

    repo_id: str
    """Where its survey is filed: ``org/name``, or ``local/<folder name>`` for a checkpoint that is not on the Hub."""
    revision: str | None
    """The revision as asked; None where none was."""
    commit: str
    """The Hub's commit, or an id derived from the files' own identity."""
    source: str
    """For people: the address it is read from."""
    files: Mapping[str, StoredFile]
    """Every file by its name relative to the checkpoint's root, with forward slashes."""
    fetch: Callable[[str, int, int], bytes]
    """``fetch(file, begin, end)``: exactly those bytes, or a SurveyError. Threads may call it at once."""
    local_paths: Mapping[str, Path] = field(default_factory=dict)
    """The files that lie on this machine's disk, where they can be read again at no cost."""
    followed_from: tuple[str, ...] = ()
    """The adapters that led here, as ``repo_id@commit``, the one that was asked for first."""

    def __post_init__(self) -> None:
        for name in self.files:
            check_name(name, self.source)

    @property
    def nbytes(self) -> int:
        """Bytes in the whole checkpoint."""
        return sum(file.size for file in self.files.values())

    def stream(self, location: TensorLocation, connections: int) -> Iterator[bytes]:
        """The bytes that a tensor is stored in, in order, with several ranges of them in flight."""
        return stream_range(
            partial(self.fetch, location.file),
            location.begin,
            location.end,
            chunk_nbytes=CHUNK_NBYTES,
            connections=connections,
        )

    def read(self, file: str, limit: int) -> bytes:
        """The whole of a small file.

        Raises:
            CorruptCheckpoint: the file is longer than ``limit`` bytes, which no sound file of its kind is.
        """
        size = self.files[file].size
        if size > limit:
            raise CorruptCheckpoint(
                f"{self.source}: {file} has {size:,} bytes, at most {limit:,} were expected; check the file"
            )
        return self.fetch(file, 0, size)


def check_name(name: str, source: str) -> None:
    """Make sure that a file's name is that of a file inside the checkpoint.

    Raises:
        CorruptCheckpoint: it is not.
    """
    if set(name.split("/")) & {"", ".", ".."} or "\\" in name:
        raise CorruptCheckpoint(
            f"{source}: a file is named {name!r}, a path inside the checkpoint was expected; do not use this checkpoint"
        )


def derived_commit(files: Mapping[str, StoredFile]) -> str:
    """For a source without commits: 40 hexadecimal characters that change when a name, size or content id does."""
    lines = (f"{name}\0{file.size}\0{file.content_id}\n" for name, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def check_range(files: Mapping[str, StoredFile], source: str, file: str, begin: int, end: int) -> StoredFile:
    """The file's facts, once it is sure that it belongs to the checkpoint and holds bytes ``begin`` to ``end``.

    Names and offsets come from the checkpoint's own indexes and headers, which may lie.

    Raises:
        CorruptCheckpoint: it does not.
    """
    if file not in files:
        raise CorruptCheckpoint(
            f"{source}: {file!r} was named but is not among its {len(files):,} files; "
            "check that the checkpoint is complete"
        )
    stored = files[file]
    if not 0 <= begin <= end <= stored.size:
        raise CorruptCheckpoint(
            f"{source}: bytes {begin:,} to {end:,} of {file} were asked for, it has {stored.size:,}; "
            "check that the file is whole"
        )
    return stored
