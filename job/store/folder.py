"""Publishes into a folder. Each file is written under a temporary name, synced to the disk, and then renamed."""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from job.errors import ConfigError, SurveyError, TransientError, UploadLost
from job.store.behind import Behind
from job.store.store import UNFINISHED_MIN_AGE, Chunk, ListedObject, check_length, checked_key, is_probe

TEMP_SUFFIX = ".unfinished"
"""The end of a temporary file's name. The name also begins with a dot. Listings leave such files out."""

_GIVE_ACCESS = 'give this user write access to it, or run as its owner (a container: --user "$(id -u)")'
_CHOOSE_FOLDER = "choose an OUTPUT that is a folder and has only folders in its path"

PERMANENT_ERRORS = {
    errno.EACCES: _GIVE_ACCESS,
    errno.EPERM: _GIVE_ACCESS,
    errno.EROFS: "choose an OUTPUT on a file system that is mounted writable",
    errno.ENOTDIR: _CHOOSE_FOLDER,
    errno.EEXIST: _CHOOSE_FOLDER,
    errno.EISDIR: "remove the folder with the name of this file",
    errno.ELOOP: "repair the symbolic links in its path",
    errno.ENAMETOOLONG: "choose a shorter OUTPUT",
    errno.EFBIG: "choose a file system and a file size limit (ulimit -f) that allow files of this size",
}
"""The error codes for which no retry helps, and what to do. All others count as transient, even a full disk or quota:
space may become free, and a smaller model may still fit, so the run goes on."""

