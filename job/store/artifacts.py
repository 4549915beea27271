"""Publishes one artifact and says what was published: its key, size and sha-256."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from job.store.safetensors_file import StoredTensor, header, in_file_order
from job.store.store import Store


@dataclass(frozen=True)
class Artifact:
    """A published object. ``key`` is relative to OUTPUT."""

    key: str
    size: int
    sha256: str


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
