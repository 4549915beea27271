"""Publishes the files of one survey, and returns the key, size and sha-256 of each."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from job.errors import TransientError, join_limited
from job.store.safetensors_file import StoredTensor, header, in_file_order
from job.store.store import Store, look_again


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

    def with_metadata(self, **more: str) -> "ArtifactFolder":
        """The same folder, with more metadata for each file."""
        return replace(self, metadata={**self.metadata, **more})

    def publish(self, name: str, tensors: Mapping[StoredTensor, Iterable[bytes]]) -> dict[str, Artifact]:
        """Publish the artifact ``name`` if it is to be published. Returns it by its name, or nothing.

        The bytes of its tensors are pulled in both cases, because they are measured as they are pulled.
        """
        if name in self.to_publish:
            key = f"{self.folder}/{name}.safetensors"
            return {name: publish_safetensors(self.store, key, tensors, self.metadata)}
        for content in tensors.values():
            for _ in content:
                pass
        return {}


def publish_safetensors(
    store: Store, key: str, tensors: Mapping[StoredTensor, Iterable[bytes]], metadata: Mapping[str, str]
) -> Artifact:
    """Publish a safetensors file. The bytes of each tensor are pulled from its stream, one tensor after another."""
    header_bytes = header(tensors, metadata)
    nbytes = len(header_bytes) + sum(tensor.nbytes for tensor in tensors)
    digest = hashlib.sha256()

    def content() -> Iterator[bytes]:
        digest.update(header_bytes)
        yield header_bytes
        for tensor in in_file_order(tensors):
            for chunk in tensors[tensor]:
                digest.update(chunk)
                yield chunk

    store.write_stream(key, content(), nbytes)
    return Artifact(key, nbytes, digest.hexdigest())


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
