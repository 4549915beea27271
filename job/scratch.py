"""The temporary folder of a survey on the local disk, and the files that are written there."""

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

from job.errors import TransientError
from job.store.store import Chunk

_PREFIX: Final = "black-hole-survey-"
_MIN_AGE_SECONDS: Final = 60
"""The minimum age of an abandoned folder. A younger one may belong to a run that has not locked it yet."""
_NO_LOCK_ERRORS: Final = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""The error codes of flock(2) on a file system without locks, such as Lustre mounted with ``noflock``."""
_DISK_FULL_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)


def remove_abandoned(parent: Path) -> None:
    """Remove the scratch folders of runs that were killed, if the file system has locks: without, nobody can tell them
    from those of other runs."""
    for abandoned in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(abandoned, fcntl.LOCK_NB):
            if time.time() - abandoned.stat().st_mtime > _MIN_AGE_SECONDS:
                shutil.rmtree(abandoned, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder below ``parent``, removed at the end.

    Raises:
        TransientError: the folder cannot be created or locked.
    """
    with disk_errors_translated(parent):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with ExitStack() as stack:
            with disk_errors_translated(folder):
                try:
                    stack.enter_context(
                        _locked(folder)
                    )  # another run may hold it for a moment, to see that it is young
                except OSError as error:
                    if error.errno not in _NO_LOCK_ERRORS:
                        raise
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    """Hold the lock of a folder. The system releases it when the process ends, even if the process is killed.

    Raises:
        OSError: another process holds the lock, and ``flags`` forbid to wait for it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_copy(path: Path) -> Iterator[Callable[[Chunk], None]]:
    """A function that appends bytes to a new file at ``path``.

    Raises:
        TransientError: the scratch disk is full, or fails.
    """
    with disk_errors_translated(path):
        file = path.open("wb", buffering=0)
    with file:
        yield partial(_write_all, file)


def write_scratch(path: Path, content: bytes) -> None:
    """Write a small file.

    Raises:
        TransientError: the scratch disk is full, or fails.
    """
    with scratch_copy(path) as append:
        append(content)


@contextmanager
def disk_errors_translated(path: Path | str) -> Iterator[None]:
    """Raise the operating system's errors at a file as errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRORS:
            advice = "make room, or set SCRATCH to a folder on a larger disk"
        else:
            advice = "check the disk"
        raise TransientError(
            f"{path}: {error.strerror or error}, expected a disk with room for a copy of W; {advice}"
        ) from error


def _write_all(file: FileIO, content: Chunk) -> None:
    rest = memoryview(content)
    with disk_errors_translated(str(file.name)):
        while rest:
            rest = rest[file.write(rest) :]
