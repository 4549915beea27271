"""A checkpoint in a folder on this machine's disk. It knows the file system, but not what the files mean."""

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from job.checkpoints.checkpoint import Checkpoint, StoredFile, derived_commit, unusable_name
from job.checkpoints.file_names import HUB_DOWNLOADS
from job.errors import CorruptCheckpoint, ModelUnavailable, TransientError

logger = logging.getLogger(__name__)

_ERRORS_OF_ONE_ENTRY = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
"""What the operating system says of a file that is not there or may not be read, and not of its disk."""

_LEADS_OUT = "a link that leads out of the checkpoint"

_READ_WHOLE_NBYTES = 8 << 20
_ENDS_NBYTES = 1 << 20
_SAMPLES = 16
_SAMPLE_NBYTES = 1 << 16


@dataclass(frozen=True)
class DiskFile:
    """A file as it was when the checkpoint was pinned."""

    path: Path
    size: int
    modified_ns: int


def open_folder(path: Path) -> Checkpoint:
    """The checkpoint in a folder, pinned by its files' names, sizes and bytes, of large files by samples.

    Hidden files and folders (``.git``, ``.cache``) are not part of it.

    Raises:
        ModelUnavailable: the folder does not exist, holds no file, or may not be read.
        TransientError: the disk failed.
    """
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace a linked folder's name by its target's
    with os_errors_translated(root):
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise ModelUnavailable(
                f"{root}: found {found}, expected a folder with config.json and weights; check the reference"
            )
        on_disk, set_aside = list_files(root, [root.resolve()])
        files, unreadable = stored_files(on_disk, stored_file)
    return Checkpoint(
        repo_id=f"local/{_folder_name(root)}",
        revision=None,
        commit=derived_commit(files),
        source=str(root),
        files=files,
        fill=local_fill(on_disk),
        local_paths={name: on_disk[name].path for name in files},
        set_aside=set_aside | unreadable,
    )


def _folder_name(root: Path) -> str:
    """The folder's name as a part of a key: without backslashes and without bytes that are not UTF-8."""
    return root.name.encode("utf-8", "backslashreplace").decode().replace("\\", "_") or "root"


