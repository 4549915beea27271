"""The contract of every store, for a folder and for an S3 bucket. A key is a path below OUTPUT with forward slashes."""

import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

UNFINISHED_MIN_AGE: Final = 3600.0
"""After how many seconds without a further byte an unfinished upload or file is dead, by the store's own clock. No run
that is alive waits so long: the longest waits of its sources (five minutes that a server demands, several times in a
row) and of its store (six time-outs) stay below. An upload may itself take days, as long as its bytes arrive."""

PROBE_PREFIXES: Final = ("runs/", "write-check")
"""What the keys of probes begin with. Probes are small objects by which the job tries what a store can do."""
_PROBE: Final = re.compile(r"(runs/[^/]+/condition-check|write-check)(-[0-9a-f]+)?")
_OWN_UPLOAD: Final = re.compile(rf"[^/]+/[^/]+/[0-9a-f]+/([^/]+/)?[^/]+\.safetensors|{_PROBE.pattern}")


def is_probe(key: str) -> bool:
    """Whether a key is that of a probe."""
    return _PROBE.fullmatch(key) is not None


def is_own_upload(key: str) -> bool:
    """Whether an upload to this key is one of this job: of a survey's tensors or of a probe. A bucket without a prefix
    may hold the uploads of other programs."""
    return _OWN_UPLOAD.fullmatch(key) is not None


class Store(Protocol):
    """A place to publish surveys. A key becomes visible only when its whole content is stored.

    Every method raises ConfigError if the store refuses the settings (wrong key, no bucket, read-only), and
    TransientError if it fails and a retry may succeed (unreachable, 5xx, disk full).
    """

    def url(self, key: str) -> str:
        """The address of a key, for people."""

    def check(self) -> None:
        """Check that the store can be written to, before anything is read. Leaves nothing behind."""

    def read(self, key: str) -> bytes | None:
        """The content of a small object, or None if it does not exist."""

    def write(self, key: str, content: bytes) -> None:
        """Publish a small object. It replaces an object of the same key."""

    def create(self, key: str, content: bytes) -> bool:
        """Publish a small object if the key does not exist yet. Returns whether it was published.

        If several processes try at once, only one succeeds. The others may have to wait before they can read its
        content. Some stores cannot do this and replace the object; ``creates_once`` finds that out.
        """

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """Publish ``nbytes`` bytes from ``chunks``, with only a few chunks in memory at a time.

        The caller's thread pulls ``chunks``, so a signal interrupts them. An exception of ``chunks`` or an interrupt is
        raised unchanged, and nothing is left behind.

        Raises:
            UploadLost: somebody removed the unfinished upload or file.
            ValueError: ``chunks`` held more or fewer than ``nbytes`` bytes; nothing was published.
        """

    def sizes(self, prefix: str) -> dict[str, int]:
        """All keys that start with ``prefix``, in alphabetical order, with their sizes in bytes."""

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        """Remove what killed runs left anywhere in the store: temporary files or multipart uploads, and probes.

        Only what got no byte for ``min_age`` seconds is removed. Runs that are alive may work in the same store.
        """


def creates_once(store: Store, prefix: str) -> bool:
    """Whether the store's ``create`` refuses a key that exists. This tries it on a unique key."""
    key = f"{prefix}condition-check-{secrets.token_hex(8)}"
    try:
        return store.create(key, b"first") and not store.create(key, b"second")
    finally:
        store.delete(key)


def checked_key(key: str) -> str:
    """The same key, checked to lie below OUTPUT in every store.

    Raises:
        ValueError: a segment of the key is empty, ``.`` or ``..``.
    """
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValueError(f"key {key!r}: found an empty part, '.' or '..', expected names between slashes")
    return key


def check_length(chunks: Iterable[bytes], nbytes: int) -> Iterator[bytes]:
    """The same chunks, checked to hold ``nbytes`` bytes in all.

    Raises:
        ValueError: they hold fewer bytes, or more. It does not return the first chunk that exceeds ``nbytes``.
    """
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > nbytes:
            raise ValueError(f"stream: found {total:,} bytes or more, expected {nbytes:,}")
        yield chunk
    if total < nbytes:
        raise ValueError(f"stream: found {total:,} bytes, expected {nbytes:,}")
