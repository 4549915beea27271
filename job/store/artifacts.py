"""Publishes the files of one survey and says what was published: key, size and sha-256."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from job.store.safetensors_file import StoredTensor, header, in_file_order
from job.store.store import Store


@dataclass(frozen=True)
class Artifact:
    """A published object. ``key`` is relative to OUTPUT."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ArtifactFolder:
    """Where the files of one survey go, and which of them are wanted."""

    store: Store
    folder: str
    missing: frozenset[str]
    """The artifacts to publish: those that were asked for and are not published yet."""
    metadata: Mapping[str, str]
    """What every safetensors file says of its origin."""

    def with_metadata(self, **more: str) -> "ArtifactFolder":
        """The same folder, for files that say more of their origin."""
        return replace(self, metadata={**self.metadata, **more})

    def publish(self, name: str, tensors: Mapping[StoredTensor, Iterable[bytes]]) -> dict[str, Artifact]:
        """Publish the artifact ``name`` if it is missing, and say what it is by its name.

        Its tensors' bytes are pulled either way, since they are measured as they pass.
        """
        if name in self.missing:
            key = f"{self.folder}/{name}.safetensors"
            return {name: publish_safetensors(self.store, key, tensors, self.metadata)}
        for content in tensors.values():
            for _ in content:
                pass
        return {}


def publish_bytes(store: Store, key: str, content: bytes) -> Artifact:
    """Publish a small object whole."""
    store.write(key, content)
    return Artifact(key, len(content), hashlib.sha256(content).hexdigest())


def publish_safetensors(
    store: Store, key: str, tensors: Mapping[StoredTensor, Iterable[bytes]], metadata: Mapping[str, str]
) -> Artifact:
    """Publish a safetensors file whose tensors' bytes are pulled from the streams given, one after the other."""
    head = header(tensors, metadata)
    nbytes = len(head) + sum(tensor.nbytes for tensor in tensors)
    digest = hashlib.sha256()

    def content() -> Iterator[bytes]:
        digest.update(head)
        yield head
        for tensor in in_file_order(tensors):
            for chunk in tensors[tensor]:
                digest.update(chunk)
                yield chunk

    store.write_stream(key, content(), nbytes)
    return Artifact(key, nbytes, digest.hexdigest())
