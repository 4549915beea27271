"""Publishes into a folder: each file is written beside its place and moved there when it is whole and on the disk."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from job.errors import ConfigError, SurveyError, TransientError
from job.store.store import checked_key, exactly

UNFINISHED = ".unfinished"
"""How the name of a temporary file ends; it starts with a dot, and no key is listed that looks like one."""

_NOT_MINE = 'give this user write access to it, or run as its owner (a container: --user "$(id -u)")'

REFUSALS = {
    errno.EACCES: _NOT_MINE,
    errno.EPERM: _NOT_MINE,
    errno.EROFS: "choose an OUTPUT on a file system that is mounted writable",
    errno.ENOTDIR: "choose an OUTPUT that is a folder and leads through folders only",
    errno.EEXIST: "choose an OUTPUT that is a folder and leads through folders only",
    errno.EISDIR: "remove the folder that stands where a file has to be",
    errno.ELOOP: "repair the symbolic links on the way to it",
    errno.ENAMETOOLONG: "choose a shorter OUTPUT",
    errno.EFBIG: "choose an OUTPUT whose file system, and a file size limit (ulimit -f), that allow files this large",
}
"""What no retry helps against, and what to do. Anything else may pass: a full disk or quota (others free space, and a
smaller model may still fit, so that ending the whole run for it would be wrong), a network file system's trouble."""

WITHOUT_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""How a file system says that it gives a file no second name (link(2))."""


@dataclass(frozen=True)
class FolderStore:
    """A Store in the folder ``root``, which is made when the first key is written."""

    root: Path

    def url(self, key: str) -> str:
        return str(self._path(key))

    def check(self) -> None:
        with _refusals(self.root):
            # The folder itself may not be there yet; whether it can be made shows in the nearest one that is.
            nearest = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
            unfinished = _temp_path(nearest / "check")
            try:
                with FileIO(unfinished, "x") as file:
                    # One byte on the disk, because a full disk still gives out names.
                    file.write(b"\0")
                    os.fsync(file.fileno())
            finally:
                unfinished.unlink(missing_ok=True)

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        with _refusals(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write(self, key: str, content: bytes) -> None:
        with _published(self._path(key)) as file:
            file.write(content)

    def create(self, key: str, content: bytes) -> bool:
        path = self._path(key)
        draft = _temp_path(path)
        with _published(draft) as file:
            file.write(content)
        with _refusals(path):
            try:
                path.hardlink_to(draft)  # which, unlike a rename, fails where something is
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in WITHOUT_LINKS:
                    raise
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            _sync_folder(path.parent)
        return True

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        with _published(self._path(key)) as file:
            for chunk in exactly(chunks, nbytes):
                file.write(chunk)

    def sizes(self, prefix: str) -> dict[str, int]:
        found = {}
        for path in self._files(prefix):
            # A file may go, or get its final name, between being listed and being looked at.
            with _refusals(path), suppress(FileNotFoundError):
                if not _is_unfinished(path):
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _refusals(path):
            path.unlink(missing_ok=True)

    def discard_unfinished(self, prefix: str) -> None:
        for path in self._files(prefix):
            if _is_unfinished(path):
                with _refusals(path):
                    path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _files(self, prefix: str) -> list[Path]:
        """Every file whose key starts with ``prefix``, temporary ones (by the key they are for) included."""
        folder, _, _ = prefix.rpartition("/")
        with _refusals(self.root):
            return [
                path
                for path in _walk(self._path(folder) if folder else self.root)
                if _destined(path).relative_to(self.root).as_posix().startswith(prefix)
            ]


@dataclass(frozen=True)
class _Unfinished:
    """A file being written. Its own failures are the store's; what its writer raises in between stays as it is."""

    file: FileIO
    target: Path

    def write(self, content: bytes) -> None:
        rest = memoryview(content)
        with _refusals(self.target):
            while rest:
                rest = rest[self.file.write(rest) :]


@contextmanager
def _published(target: Path) -> Iterator[_Unfinished]:
    """A file to write, which is at ``target`` once the block ends, and nowhere if anything is raised in it."""
    unfinished = _temp_path(target)
    try:
        with _refusals(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Opened as any file is, so that the umask decides who may read it (tempfile lets the owner alone), and
            # unbuffered, so that no failed byte is left to be written again when the file is closed.
            file = FileIO(unfinished, "x")
        with file:
            yield _Unfinished(file, target)
            with _refusals(target):
                os.fsync(file.fileno())
        with _refusals(target):
            try:
                unfinished.replace(target)
            except FileNotFoundError as error:
                raise TransientError(
                    f"{target}: its unfinished file is gone; another run of the same model removed it: run again"
                ) from error
            _sync_folder(target.parent)
    except BaseException:
        # A cleanup that fails must not hide why it was needed; discard_unfinished() finds what it leaves.
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into the errors of the contract."""
    try:
        yield
    except OSError as error:
        raise survey_error(error, path) from error


def survey_error(error: OSError, path: Path) -> SurveyError:
    """The error of the contract that a failure of the operating system at ``path`` stands for."""
    found = error.strerror or str(error)
    if error.errno in REFUSALS:
        return ConfigError(f"{path}: {found}, expected a place to write to; {REFUSALS[error.errno]}")
    return TransientError(
        f"{path}: {found}, expected the write to succeed; make room or repair the disk, then run again"
    )


def _temp_path(target: Path) -> Path:
    """A name nobody else has, in the same folder, since only there a rename is atomic."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}{UNFINISHED}")


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)


def _destined(path: Path) -> Path:
    """Where a temporary file was to go; any other path is itself."""
    return path.with_name(path.name[1 : -len(UNFINISHED)].rpartition(".")[0]) if _is_unfinished(path) else path


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``; none where there is no such folder."""

    def unlistable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, _, names in os.walk(folder, onerror=unlistable):
        yield from (Path(parent, name) for name in names)


def _sync_folder(folder: Path) -> None:
    """Put a rename on the disk: the file's own fsync covers its bytes, not its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
