"""The writing contract: what a folder and an S3 bucket both do. A key is a path with forward slashes below OUTPUT."""

from collections.abc import Callable, Iterable
from typing import Protocol


class Store(Protocol):
    """Where surveys are published. No key is ever visible before its whole content is there.

    Every method raises ConfigError where the store refuses what was set (wrong key, no bucket, read-only) and
    TransientError where it fails in a way that may pass (unreachable, 5xx, disk full).
    """

    def url(self, key: str) -> str:
        """The address of a key, for people."""

    def check(self) -> None:
        """Find out now, before anything is read, whether this store can be written to. Leaves nothing behind."""

    def read(self, key: str) -> bytes | None:
        """The content of a small object, or None where there is none."""

    def write(self, key: str, content: bytes) -> None:
        """Publish a small object, replacing what is there."""

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """Publish ``nbytes`` bytes, pulled from ``chunks`` as fast as they are stored, holding a few of them at a time."""

    def write_stream_header_last(
        self, key: str, header_nbytes: int, header: Callable[[], bytes], chunks: Iterable[bytes], nbytes: int
    ) -> None:
        """Publish a header of ``header_nbytes`` and then ``nbytes`` bytes of ``chunks``, asking for the header last.

        For a header that states the digest of what follows it.
        """

    def keys(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def discard_unfinished(self, prefix: str) -> None:
        """Remove what killed runs left under ``prefix``: temporary files, multipart uploads."""
