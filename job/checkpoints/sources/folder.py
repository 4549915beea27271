"""A checkpoint in a folder of this machine's disk. It knows the file system, and nothing of what the files mean."""

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_range, derived_commit
from job.errors import CorruptCheckpoint, ModelUnavailable, TransientError

logger = logging.getLogger(__name__)

_MAX_HEADER = 100_000_000
"""Bytes; the safetensors library refuses longer headers, so that is all of a header that can matter."""


_SAMPLES = 8
_SAMPLE_NBYTES = 1 << 16


@dataclass(frozen=True)
class DiskFile:
    """A file as it was when the checkpoint was pinned."""

    path: Path
    size: int
    modified_ns: int


def open_folder(path: Path) -> Checkpoint:
    """The checkpoint in a folder, pinned by its files' names, sizes, modification times and safetensors headers.

    Hidden files and folders (``.git``, ``.cache``) are not part of it.

    Raises:
        ModelUnavailable: there is no such folder, it holds no file, or it may not be read.
        TransientError: the disk failed.
    """
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace a linked folder's name by its target's
    with refusals(root):
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing there"
            raise ModelUnavailable(
                f"{root}: {found}, a folder with config.json and weights was expected; check the reference"
            )
        on_disk = disk_files(root, [root.resolve()])
        files = {name: StoredFile(file.size, content_id(name, file)) for name, file in on_disk.items()}
    return Checkpoint(
        repo_id=f"local/{_folder_name(root)}",
        revision=None,
        commit=derived_commit(files),
        source=str(root),
        files=files,
        fetch=fetch_from(files, on_disk, str(root)),
        local_paths={name: file.path for name, file in on_disk.items()},
    )


def _folder_name(root: Path) -> str:
    """The folder's name, as it can be part of a key: no backslash, nothing that is not UTF-8."""
    return root.name.encode("utf-8", "backslashreplace").decode().replace("\\", "_") or "root"


@contextmanager
def refusals(root: Path) -> Iterator[None]:
    """Turn what the operating system says about a folder into the errors of the contract."""
    try:
        yield
    except PermissionError as error:
        raise ModelUnavailable(
            f"{error.filename}: permission denied, a readable file was expected; check its owner and mode"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ModelUnavailable(f"{root}: {error.strerror}, a folder was expected; check the reference") from error
        raise TransientError(f"{root}: {error.strerror}, a readable folder was expected; check the disk") from error


def fetch_from(
    files: Mapping[str, StoredFile], on_disk: Mapping[str, DiskFile], source: str
) -> Callable[[str, int, int], bytes]:
    """How a checkpoint fetches bytes of these files."""

    def fetch(file: str, begin: int, end: int) -> bytes:
        check_range(files, source, file, begin, end)
        return _read_range(on_disk[file], begin, end)

    return fetch


def disk_files(root: Path, allowed: Sequence[Path]) -> dict[str, DiskFile]:
    """The files below ``root`` that may be read, by their names relative to it: no hidden ones, no devices or pipes,
    no link that leads out of the ``allowed`` folders.

    Raises:
        ModelUnavailable: there is none.
    """
    files = {}
    for path in sorted(_visible(root)):
        target = Path(os.path.realpath(path))  # resolve() raises on a link that leads to itself
        if not any(target.is_relative_to(place) for place in allowed):
            logger.warning("%s is a link that leaves the checkpoint; it is not read. Copy the file instead", path)
        elif target.is_file():
            status = path.stat()
            files[path.relative_to(root).as_posix()] = DiskFile(path, status.st_size, status.st_mtime_ns)
    if not files:
        raise ModelUnavailable(
            f"{root}: an empty folder, config.json and weights were expected; check that the download finished"
        )
    return files


def _visible(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for folder, subfolders, names in os.walk(root, onerror=fail):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def content_id(name: str, file: DiskFile) -> str:
    """An id that changes when the file was written to, as far as that shows without reading all of it."""
    identity = hashlib.sha256(f"{name}\0{file.size}\0{file.modified_ns}\0".encode("utf-8", "surrogateescape"))
    if name.endswith(".safetensors"):
        with file.path.open("rb") as stream:
            prefix = stream.read(8)
            identity.update(prefix)
            length = int.from_bytes(prefix, "little")
            identity.update(stream.read(min(length, _MAX_HEADER)))
            # Builds that are made to be reproducible give every file the same time.
            for begin in range(0, file.size, max(1, file.size // _SAMPLES)):
                stream.seek(begin)
                identity.update(stream.read(_SAMPLE_NBYTES))
    return identity.hexdigest()


def _read_range(file: DiskFile, begin: int, end: int) -> bytes:
    """Bytes ``begin`` to ``end`` of a file that must still be the one that was pinned.

    Raises:
        CorruptCheckpoint: the file changed since.
        ModelUnavailable: it was removed or may not be read.
        TransientError: the disk failed.
    """
    pieces = []
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in the file's place would block for ever
        try:
            # One pread gives at most 2 GiB, and less at the end of the file.
            while begin < end and (piece := os.pread(descriptor, end - begin, begin)):
                pieces.append(piece)
                begin += len(piece)
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, PermissionError) as error:
        raise ModelUnavailable(
            f"{file.path}: {error.strerror}, {file.size:,} bytes were there before; put the file back"
        ) from error
    except OSError as error:
        raise TransientError(f"{file.path}: {error.strerror} at byte {begin:,}; check the disk") from error
    unchanged = status.st_size == file.size and status.st_mtime_ns == file.modified_ns and stat.S_ISREG(status.st_mode)
    if begin < end or not unchanged:
        raise CorruptCheckpoint(
            f"{file.path}: it changed while it was read, now {status.st_size:,} bytes, {file.size:,} were expected; "
            "run again when nothing writes to it"
        )
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
