"""Reads surveys from a folder. Large files are mapped into memory, not read."""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from black_hole_survey.errors import CorruptArtifact, UnreadableStore
from black_hole_survey.manifest import checked_key
from black_hole_survey.store import Range

CHUNK_NBYTES: Final = 1 << 22


@dataclass(frozen=True)
class FolderStore:
    """A Store in the folder ``root``."""

    root: Path

    def url(self, key: str) -> str:
        return str(self.root / key)

    def list_keys(self, prefix: str = "") -> list[str]:
        if not self.root.is_dir():
            raise UnreadableStore(
                f"{self.root}: found no folder, expected one that surveys were published to; check it"
            )
        begin = self.root / prefix.rpartition("/")[0]
        paths = (Path(parent, name) for parent, _, names in os.walk(begin, onerror=_refuse) for name in names)
        keys = (path.relative_to(self.root).as_posix() for path in paths if not path.name.startswith("."))
        return sorted(key for key in keys if key.startswith(prefix))

    def read(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def load(self, key: str, nbytes: int) -> memoryview:
        self._check_size(key, nbytes)
        if nbytes == 0:
            return memoryview(bytearray())  # an empty file cannot be mapped
        with self._path(key).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), nbytes, access=mmap.ACCESS_COPY))

    def fill(self, key: str, nbytes: int, ranges: Sequence[Range]) -> None:
        self._check_size(key, nbytes)
        with self._path(key).open("rb", buffering=0) as file:
            for each in ranges:
                file.seek(each.begin)
                rest = each.target
                while rest:
                    n_read = file.readinto(rest)
                    if not n_read:
                        raise CorruptArtifact(
                            f"{self.url(key)}: found its end early, expected {nbytes:,} bytes; see verify()"
                        )
                    rest = rest[n_read:]

    def chunks(self, key: str) -> Iterator[bytes]:
        with self._path(key).open("rb") as file:
            while chunk := file.read(CHUNK_NBYTES):
                yield chunk

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key, str(self.root))

    def _check_size(self, key: str, nbytes: int) -> None:
        size = self.size(key)
        if size != nbytes:
            found = "no file" if size is None else f"{size:,} bytes"
            raise CorruptArtifact(
                f"{self.url(key)}: found {found}, expected {nbytes:,} bytes; publish the survey again"
            )


def _refuse(error: OSError) -> None:
    """Name a folder that cannot be listed, because what lies in it would be left out unnoticed. A folder that is gone
    is none.

    Raises:
        UnreadableStore: it cannot be listed.
    """
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise UnreadableStore(
            f"{error.filename}: found a folder that cannot be read ({error.strerror}), expected one whose files can be "
            "listed; change its permissions, or open another folder"
        ) from error
