"""The reading contract: what every source (the Hub, its cache, a folder, S3, a web server) gives."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

from job.checkpoints.transport.parallel import stream_range
from job.errors import CorruptCheckpoint, TransientError
from job.limits.memory import claim_memory

logger = logging.getLogger(__name__)

CHUNK_NBYTES: Final = 4 << 20
"""A request's worth of bytes: large enough that a round trip of 50 ms costs no more than the bytes do on a connection
of 90 MB/s, small enough to hold a dozen."""

LOCAL_READS: Final = 2
"""Chunks of a file on this machine that are read at once: one more than the caller works on."""

MAX_KEPT: Final = 1 << 20
"""Bytes of a file whose content is kept: a config has some thousand, and is read for W, for the tokens, and copied."""

Digest = Literal["git", "sha256"]
"""How a file's content is digested: as git names a blob, or by SHA-256."""


IdSource = Literal["server", "name", "samples", "bytes", "samples and W", "name and W"]
"""What a content id follows from: what the server says; the file's name in the Hub's cache; the file's size and samples
of it; all its bytes. The last two: the same, and all bytes of W."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a checkpoint: its size in bytes and an id that changes only when its bytes do."""

    size: int
    content_id: str
    digest: Digest | None = None
    """What ``content_id`` is of the file's content; None if it is no digest of it, or may not be one."""
    id_from: IdSource = field(default="server", compare=False)

    def matches(self, content: Iterable[bytes | memoryview]) -> bool:
        """Whether these are the pieces of the content, as far as the content id tells."""
        if self.digest is None:
            return True
        if self.digest == "sha256":
            digests = [hashlib.sha256()]
        else:  # a mirror may give the SHA-1 of the content alone; git's has the size before it
            before = (f"blob {self.size}\0".encode(), b"")
            digests = [hashlib.sha1(start, usedforsecurity=False) for start in before]
        for piece in content:
            for digest in digests:
                digest.update(piece)
        return self.content_id in [digest.hexdigest() for digest in digests]


