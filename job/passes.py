"""The two passes over W's rows: as they arrive, measured and published in one go; and again from the disk."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from job import __version__
from job.geometry.black_holes import BlackHoles
from job.geometry.measure import Measurement
from job.geometry.rows import FLOATS, centred, row_blocks, row_norms
from job.scratch import RowFile, scratch_copy, to_row_major
from job.store.artifacts import Artifact, publish_safetensors
from job.store.safetensors_file import StoredTensor, header
from job.subject import Subject

BLOCK_NUMBERS: Final = 1 << 19
"""A block's worth of rows: small enough that its float64 form, of 4 MiB, stays near the caches."""


def w_tensor(subject: Subject) -> StoredTensor:
    """W as published: of its dtype, or where that is a quantised one, the rows' bytes."""
    location = subject.unembedding.location
    if subject.encoding.name in FLOATS:
        return StoredTensor("W", location.dtype, location.shape)
    n_rows = location.shape[0]
    return StoredTensor("W", "U8", (n_rows, location.nbytes // n_rows))


def metadata(subject: Subject, w_sha256: str) -> dict[str, str]:
    """What every safetensors file says of its origin; ``encoding`` only where the rows of W are quantised."""
    quantised = {} if subject.encoding.name in FLOATS else {"encoding": subject.encoding.name}
    return quantised | {
        "model": subject.checkpoint.repo_id,
        "commit": subject.checkpoint.commit,
        "tensor": subject.unembedding.name,
        "w_sha256": w_sha256,
        "version": __version__,
    }


def block_nbytes(rows: RowFile, hidden_size: int) -> int:
    """How many bytes of W are a block."""
    return rows.row_nbytes * max(1, BLOCK_NUMBERS // hidden_size)


def first_pass(subject: Subject, *, publish: bool) -> tuple[Measurement, RowFile]:
    """Read W from the checkpoint once: the store pulls it through the measurements, and a copy stays on disk.

    Returns the measurement, and W's rows for reading again: the copy, or the checkpoint's own file if it is local.
    """
    location = subject.unembedding.location
    n_rows, hidden_size = location.shape
    w_nbytes = w_tensor(subject).nbytes
    row_nbytes = w_nbytes // n_rows
    measurement = Measurement(n_rows, hidden_size, subject.encoding)
    local = subject.checkpoint.local_paths.get(location.file) if location.strides is None else None
    rows = RowFile(local or subject.scratch / "W", location.begin if local else 0, n_rows, row_nbytes)
    chunks = subject.stream(location, "W")
    if location.strides is not None:
        chunks = to_row_major(chunks, subject.scratch, location.shape, location.strides, row_nbytes // hidden_size)

    def measured() -> Iterator[bytes]:
        with ExitStack() as stack:
            keep = None if local else stack.enter_context(scratch_copy(rows.path))
            for block in row_blocks(chunks, row_nbytes, block_nbytes(rows, hidden_size)):
                measurement.add(block)
                content = block.tobytes()
                if keep:
                    keep(content)
                yield content

    if publish:
        subject.store.write_stream_header_last(
            subject.key("W.safetensors"),
            # The digest is 64 characters whatever it is, so the header's length is known before the digest is.
            len(header([w_tensor(subject)], metadata(subject, "0" * 64))),
            lambda: header([w_tensor(subject)], metadata(subject, measurement.sha256.hexdigest())),
            measured(),
            w_nbytes,
        )
    else:
        for _ in measured():
            pass
    return measurement, rows


def publish_small_tensors(
    subject: Subject, measurement: Measurement, rows: RowFile, holes: BlackHoles, missing: frozenset[str]
) -> dict[str, Artifact]:
    """Publish mu and the black-hole tensors, as far as they are missing; returns what was published, by name."""
    origin = metadata(subject, measurement.sha256.hexdigest())
    n_rows, hidden_size = subject.unembedding.location.shape
    encoding = subject.encoding
    centroids_dtype = encoding.name if encoding.name in FLOATS else "F32"
    # 0 stands for "in no hole", so that 255 holes are what one byte can number.
    id_dtype, ids = ("U8", holes.ids.astype(np.uint8)) if holes.n_holes <= 255 else ("I32", holes.ids)
    files: dict[str, dict[StoredTensor, Iterable[bytes]]] = {
        "mu": {StoredTensor("mu", "F32", (hidden_size,)): [measurement.mu.tobytes()]},
        "black_holes": {
            StoredTensor("black_hole_mask", "BOOL", (n_rows,)): [(holes.ids > 0).tobytes()],
            StoredTensor("black_hole_id", id_dtype, (n_rows,)): [ids.tobytes()],
            StoredTensor("black_hole_centroids", centroids_dtype, (holes.n_holes, hidden_size)): (
                encoding.numbers(block).view(torch.uint8).numpy().tobytes()
                for block in rows.read_blocks(holes.first_members, block_nbytes(rows, hidden_size))
            ),
        },
    }
    return {
        name: publish_safetensors(subject.store, subject.key(f"{name}.safetensors"), tensors, origin)
        for name, tensors in files.items()
        if name in missing
    }


def second_pass(
    subject: Subject, measurement: Measurement, rows: RowFile, *, publish: bool
) -> tuple[NDArray[np.float64], dict[str, Artifact]]:
    """Read W from disk: centre its rows, and finish the digest of W's file, which starts with the digest of W.

    Returns γ′'s row norms, (n_rows,) float64, and what W.safetensors is and, if asked for, gamma_centered.safetensors.
    """
    location = subject.unembedding.location
    head = header([w_tensor(subject)], metadata(subject, measurement.sha256.hexdigest()))
    w_file = hashlib.sha256(head)
    gamma = StoredTensor("gamma_centered", "F32", location.shape)
    mu, encoding = measurement.mu, subject.encoding
    norms = np.empty(rows.n_rows, np.float64)

    def centred_rows() -> Iterator[bytes]:
        first = 0
        for block in rows.blocks(block_nbytes(rows, location.shape[1])):
            w_file.update(block.reshape(-1).data)
            gamma_block = centred(block, encoding, mu)
            with np.errstate(invalid="ignore", over="ignore"):
                norms[first : first + len(block)] = row_norms(gamma_block.astype(np.float64))
            first += len(block)
            yield gamma_block.tobytes()

    chunks = subject.follow(centred_rows(), gamma.nbytes, str(subject.ref), "gamma_centered")
    artifacts = {}
    if publish:
        origin = metadata(subject, measurement.sha256.hexdigest())
        artifacts["gamma_centered"] = publish_safetensors(
            subject.store, subject.key("gamma_centered.safetensors"), {gamma: chunks}, origin
        )
    else:
        for _ in chunks:
            pass
    if subject.checkpoint.local_paths:
        # A folder's files are checked against what they were when they were pinned whenever bytes are fetched.
        subject.checkpoint.fetch(location.file, location.begin, location.begin + 1)
    artifacts["W"] = Artifact(subject.key("W.safetensors"), len(head) + w_tensor(subject).nbytes, w_file.hexdigest())
    return norms, artifacts
