"""Whether the embedding that is stored beside W is a copy of it, decided over all its bytes."""

import hashlib
from dataclasses import replace

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.tie import NamedTensor
from job.manifest.filing import Manifest
from job.subject import Subject


def settle_tie(subject: Subject, w_sha256: str, known: Manifest | None) -> Subject:
    """The subject with the tie state that all bytes tell, where until now only some rows of the embedding were read.

    Reads the embedding once, unless ``known``, the manifest of a survey of the same W, tells of the same embedding.
    """
    found = subject.unembedding
    if found.copy is None:
        return subject
    embedding = found.copy.embedding
    if known and known["tensor"].get("embedding") == describe_embedding(subject.checkpoint, embedding):
        tie, evidence = known["tensor"]["tie"], known["tensor"]["tie_evidence"]
        return replace(subject, unembedding=replace(found, tie=tie, tie_evidence=evidence))
    # By columns, W's digest is of the rows that were put together, not of what is stored.
    head = w_sha256 if found.location.strides is None else _sha256(subject, NamedTensor(found.name, found.location))
    state = found.copy.settled(found.name, is_equal=_sha256(subject, embedding) == head)
    subject.log("compare embedding", "%s: %s", state.tie, state.evidence)
    return replace(subject, unembedding=replace(found, tie=state.tie, tie_evidence=state.evidence))


def describe_embedding(checkpoint: Checkpoint, embedding: NamedTensor) -> dict[str, object]:
    """As the manifest tells of an embedding that was compared with all of W."""
    location = embedding.location
    return {
        "name": embedding.name,
        "file": location.file,
        "begin": location.begin,
        "end": location.end,
        "content_id": checkpoint.files[location.file].content_id,
    }


def _sha256(subject: Subject, tensor: NamedTensor) -> str:
    location, digest = tensor.location, hashlib.sha256()
    for chunk in subject.stream(location, tensor.name):
        digest.update(chunk)
    return digest.hexdigest()
