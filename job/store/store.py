"""The writing contract: what a folder and an S3 bucket both do. A key is a path with forward slashes below OUTPUT."""

import secrets
from collections.abc import Iterable, Iterator
from typing import Protocol


class Store(Protocol):
    """Where surveys are published. No key is ever visible before its whole content is there.

    Every method raises ConfigError where the store refuses what was set (wrong key, no bucket, read-only) and
    TransientError where it fails in a way that may pass (unreachable, 5xx, disk full). What ``chunks`` or ``header``
    raise, an interrupt included, comes through unchanged and leaves nothing behind. ``chunks`` is pulled by one thread
    at a time, which need not be the caller's.
    """

    def url(self, key: str) -> str:
        """The address of a key, for people."""

    def check(self) -> None:
        """Find out now, before anything is read, whether this store can be written to. Leaves nothing behind."""

    def read(self, key: str) -> bytes | None:
        """The content of a small object, or None where there is none."""

    def write(self, key: str, content: bytes) -> None:
        """Publish a small object, replacing what is there."""

    def create(self, key: str, content: bytes) -> bool:
        """Publish a small object where there is none, and tell whether it was published.

        Of several who try at once, one succeeds; the others may have to wait until they can read what that one wrote.
        A store that cannot hold to this replaces what is there: ``creates_once`` finds that out.
        """

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """Publish ``nbytes`` bytes, pulled from ``chunks`` as fast as they are stored, holding a few of them at a time.

        Raises:
            ValueError: ``chunks`` held more or fewer bytes than announced; nothing was published.
        """

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every key that starts with ``prefix``, in alphabetical order, with the size of its content in bytes."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def discard_unfinished(self, prefix: str) -> None:
        """Remove what killed runs left under ``prefix``: temporary files, multipart uploads."""


def creates_once(store: Store, prefix: str) -> bool:
    """Whether the store's ``create`` refuses a key that is there, tried on a key that nobody else has."""
    key = f"{prefix}condition-check-{secrets.token_hex(8)}"
    try:
        return store.create(key, b"first") and not store.create(key, b"second")
    finally:
        store.delete(key)


def checked_key(key: str) -> str:
    """The key, once it is certain that it lies below OUTPUT, in a bucket as in a folder.

    Raises:
        ValueError: a segment of it is empty, ``.`` or ``..``.
    """
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValueError(f"key {key!r}: found an empty part, '.' or '..', expected names between slashes")
    return key


def exactly(chunks: Iterable[bytes], nbytes: int) -> Iterator[bytes]:
    """The chunks as they are, as long as they hold ``nbytes`` bytes in all.

    Raises:
        ValueError: they hold more (before the first chunk too many is passed on) or fewer.
    """
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > nbytes:
            raise ValueError(f"the stream holds {seen:,} bytes or more, {nbytes:,} were announced")
        yield chunk
    if seen < nbytes:
        raise ValueError(f"the stream ended after {seen:,} bytes, {nbytes:,} were announced")