NO_HARD_LINK_ERRORS = {errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""The error codes of link(2) on a file system without hard links."""

NO_FOLDER_SYNC_ERRORS = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""The error codes of fsync(2) on a file system that cannot sync folders; PostgreSQL ignores the first two
(src/common/file_utils.c: fsync_fname)."""


@dataclass(frozen=True)
class FolderStore:
    """A Store in the folder ``root``. The folder is created when the first key is written."""

    root: Path
    parts_in_flight = 0

    def url(self, key: str) -> str:
        return str(self.path(key))

    def path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def check(self) -> "FolderStore":
        with _errors_translated(self.root):
            # If the folder does not exist yet, check its nearest existing parent.
            nearest = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
            temp_path = _temp_path(nearest / "check")
            try:
                with FileIO(temp_path, "x") as file:
                    # A full disk can still create an empty file, so write one byte.
                    file.write(b"\0")
                    os.fsync(file.fileno())
            finally:
                temp_path.unlink(missing_ok=True)
        return self

    def read(self, key: str) -> bytes | None:
        path = self.path(key)
        with _errors_translated(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def read_begin(self, key: str, nbytes: int) -> bytes:
        return self.read_range(key, 0, nbytes)

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        path = self.path(key)
        with _errors_translated(path), suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)
        return b""

    def write(self, key: str, content: bytes) -> None:
        with _new_file(self.path(key)) as file:
            file.write(content)

    def create(self, key: str, content: bytes) -> bool:
        path = self.path(key)
        temp_path = _temp_path(path)
        with _new_file(temp_path) as file:
            file.write(content)
        with _errors_translated(path):
            try:
                path.hardlink_to(temp_path)  # unlike a rename, it fails if the path exists
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_HARD_LINK_ERRORS:
                    raise
                temp_path.replace(path)
            finally:
                temp_path.unlink(missing_ok=True)
            _sync_folder(path.parent)
        return True

    def write_stream(self, key: str, chunks: Iterable[Chunk], nbytes: int) -> None:
        with _new_file(self.path(key)) as file, Behind(file.write) as write:
            for chunk in check_length(chunks, nbytes):
                write(chunk)

    def listing(self, prefix: str) -> dict[str, ListedObject]:
        listing = {}
        folder, _, _ = prefix.rpartition("/")
        with _errors_translated(self.root):
            paths = list(_walk(self.path(folder) if folder else self.root))
        for path in paths:
            key = path.relative_to(self.root).as_posix()
            # A file may be removed or renamed after it was listed.
            with _errors_translated(path), suppress(FileNotFoundError):
                if key.startswith(prefix) and not _is_temp(path):
                    status = path.stat()
                    listing[key] = ListedObject(status.st_size, modified=status.st_mtime)
        return dict(sorted(listing.items()))

    def sizes(self, prefix: str) -> dict[str, int]:
        return {key: listed.size for key, listed in self.listing(prefix).items()}

    def delete(self, key: str) -> None:
        path = self.path(key)
        with _errors_translated(path):
            path.unlink(missing_ok=True)

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        # Folders that this user cannot read are left out: os.walk() ignores the errors.
        paths = (Path(parent, name) for parent, _, names in os.walk(self.root) for name in names)
        leftovers = [path for path in paths if _is_temp(path) or is_probe(path.relative_to(self.root).as_posix())]
        if not leftovers:
            return
        with _errors_translated(self.root):
            now = self._now()
        errors = []
        for path in leftovers:
            try:
                if now - path.stat().st_mtime >= min_age:
                    path.unlink()
            except FileNotFoundError:
                continue  # another run removed or finished it
            except OSError as error:
                errors.append(survey_error(error, path))
        if errors:
            raise errors[0]

    def _now(self) -> float:
        """The time by the clock of the file system, which may be another machine's."""
        temp_path = _temp_path(self.root / "clock")
        try:
            temp_path.touch()
            return temp_path.stat().st_mtime
        finally:
            temp_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _NewFile:
    """A file that is being written. Only the errors of writing it are translated, not those of its writer."""

    file: FileIO
    target: Path

    def write(self, content: Chunk) -> None:
        rest = memoryview(content)
        with _errors_translated(self.target):
            while rest:
                rest = rest[self.file.write(rest) :]


@contextmanager
def _new_file(target: Path) -> Iterator[_NewFile]:
    """A file to write. It is at ``target`` after the ``with`` block; if the block raises, it is nowhere."""
    temp_path = _temp_path(target)
    try:
        with _errors_translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not by tempfile, which lets only the owner read the file. Not buffered, because a buffer would write
            # failed bytes again when the file is closed.
            file = FileIO(temp_path, "x")
        with file:
            yield _NewFile(file, target)
            with _errors_translated(target):
                os.fsync(file.fileno())
        with _errors_translated(target):
            try:
                temp_path.replace(target)
            except FileNotFoundError as error:
                raise UploadLost(
                    f"{target}: its unfinished file is gone, expected it until its end; see which other program "
                    "removes files there, then run again"
                ) from error
            _sync_folder(target.parent)
    except BaseException:
        # A failed cleanup must not hide the first error; discard_unfinished() removes what is left.
        with suppress(OSError):
            temp_path.unlink(missing_ok=True)
        raise


@contextmanager
def _errors_translated(path: Path) -> Iterator[None]:
    """Raise the operating system's errors at ``path`` as the errors of the contract."""
    try:
        yield
    except OSError as error:
        raise survey_error(error, path) from error


def survey_error(error: OSError, path: Path) -> SurveyError:
    """The error of the contract for an error of the operating system at ``path``."""
    found = error.strerror or str(error)
    if error.errno in PERMANENT_ERRORS:
        return ConfigError(f"{path}: {found}, expected a writable path; {PERMANENT_ERRORS[error.errno]}")
    return TransientError(
        f"{path}: {found}, expected the write to succeed; make room or repair the disk, then run again"
    )


def _temp_path(target: Path) -> Path:
    """A unique temporary name in the same folder, because a rename is atomic only within a file system."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}{TEMP_SUFFIX}")


def _is_temp(path: Path) -> bool:
    return re.fullmatch(rf"\..+\.[0-9a-f]{{16}}{re.escape(TEMP_SUFFIX)}", path.name) is not None


def _walk(folder: Path) -> Iterator[Path]:
    """All files below ``folder``; none if there is no such folder."""

    def on_error(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, _, names in os.walk(folder, onerror=on_error):
        yield from (Path(parent, name) for name in names)


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk, where that can be done. The fsync of a file covers its bytes, but not its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC_ERRORS:
            raise
    finally:
        os.close(descriptor)
