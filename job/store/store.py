"""The contract of every store, for a folder and for an S3 bucket. A key is a path below OUTPUT with forward slashes."""

import hashlib
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Final, Protocol, TypeVar

Found = TypeVar("Found")

Chunk = bytes | memoryview
"""A piece of content, of single bytes. Nobody changes it after it was given away."""

RACES: Final = 10
RACERS: Final = 4
"""How often, and by how many threads, one object is created at once. On a machine with two cores, OpenStack Swift 2.38
seems right in a third of such races; of 8 threads, in half of them."""

LATE_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
"""The waits between looks at what was just written, each longer or shorter by up to half: some stores show it late, and
two workers that write again do not replace each other's for ever."""

UNFINISHED_MIN_AGE: Final = 3600.0
"""After how many seconds without a further byte an unfinished upload or file is dead, by the store's own clock. No run
that is alive waits so long: the longest waits of its sources (five minutes that a server demands, several times in a
row) and of its store (six time-outs) stay below. An upload may itself take days, as long as its bytes arrive."""

PROBE_PREFIXES: Final = ("runs/", "write-check")
"""What the keys of probes begin with. Probes are small objects by which the job tries what a store can do."""
_PROBE: Final = re.compile(r"(runs/[^/]+/condition-check|write-check)(-[0-9a-f]+)?")
_FILE: Final = r"[^/]+\.safetensors|tokens\.parquet|dead_tokens\.json"
_OWN_UPLOAD: Final = re.compile(rf"[^/]+/[^/]+/[0-9a-f]+/([^/]+/)?({_FILE})|{_PROBE.pattern}")


def is_probe(key: str) -> bool:
    """Whether a key is that of a probe."""
    return _PROBE.fullmatch(key) is not None


def is_own_upload(key: str) -> bool:
    """Whether an upload to this key is one of this job: of a survey's files or of a probe. A bucket without a prefix
    may hold the uploads of other programs."""
    return _OWN_UPLOAD.fullmatch(key) is not None


@dataclass(frozen=True)
class ListedObject:
    """What a listing says of an object."""

    size: int
    """In bytes."""
    etag: str | None = None
    """What the store says of its content; None if it says nothing. Most say the MD5 of what was written at once."""
    modified: float | None = None
    """When it was written, in seconds since 1970 by the store's clock; None if the store does not say."""

    @property
    def mark(self) -> str | None:
        """A text that changes when the object is written again; None if what is listed does not tell."""
        told = self.etag or self.modified
        return None if told is None else f"{self.size} {told}"

    def holds(self, content: bytes) -> bool:
        """Whether the listing proves that the object has this content. Without a proof, it may have it all the same."""
        return self.size == len(content) and self.etag == hashlib.md5(content, usedforsecurity=False).hexdigest()


class Store(Protocol):
    """A place to publish surveys. A key becomes visible only when its whole content is stored.

    Every method raises ConfigError if the store refuses the settings (wrong key, no bucket, read-only), and
    TransientError if it fails and a retry may succeed (unreachable, 5xx, disk full).
    """

    @property
    def parts_in_flight(self) -> int:
        """How many parts of an upload are in memory at a time; 0 if what is written is not kept in parts."""

    def url(self, key: str) -> str:
        """The address of a key, for people."""

    def path(self, key: str) -> Path | None:
        """The file of a key, if the store is on this machine."""

    def check(self) -> "Store":
        """Check that the store keeps what is written to it, before anything is read. Leaves nothing behind.

        Returns the store to use from now on, which takes what was found into account.
        """

    def read(self, key: str) -> bytes | None:
        """The content of a small object, or None if it does not exist."""

    def read_begin(self, key: str, nbytes: int) -> bytes:
        """The first ``nbytes`` bytes of an object, or all if it has fewer; none if it does not exist."""

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        """The bytes of an object from ``begin`` to ``end``, without ``end`` itself; those of them that it has."""

    def write(self, key: str, content: bytes) -> None:
        """Publish a small object. It replaces an object of the same key."""

    def create(self, key: str, content: bytes) -> bool:
        """Publish a small object if the key does not exist yet. Returns whether it was published.

        If several processes try at once, only one succeeds. The others may have to wait before they can read its
        content. Some stores cannot do this and replace the object; ``creates_once`` finds that out.
        """

    def write_stream(self, key: str, chunks: Iterable[Chunk], nbytes: int) -> None:
        """Publish ``nbytes`` bytes from ``chunks``, with only a few chunks in memory at a time.

        The caller's thread pulls ``chunks``, so a signal interrupts them. An exception of ``chunks`` or an interrupt is
        raised unchanged, and nothing is left behind.

        Raises:
            UploadLost: somebody removed the unfinished upload or file.
            ValueError: ``chunks`` held more or fewer than ``nbytes`` bytes; nothing was published.
        """

    def listing(self, prefix: str) -> dict[str, ListedObject]:
        """All keys that start with ``prefix``, in alphabetical order, with what is listed of their objects."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The same keys, with the sizes of their objects in bytes."""

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        """Remove what killed runs left anywhere in the store: temporary files or multipart uploads, and probes.

        Only what got no byte for ``min_age`` seconds is removed. Runs that are alive may work in the same store.
        """


def creates_once(store: Store, prefix: str) -> bool:
    """Whether the store's ``create`` refuses a key that exists, also if several workers create it at the same moment.

    This tries it on unique keys. One attempt after another proves nothing: a store that first looks and then writes
    passes that.
    """
    return all(_has_one_winner(store, f"{prefix}condition-check-{secrets.token_hex(8)}") for _ in range(RACES))


def _has_one_winner(store: Store, key: str) -> bool:
    """Whether of several threads that create ``key`` at once exactly one does, and its content is there."""
    together = Barrier(RACERS)
    contents = [f"{number} of {RACERS}".encode() for number in range(RACERS)]

    def create(content: bytes) -> bool:
        together.wait()
        return store.create(key, content)

    try:
        with ThreadPoolExecutor(RACERS) as pool:
            winners = [content for content, won in zip(contents, pool.map(create, contents), strict=True) if won]
        return winners == [store.read(key)] and not store.create(key, b"late")
    finally:
        store.delete(key)


def look_again(look: Callable[[], Found], is_right: Callable[[Found], bool]) -> Found:
    """What ``look`` finds of what was just written. It looks again for a while if that is not right."""
    for seconds in LATE_SECONDS:
        if is_right(found := look()):
            return found
        time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 - separates writers, guards nothing
    return look()


def checked_key(key: str) -> str:
    """The same key, checked to lie below OUTPUT in every store.

    Raises:
        ValueError: a segment of the key is empty, ``.`` or ``..``.
    """
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValueError(f"key {key!r}: found an empty part, '.' or '..', expected names between slashes")
    return key


def check_length(chunks: Iterable[Chunk], nbytes: int) -> Iterator[Chunk]:
    """The same chunks, checked to hold ``nbytes`` bytes in all.

    Raises:
        ValueError: they hold fewer bytes, or more. It does not return the first chunk that exceeds ``nbytes``.
    """
    total = 0
    for chunk in chunks:
        total += memoryview(chunk).nbytes
        if total > nbytes:
            raise ValueError(f"stream: found {total:,} bytes or more, expected {nbytes:,}")
        yield chunk
    if total < nbytes:
        raise ValueError(f"stream: found {total:,} bytes, expected {nbytes:,}")
