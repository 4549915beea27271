"""What a folder and a bucket have in common: the contract by which surveys are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Range:
    """Bytes of a file from ``begin`` on, and where they go: as many as ``target`` holds."""

    begin: int
    target: memoryview


class Store(Protocol):
    """A place that surveys were published to. Keys are relative to it. Nothing is read before it is asked for."""

    def url(self, key: str) -> str:
        """Where a key lies, for people."""

    def list_keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with ``prefix``, sorted."""

    def read(self, key: str) -> bytes | None:
        """All bytes of a small file; None if it does not exist."""

    def size(self, key: str) -> int | None:
        """The size of a file in bytes; None if it does not exist."""

    def load(self, key: str, nbytes: int) -> memoryview:
        """All bytes of a file of ``nbytes`` bytes. Writing to them does not change the file.

        Raises:
            CorruptArtifact: the file does not exist or has another size.
        """

    def fill(self, key: str, nbytes: int, ranges: Sequence[Range]) -> None:
        """Read ranges of a file of ``nbytes`` bytes; they are ascending and do not overlap.

        Raises:
            CorruptArtifact: the file does not exist or has another size.
        """

    def chunks(self, key: str) -> Iterator[bytes]:
        """All bytes of an existing file, one chunk after another."""
