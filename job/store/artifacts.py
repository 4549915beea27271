"""Publishes the files of one survey, and returns the key, size and sha-256 of each."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from job.errors import TransientError, UploadLost, join_limited
from job.store.behind import Behind
from job.store.safetensors_file import StoredTensor, header, in_file_order
from job.store.stopwatch import Stopwatch
from job.store.store import Chunk, Store, look_again

TOKEN_ARTIFACTS: Final = ("tokens", "dead_tokens", "valid_ids")
"""What is published of the rows' tokens. It follows from W and from the tokenizer; all other artifacts, from W."""

_SUFFIXES: Final = {"tokens": "parquet", "dead_tokens": "json"}
"""Those of artifacts that are no safetensors files."""


@dataclass(frozen=True)
class Artifact:
    """A published object. ``key`` is relative to OUTPUT."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ArtifactFolder:
    """The folder of one survey in a store, and the artifacts to publish there."""

    store: Store
    folder: str
    to_publish: frozenset[str]
    """The names of the artifacts to publish."""
    metadata: Mapping[str, str]
    """The ``__metadata__`` of each safetensors file, which states its origin."""
    find_published: Callable[[str], Artifact | None]
    """Returns what a manifest says of the artifact with a name, if one has been published by now."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    written: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Of each artifact that was published, by name: how many of its first bytes tell it from one of another version of
    this tool, and their sha-256."""

    def with_metadata(self, **more: str) -> "ArtifactFolder":
        """The same folder, with more metadata for each file."""
        return replace(self, metadata={**self.metadata, **more})

    def publish(self, name: str, tensors: Mapping[StoredTensor, Iterable[Chunk]]) -> dict[str, Artifact]:
        """Publish the artifact ``name`` if it is to be published. Returns it by its name, or nothing.

        The bytes of its tensors are pulled in both cases, because they are measured as they are pulled.
        """
        if name in self.to_publish:
            begin = header(tensors, self.metadata)
            nbytes = len(begin) + sum(tensor.nbytes for tensor in tensors)
            chunks = (chunk for tensor in in_file_order(tensors) for chunk in tensors[tensor])
            return {name: self._publish(name, chain([begin], chunks), nbytes, begin)}
        for content in tensors.values():
            for _ in content:
                pass
        return {}

    def publish_content(self, name: str, chunks: Iterable[Chunk], nbytes: int) -> dict[str, Artifact]:
        """Publish the artifact ``name``, ``nbytes`` bytes from ``chunks``. Returns it by its name."""
        return {name: self._publish(name, chunks, nbytes)}

    def path_to_publish(self, name: str) -> Path | None:
        """Where on this machine the artifact ``name`` will be, if it is to be published there."""
        return self.store.path(self._key(name)) if name in self.to_publish else None

    def _publish(self, name: str, chunks: Iterable[Chunk], nbytes: int, begin: bytes | None = None) -> Artifact:
        """Publish a file of ``nbytes`` bytes, pulled from ``chunks``. ``begin``: the first of them, if these alone tell
        whether another version of this tool wrote the file.

        If another run published it meanwhile with other bytes, as its version of this tool wrote them, that one stays.
        """
        key, sha256 = self._key(name), hashlib.sha256()

        def content(digest: Behind[Chunk]) -> Iterator[Chunk]:
            for chunk in chunks:
                digest(chunk)
                yield chunk
            digest.wait()
            # A manifest that exists by now vouches for what is there, so it is not replaced by other bytes.
            published = self.find_published(name)
            if published and published.sha256 != sha256.hexdigest():
                raise _PublishedMeanwhile(published)

        try:
            with Behind[Chunk](sha256.update) as digest, self.stopwatch.during("store"):
                self.store.write_stream(key, self.stopwatch.iterate("computing", content(digest)), nbytes)
        except _PublishedMeanwhile as found:
            return found.artifact
        begin_nbytes, digest_of_begin = (nbytes, sha256) if begin is None else (len(begin), hashlib.sha256(begin))
        self.written[name] = begin_nbytes, digest_of_begin.hexdigest()
        return Artifact(key, nbytes, sha256.hexdigest())

    def check_own(self, published: Collection[str]) -> set[str]:
        """The artifacts that are still those that were published here. Other versions of this tool write the same
        tensors with another header, and tables with other metadata, so a run of theirs may have replaced some before
        any manifest vouched for them.

        Raises:
            UploadLost: an artifact was replaced, and is not one of those that the other run has ``published``.
        """

        def is_own(name: str) -> bool:
            nbytes, sha256 = self.written[name]
            return hashlib.sha256(self.store.read_begin(self._key(name), nbytes)).hexdigest() == sha256

        with ThreadPoolExecutor(max(1, len(self.written))) as pool:
            own = {name for name, is_same in zip(self.written, pool.map(is_own, self.written), strict=True) if is_same}
        for name in sorted(self.written.keys() - own - set(published)):
            raise UploadLost(
                f"{self.store.url(self._key(name))}: found other bytes at its begin than were written, expected the "
                "same; a run of another version of this tool replaced the file: run again when that one has ended"
            )
        return own

    def _key(self, name: str) -> str:
        return f"{self.folder}/{name}.{_SUFFIXES.get(name, 'safetensors')}"


class _PublishedMeanwhile(Exception):
    """Ends an upload of what another run has published."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.artifact = artifact


def check_stored(store: Store, sizes: Mapping[str, int]) -> None:
    """Check that the store lists these keys with these sizes, in bytes. Some stores list late, so it looks again.

    Raises:
        TransientError: it does not.
    """
    folders = {key.rpartition("/")[0] for key in sizes}

    def wrong() -> dict[str, int | None]:
        listed = {key: size for folder in folders for key, size in store.sizes(f"{folder}/").items()}
        return {key: listed.get(key) for key, size in sizes.items() if listed.get(key) != size}

    differing = look_again(wrong, lambda found: not found)
    if not differing:
        return
    found = [
        f"{key}: {'nothing' if size is None else f'{size:,} bytes'} ({sizes[key]:,})" for key, size in differing.items()
    ]
    raise TransientError(
        f"{store.url(next(iter(differing)))}: found in the listing, of {len(sizes)} files (expected in brackets): "
        f"{join_limited(found)}; expected each as it was written: run again, and if that does not help, check the store"
    )