class FilesOnDemand(Mapping[str, StoredFile]):
    """The files of a server that lists names without sizes and ids. Those of a file are asked for when it is needed.

    ``listed`` has None for what the listing does not say. ``ask(name)`` may raise a SurveyError.
    """

    def __init__(self, listed: Mapping[str, StoredFile | None], ask: Callable[[str], StoredFile]) -> None:
        self._known, self._ask = dict(listed), ask

    def __getitem__(self, name: str) -> StoredFile:
        known = self._known[name]
        if known is None:
            known = self._known[name] = self._ask(name)
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._known  # Mapping's own would ask for the file

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """Where a tensor lies: in bytes ``begin`` to ``end`` (half-open) of ``file``, as little-endian numbers."""

    file: str
    begin: int
    end: int
    dtype: str
    """Its name in safetensors (``F32``, ``F16``, ``BF16``, …), or in ggml if rows are quantised (``Q8_0``, …)."""
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    """In each dimension, how many items lie between one index and the next; None: row after row, without gaps."""

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint pinned to one commit. To open one reads no weights."""

    repo_id: str
    """The name its survey is published under: ``org/name``, or ``local/<folder name>`` if it is not on the Hub."""
    revision: str | None
    """The revision that was asked for; None if none was."""
    commit: str
    """The Hub's commit, or an id derived from the files' sizes and content ids."""
    source: str
    """The address it is read from, for people."""
    files: Mapping[str, StoredFile]
    """Every file, by its name relative to the checkpoint's root, with forward slashes."""
    fill: Callable[[str, int, memoryview], None]
    """``fill(file, begin, buffer)`` fills the buffer with the file's bytes from ``begin`` on, or raises a SurveyError.
    The file has these bytes. Threads may call it at once."""
    local_paths: Mapping[str, Path] = field(default_factory=dict)
    """The files on this machine's disk, which cost nothing to read again."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Names that are there but cannot be read as files, each with the reason; a needed one fails the model."""
    created_at: str | None = None
    """When its repository was created, as the Hub says: ISO 8601, in UTC."""
    last_modified: str | None = None
    """When the files of this revision were changed last, likewise."""
    followed_from: tuple[str, ...] = ()
    """The adapters that led to this checkpoint, as ``repo_id@commit``; first the one that was asked for."""
    revisions: tuple[str, ...] = ()
    """All names of the commit that were asked for, if patterns of revisions were."""
    kept: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """The content of small files that were read."""

    def __post_init__(self) -> None:
        for name in self.files:
            check_name(name, self.source)

    @property
    def nbytes(self) -> int | None:
        """Bytes in the whole checkpoint; None if the server lists files without their sizes."""
        return None if isinstance(self.files, FilesOnDemand) else sum(file.size for file in self.files.values())

    def fetch(self, file: str, begin: int, end: int) -> bytes:
        """Bytes ``begin`` to ``end`` of a file.

        Raises:
            CorruptCheckpoint: the checkpoint has no such file, or the file has no such bytes.
            SurveyError: they cannot be read.
        """
        check_range(self.files, self.source, file, begin, end)
        buffer = bytearray(end - begin)
        self.fill(file, begin, memoryview(buffer))
        return bytes(buffer)

    def stream(self, location: TensorLocation, connections: int) -> Iterator[memoryview]:
        """The bytes that a tensor is stored in, in order; in chunks of whole rows, if its rows lie one after another.

        A chunk has about ``CHUNK_NBYTES`` bytes, and at least one row. It is the caller's own: nobody else uses its
        memory. ``connections`` chunks are read at once, or fewer if the file is on this machine.

        Raises:
            CorruptCheckpoint: the checkpoint has no such file, or the file has no such bytes.
            SurveyError: they cannot be read. Raised when a chunk is asked for.
        """
        file = location.file
        check_range(self.files, self.source, file, location.begin, location.end)
        row_nbytes = location.nbytes // location.shape[0] if location.strides is None else 1
        return stream_range(
            partial(self.fill, file),
            location.begin,
            location.end,
            chunk_nbytes=row_nbytes * max(1, CHUNK_NBYTES // row_nbytes),
            connections=min(connections, LOCAL_READS) if file in self.local_paths else connections,
        )

    def read(self, file: str, limit: int) -> bytes:
        """The whole content of a small file. If it does not match its digest, it is fetched once more. What has at most
        ``MAX_KEPT`` bytes is fetched once for all who read it.

        In the Hub's cache, a mismatch of a git id is only logged: the caller may ask ``StoredFile.matches``.

        Raises:
            CorruptCheckpoint: the file has more than ``limit`` bytes, or is damaged on this machine's disk.
            UnsupportedCheckpoint: there is no memory for it.
            TransientError: the file does not arrive as the server lists it.
        """
        stored = self.files[file]
        size = stored.size
        if size > limit:
            raise CorruptCheckpoint(
                f"{self.source}: {file} has {size:,} bytes, expected at most {limit:,}; check the file"
            )
        if file in self.kept:
            return self.kept[file]
        claim_memory(2 * size, f"{self.source}: {file}")
        for _ in range(2):
            content = self.fetch(file, 0, size)
            if stored.matches([content]):
                if size <= MAX_KEPT:
                    self.kept[file] = content
                return content
        digest = "SHA-256" if stored.digest == "sha256" else "git id"
        what = f"{self.source}: {file}: found content that differs from its {digest}, expected {stored.content_id}"
        if file in self.local_paths and stored.digest == "git":
            logger.warning("%s; it may be damaged, or come from a mirror that names files in another way", what)
            return content
        if file in self.local_paths:
            raise CorruptCheckpoint(f"{what}; download the file again")
        raise TransientError(f"{what}; run again, and if that does not help, check the server and the network")


def hub_file(size: int, object_id: str) -> StoredFile:
    """A file as the Hub lists it: with the git id of a small file, or the SHA-256 of a large one."""
    digests: dict[int, Digest] = {40: "git", 64: "sha256"}
    is_digest = re.fullmatch("[0-9a-f]+", object_id)
    return StoredFile(size, object_id, digests.get(len(object_id)) if is_digest else None)


def check_name(name: str, source: str) -> None:
    """Check that a file's name is a path inside the checkpoint.

    Raises:
        CorruptCheckpoint: it is not.
    """
    if unusable_name(name):
        raise CorruptCheckpoint(
            f"{source}: found a file named {name!r}, expected a path inside the checkpoint; do not use this checkpoint"
        )


def unusable_name(name: str) -> str | None:
    """Why a name is not a path inside the checkpoint; None if it is."""
    if set(name.split("/")) & {"", ".", ".."}:
        return "its name is not a path inside the checkpoint"
    if "\\" in name:
        return "its name holds a backslash"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def derived_commit(files: Mapping[str, StoredFile]) -> str:
    """For a source without commits: 40 hexadecimal digits that change when a file's name, size or content id does."""
    lines = (f"{name}\0{file.size}\0{file.content_id}\n" for name, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def check_range(files: Mapping[str, StoredFile], source: str, file: str, begin: int, end: int) -> None:
    """Check that a file has bytes ``begin`` to ``end``.

    The names and offsets come from the checkpoint's own indexes and headers, which may be wrong.

    Raises:
        CorruptCheckpoint: the checkpoint has no such file, or the file has no such bytes.
    """
    if file not in files:
        raise CorruptCheckpoint(
            f"{source}: found no file {file!r}, expected one of its {len(files):,} files; check that the checkpoint is "
            "complete"
        )
    size = files[file].size
    if not 0 <= begin <= end <= size:
        raise CorruptCheckpoint(
            f"{source}: {file} has {size:,} bytes, expected bytes {begin:,} to {end:,} in it; check that the "
            "file is complete"
        )
