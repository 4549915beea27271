"""Checks the identity of a local checkpoint against W's own bytes. Ids by names, dates or samples alone may mislead."""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import xxhash

from job.checkpoints.checkpoint import CHUNK_NBYTES, Checkpoint, StoredFile, TensorLocation, derived_commit
from job.errors import CorruptCheckpoint

_ZEROS: Final = bytes(1 << 20)

# SHA-256 of a file in the page cache takes 0.6 s/GB on one core: less than the survey of a W of a tenth of the file.
_MAX_FILE_PER_W: Final = 10
_ALWAYS_CHECKED_NBYTES: Final = 2_000_000_000


@dataclass(frozen=True)
class FirstReading:
    """What the bytes of W were when they were read first. A later reading has to bring the same."""

    path: Path
    sha256: str
    xxh3_128: bytes
    """Thirty times as fast, so it is what a later reading is compared by."""
    seed: int
    """Of XXH3: random, so that nobody can make other bytes with the same digest."""


@dataclass(frozen=True)
class PinnedW:
    """A checkpoint whose identity holds for W's bytes."""

    checkpoint: Checkpoint
    first_reading: FirstReading | None
    """None if W's bytes are on a server, or are not stored row after row."""
    warnings: tuple[str, ...] = ()


def pin_w(checkpoint: Checkpoint, location: TensorLocation) -> PinnedW:
    """The checkpoint with an id for W's file that follows from W's bytes, if they are on this machine.

    A blob of the Hub's cache keeps the id that is its name if the whole file has it. That is checked if the file is
    small or mostly W, or if a part of W is zeros, as after a download that broke off.

    Raises:
        CorruptCheckpoint: the content of a blob is not what its name says, or the file changed.
    """
    name = location.file
    if name not in checkpoint.local_paths:
        return PinnedW(checkpoint, None)
    stored, warnings = checkpoint.files[name], list[str]()
    seed = secrets.randbits(64)
    sha256, fingerprint, has_zeros = hashlib.sha256(), xxhash.xxh3_128(seed=seed), False
    for chunk in _chunks(checkpoint, name, location.begin, location.end):
        sha256.update(chunk)
        fingerprint.update(chunk)
        has_zeros = has_zeros or _has_zeros(chunk)
    is_cheap = stored.size <= max(_ALWAYS_CHECKED_NBYTES, _MAX_FILE_PER_W * location.nbytes)
    if stored.id_from == "name" and (is_cheap or has_zeros):
        if stored.matches(_chunks(checkpoint, name, 0, stored.size)):
            stored = replace(stored, id_from="bytes")
        elif stored.digest == "sha256":
            raise CorruptCheckpoint(
                f"{checkpoint.local_paths[name]}: found another sha-256 than {stored.content_id}, its name "
                f"in the Hub's cache, expected the same; delete it and download it again: hf download "
                f"{checkpoint.repo_id} --revision {checkpoint.commit}"
            )
        else:
            # A mirror may name small files by another hash than git's.
            warnings.append(
                f"the content of {name} does not have the git id {stored.content_id}, which is its name in the Hub's "
                "cache: it may be damaged, or come from a mirror"
            )
    if stored.id_from != "bytes":
        content_id = hashlib.sha256(f"{stored.content_id}\0{sha256.hexdigest()}".encode()).hexdigest()
        stored = StoredFile(
            stored.size, content_id, id_from="samples and W" if stored.id_from == "samples" else "name and W"
        )
    files = {**checkpoint.files, name: stored}
    first_reading = FirstReading(checkpoint.local_paths[name], sha256.hexdigest(), fingerprint.digest(), seed)
    is_derived = checkpoint.commit == derived_commit(checkpoint.files)
    return PinnedW(
        replace(checkpoint, files=files, commit=derived_commit(files) if is_derived else checkpoint.commit),
        first_reading if location.strides is None else None,
        tuple(warnings),
    )


def _chunks(checkpoint: Checkpoint, file: str, begin: int, end: int) -> Iterator[memoryview]:
    """Bytes of a file in order. Each chunk lasts until the next, which takes its memory. Needs no thread."""
    memory = memoryview(bytearray(min(CHUNK_NBYTES, end - begin)))
    while begin < end:
        chunk = memory[: end - begin]
        checkpoint.fill(file, begin, chunk)
        yield chunk
        begin += len(chunk)


def _has_zeros(chunk: memoryview) -> bool:
    """Whether a piece of ``_ZEROS``' length, or the last one, is all zeros."""
    pieces = (chunk[begin : begin + len(_ZEROS)] for begin in range(0, len(chunk), len(_ZEROS)))
    return any(piece == _ZEROS[: len(piece)] for piece in pieces)