@contextmanager
def os_errors_translated(root: Path) -> Iterator[None]:
    """Turn the operating system's errors about a folder into those of the reading contract."""
    try:
        yield
    except PermissionError as error:
        raise ModelUnavailable(
            f"{error.filename}: permission denied, expected a readable file; check its owner and mode"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ModelUnavailable(f"{root}: {error.strerror}, expected a folder; check the reference") from error
        raise TransientError(f"{root}: {error.strerror}, expected a readable folder; check the disk") from error


def local_fill(on_disk: Mapping[str, DiskFile]) -> Callable[[str, int, memoryview], None]:
    """The ``fill`` of a checkpoint with these files."""
    return lambda file, begin, buffer: _read_into(buffer, on_disk[file], begin)


def list_files(root: Path, allowed: Sequence[Path]) -> tuple[dict[str, DiskFile], dict[str, str]]:
    """The files below ``root``, by their names relative to it, and the names that are set aside, each with the reason.

    Set aside are devices, pipes, what may not be read, links that lead nowhere or out of the ``allowed`` folders, and
    names that are no paths inside a checkpoint. Hidden files are left out, except the Hub client's unfinished
    downloads: these are set aside.

    Raises:
        ModelUnavailable: there is nothing.
    """
    files, set_aside = {}, dict.fromkeys(_unfinished_downloads(root), "its download was not finished")
    for path, name, reason in _visible_entries(root):
        found = reason or _reason_to_set_aside(path, name, allowed)
        if not found:
            status = path.stat()
            files[name] = DiskFile(path, status.st_size, status.st_mtime_ns)
            continue
        set_aside[name] = found
        if found.startswith(_LEADS_OUT):
            logger.warning("%s: found %s, ignored; copy the file instead", path, found)
    if not files and not set_aside:
        raise ModelUnavailable(
            f"{root}: found an empty folder, expected config.json and weights; check that the download finished"
        )
    return files, set_aside


def stored_files(
    on_disk: Mapping[str, DiskFile], identify: Callable[[str, DiskFile], StoredFile]
) -> tuple[dict[str, StoredFile], dict[str, str]]:
    """The files with their ids, by ``identify``, and those that may not be read, each with the reason."""
    files, set_aside = {}, {}
    for name, file in on_disk.items():
        try:
            files[name] = identify(name, file)
        except OSError as error:
            set_aside[name] = _reason_of(error)
    return files, set_aside


def _visible_entries(root: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Each entry below a folder: its path, its name relative to it, and why it cannot be read, if that is known."""
    unreadable = []

    def note(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename))
        if path == root:
            raise error
        unreadable.append((path, _reason_of(error)))

    for folder, subfolders, names in os.walk(root, onerror=note):
        subfolders[:] = [name for name in sorted(subfolders) if not name.startswith(".")]
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(folder) / name
                yield path, path.relative_to(root).as_posix(), None
        for path in (Path(folder) / name for name in subfolders):
            if path.is_symlink():
                yield path, path.relative_to(root).as_posix(), "a link to a folder, which is not followed"
    for path, reason in unreadable:
        yield path, path.relative_to(root).as_posix(), reason


def _unfinished_downloads(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root / HUB_DOWNLOADS):
        for name in names:
            if name.endswith(".incomplete"):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _reason_to_set_aside(path: Path, name: str, allowed: Sequence[Path]) -> str | None:
    """Why a name below a folder cannot be read as a file of the checkpoint; None if it can."""
    if reason := unusable_name(name):
        return reason
    target = Path(os.path.realpath(path))  # resolve() raises on a link that leads to itself
    try:
        status = path.stat()
    except OSError as error:
        reason = _reason_of(error)
        return f"a link to {target}: {reason}" if path.is_symlink() else reason
    if not any(target.is_relative_to(place) for place in allowed):
        return f"{_LEADS_OUT}, to {target}"
    return None if stat.S_ISREG(status.st_mode) else "not a file with content, but a device or a pipe"


def _reason_of(error: OSError) -> str:
    """Why one entry of a folder cannot be read. An error of the whole disk is raised again."""
    if error.errno not in _ERRORS_OF_ONE_ENTRY:
        raise error
    return (error.strerror or str(error)).lower()


def stored_file(_name: str, file: DiskFile) -> StoredFile:
    """A file with an id that follows from its bytes: of a small file from all, of a large one from samples.

    The samples hold the headers of all formats: of safetensors and GGUF at the beginning, of zip files at the end.
    """
    if file.size <= _READ_WHOLE_NBYTES:
        ranges = [(0, file.size)]
    else:
        step = (file.size - _ENDS_NBYTES) // _SAMPLES
        middle = [(begin, _SAMPLE_NBYTES) for begin in range(step, step * _SAMPLES, step)]
        ranges = [(0, _ENDS_NBYTES), *middle, (file.size - _ENDS_NBYTES, _ENDS_NBYTES)]
    identity = hashlib.sha256(f"{file.size}\0".encode())
    with file.path.open("rb", buffering=0) as stream:
        for begin, nbytes in ranges:
            identity.update(os.pread(stream.fileno(), nbytes, begin))
    return StoredFile(file.size, identity.hexdigest(), id_from="bytes" if len(ranges) == 1 else "samples")


def _read_into(buffer: memoryview, file: DiskFile, begin: int) -> None:
    """Fill a buffer with a file's bytes from ``begin`` on. The file must not have changed since it was pinned.

    Raises:
        CorruptCheckpoint: the file changed.
        ModelUnavailable: the file was removed or may not be read.
        TransientError: the disk failed.
    """
    filled = 0
    try:
        with FileIO(file.path, opener=_open_without_waiting) as stream:
            stream.seek(begin)
            # One call reads at most 2 GiB.
            while filled < len(buffer) and (nbytes := stream.readinto(buffer[filled:])):
                filled += nbytes
            status = os.fstat(stream.fileno())
    except (FileNotFoundError, PermissionError) as error:
        raise ModelUnavailable(
            f"{file.path}: {error.strerror}, expected {file.size:,} bytes as before; put the file back"
        ) from error
    except OSError as error:
        raise TransientError(
            f"{file.path}: {error.strerror} at byte {begin + filled:,}, expected a readable file; check the disk"
        ) from error
    unchanged = status.st_size == file.size and status.st_mtime_ns == file.modified_ns and stat.S_ISREG(status.st_mode)
    if filled < len(buffer) or not unchanged:
        raise CorruptCheckpoint(
            f"{file.path}: the file changed while it was read: found {status.st_size:,} bytes, expected {file.size:,}; "
            "run again when nothing writes to it"
        )


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe in the file's place would be waited for
