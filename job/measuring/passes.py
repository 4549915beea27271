"""The two passes over W's rows. The first measures and publishes the rows as they arrive; the second reads the disk.

Knows the store and the geometry, but not models, settings, consoles or metrics.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.gguf_rows import dequantised
from job.checkpoints.identity import FirstReading
from job.checkpoints.transport.parallel import call_beside
from job.errors import CorruptCheckpoint, SurveyError, TransientError
from job.geometry.black_holes import BlackHoles
from job.geometry.dedup import find_black_holes
from job.geometry.digests import row_digests, xxh3_128
from job.geometry.measure import Measurement
from job.geometry.methods import N_DIRECTIONS, NUMBERS_PER_BLOCK, Dedup
from job.geometry.projection import Coordinates, Projection, principal_directions, scale_of
from job.geometry.rows import FLOATS, Block, Encoding, canonical_nans, centred, row_norms
from job.manifest.build import artifact_entry
from job.manifest.measured import build_statistics, list_black_holes
from job.manifest.schema import ResultsOfW
from job.measuring.stored_rows import RowFile, to_row_major
from job.monitor.callbacks import Stage, Track
from job.scratch import scratch_copy
from job.store.artifacts import Artifact, ArtifactFolder
from job.store.behind import Behind
from job.store.safetensors_file import StoredTensor
from job.store.store import Chunk
from job.tokens.table import RowNumbers


@dataclass(frozen=True)
class RowLayout:
    """How W's rows are stored when they are in row order."""

    n_rows: int
    hidden_size: int
    encoding: Encoding
    row_nbytes: int

    @property
    def w(self) -> StoredTensor:
        """W as published: with its dtype, or as bytes if the dtype is a quantised one."""
        if self.encoding.name in FLOATS:
            return StoredTensor("W", self.encoding.name, (self.n_rows, self.hidden_size))
        return StoredTensor("W", "U8", (self.n_rows, self.row_nbytes))

    @property
    def block_nbytes(self) -> int:
        """The number of bytes of W in a block."""
        return self.row_nbytes * max(1, NUMBERS_PER_BLOCK // self.hidden_size)


@dataclass(frozen=True)
class MeasuredRows:
    """W's rows on disk, which are read again. Each must still be the row that was measured."""

    file: RowFile
    measurement: Measurement
    is_copy: bool
    """Whether the file is a copy of W in the scratch folder, and not the checkpoint's own."""

    def read(self, ids: NDArray[np.int64]) -> Block:
        """The rows with these ids: (n,) int64 → (n, row_nbytes) uint8.

        Raises:
            TransientError, CorruptCheckpoint: a row is not the one that was measured.
        """
        block = self.file.read(ids)
        self._check(block, ids)
        return block

    def read_run(self, ids: range) -> Block:
        """Rows that lie one after another. Raises what ``read`` raises."""
        block = self.file.read_run(ids)
        self._check(block, np.arange(ids.start, ids.stop))
        return block

    def read_blocks(self, ids: NDArray[np.int64], block_nbytes: int) -> Iterator[Block]:
        """The rows with these ids, about ``block_nbytes`` at a time. Raises what ``read`` raises."""
        rows_per_block = max(1, block_nbytes // self.file.row_nbytes)
        for first in range(0, len(ids), rows_per_block):
            yield self.read(ids[first : first + rows_per_block])

    def blocks(self, block_nbytes: int) -> Iterator[Block]:
        """All rows in order, about ``block_nbytes`` at a time. Raises what ``read`` raises."""
        first = 0
        for block in self.file.blocks(block_nbytes):
            self._check(block, np.arange(first, first + len(block)))
            first += len(block)
            yield block

    def _check(self, block: Block, ids: NDArray[np.int64]) -> None:
        differ = (row_digests(block, self.measurement.digest) != self.measurement.digests[ids]).any(axis=1)
        if differ.any():
            what = f"row {int(ids[differ.argmax()]):,}"
            raise changed_between_readings(self.file.path, what, is_copy=self.is_copy)


def changed_between_readings(path: Path, what: str, *, is_copy: bool) -> SurveyError:
    """The error for ``what`` of a local file, or of a copy of W, that is not as it was in the first reading."""
    found = f"{path}: found other bytes of {what} than in the first reading, expected the same"
    if is_copy:
        return TransientError(f"{found}; the copy of W on disk changed: run again, and check the disk and memory")
    return CorruptCheckpoint(f"{found}; the file changed while it was read: run again when nothing writes to it")


def row_layout(location: TensorLocation) -> RowLayout:
    """The layout of a tensor's rows, in row order."""
    n_rows, hidden_size = location.shape
    encoding = FLOATS.get(location.dtype) or _quantised_encoding(location.dtype)
    if encoding.name in FLOATS:
        return RowLayout(n_rows, hidden_size, encoding, StoredTensor("row", encoding.name, (hidden_size,)).nbytes)
    return RowLayout(n_rows, hidden_size, encoding, location.nbytes // n_rows)


def _quantised_encoding(dtype: str) -> Encoding:
    return Encoding(dtype, lambda block: canonical_nans(dequantised(block, dtype)))


def measure(
    location: TensorLocation,
    chunks: Iterable[Chunk],
    local_file: Path | None,
    workspace: Path,
    output: ArtifactFolder,
    *,
    dedup: Dedup,
    track: Track,
    stage: Stage,
    first_reading: FirstReading | None = None,
) -> tuple[ResultsOfW, RowNumbers]:
    """Measure W, and publish the tensors that ``output`` lacks. Returns the results, and what was measured of each row.

    Args:
        chunks: the bytes of W in the order in which they are stored at ``location``; in whole rows, if rows lie one
            after another.
        local_file: the local file that holds them, if there is one. Rows are read again from there; or if there is
            none, or W is not in row order, from W's published file in a folder; or else from a copy in ``workspace``.
        first_reading: what W's bytes were when they were read before, if they were.

    Raises:
        TransientError, ConfigError: the store or the disk fails.
        CorruptCheckpoint: the local file changed between the readings.
        SurveyError: ``chunks`` raised it.
    """
    layout = row_layout(location)
    if layout.encoding.name not in FLOATS:
        output = output.with_metadata(encoding=layout.encoding.name)
    row_file = local_file if location.strides is None else None
    published_file = None if row_file else output.path_to_publish("W")
    copy = None if row_file or published_file else workspace / "W"
    digest = xxh3_128(seed=secrets.randbits(64))
    measurement = Measurement(layout.n_rows, layout.hidden_size, layout.encoding, digest)
    with stage("stream W"):
        if location.strides is not None:
            item_nbytes = layout.row_nbytes // layout.hidden_size
            chunks = to_row_major(chunks, workspace, location.shape, location.strides, item_nbytes)
        w_sha256, artifacts = stream_w(chunks, layout, measurement, output, copy, first_reading)
    if published_file:  # W is the last part of it, whoever wrote it with whatever header
        stored = RowFile(published_file, artifacts["W"].size - layout.w.nbytes, layout.n_rows, layout.row_nbytes)
    else:
        begin = location.begin if row_file else 0
        stored = RowFile(row_file or workspace / "W", begin, layout.n_rows, layout.row_nbytes)
    rows_on_disk = MeasuredRows(stored, measurement, is_copy=row_file is None)
    output = output.with_metadata(w_sha256=w_sha256)
    with stage("find black holes"):
        holes, by_value = find_black_holes(measurement, rows_on_disk.read, layout.row_nbytes, dedup)
    with stage("publish small tensors"):
        for name, tensors in small_tensors(measurement, holes, rows_on_disk, layout).items():
            artifacts |= output.publish(name, tensors)
    coordinates = None
    if "projection" in output.to_publish:
        with stage("principal directions"):
            coordinates = find_directions(rows_on_disk, layout, measurement)
    with stage("centre"), ExitStack() as beside:
        gamma = StoredTensor("gamma_centered", "F32", (layout.n_rows, layout.hidden_size))
        norms = np.empty(layout.n_rows, np.float64)
        calls = [beside.enter_context(Behind(coordinates.add))] if coordinates else []
        centred_rows = track(second_pass(rows_on_disk, layout, measurement.mu, norms, calls), gamma.nbytes, gamma.name)
        artifacts |= output.publish(gamma.name, {gamma: centred_rows})
    projection = None
    if coordinates:
        with stage("publish projection"):
            projection = coordinates.finish()
            artifacts |= publish_projection(projection, output)
    if "covariance" in output.to_publish:
        with stage("covariance"):
            artifacts |= publish_covariance(rows_on_disk, layout, measurement.mu, output, track)
    results: ResultsOfW = {
        "w_sha256": w_sha256,
        "statistics": build_statistics(measurement, holes, by_value, norms, projection),
        "black_holes": list_black_holes(measurement, holes),
        "artifacts": {name: artifact_entry(artifact) for name, artifact in artifacts.items()},
    }
    with np.errstate(invalid="ignore", over="ignore"):  # a norm may be too large for float32
        return results, RowNumbers(
            canonical_nans(measurement.norms.astype(np.float32)), canonical_nans(norms.astype(np.float32)), holes.ids
        )


def stream_w(
    chunks: Iterable[Chunk],
    layout: RowLayout,
    measurement: Measurement,
    output: ArtifactFolder,
    copy: Path | None,
    first_reading: FirstReading | None,
) -> tuple[str, dict[str, Artifact]]:
    """The first pass: publish W's rows, measured as they pass; also copy them, if ``copy`` is a path.

    Returns the SHA-256 of W, and its artifact if there is one.

    Raises:
        CorruptCheckpoint: the rows are not those of the first reading.
    """
    sha256, again = hashlib.sha256(), xxhash.xxh3_128(seed=first_reading.seed if first_reading else 0)

    def measured(calls: Iterable[Callable[[Chunk], object]]) -> Iterator[Chunk]:
        for chunk in chunks:
            for call in calls:
                call(chunk)
            measurement.add(np.frombuffer(chunk, np.uint8).reshape(-1, layout.row_nbytes))
            yield chunk

    with ExitStack() as beside:
        calls: list[Callable[[Chunk], None]] = [
            again.update if first_reading else beside.enter_context(Behind(sha256.update))
        ]
        if copy:
            calls.append(beside.enter_context(Behind(beside.enter_context(scratch_copy(copy)))))
        artifacts = output.publish("W", {layout.w: measured(calls)})
    if first_reading is None:
        return sha256.hexdigest(), artifacts
    if again.digest() != first_reading.xxh3_128:
        raise changed_between_readings(first_reading.path, "W", is_copy=False)
    return first_reading.sha256, artifacts


def small_tensors(
    measurement: Measurement, holes: BlackHoles, rows: MeasuredRows, layout: RowLayout
) -> dict[str, dict[StoredTensor, Iterable[Chunk]]]:
    """mu and the black-hole tensors, by artifact."""
    encoding, n_rows = layout.encoding, layout.n_rows
    centroids_dtype = encoding.name if encoding.name in FLOATS else "F32"
    # 0 means "in no hole", so one byte can number 255 holes.
    id_dtype, ids = ("U8", holes.ids.astype(np.uint8)) if holes.n_holes <= 255 else ("I32", holes.ids)
    return {
        "mu": {StoredTensor("mu", "F32", (layout.hidden_size,)): [measurement.mu.tobytes()]},
        "black_holes": {
            StoredTensor("black_hole_mask", "BOOL", (n_rows,)): [(holes.ids > 0).tobytes()],
            StoredTensor("black_hole_id", id_dtype, (n_rows,)): [ids.tobytes()],
            StoredTensor("black_hole_centroids", centroids_dtype, (holes.n_holes, layout.hidden_size)): (
                bytes_of(block if encoding.name in FLOATS else encoding.numbers(block))
                for block in rows.read_blocks(holes.first_members, layout.block_nbytes)
            ),
        },
    }


def find_directions(rows: MeasuredRows, layout: RowLayout, measurement: Measurement) -> Coordinates:
    """The principal directions of γ′, found in a sample of W's rows on disk: what projects all of its rows on them."""
    mu = measurement.mu
    if not np.isfinite(mu).all():  # then γ′ has no finite row
        return Coordinates(np.full((N_DIRECTIONS, layout.hidden_size), np.nan), layout.n_rows)

    def rows_of(ids: range) -> NDArray[np.float32]:
        return centred(rows.read_run(ids), layout.encoding, mu)

    directions = principal_directions(rows_of, layout.n_rows, layout.hidden_size, scale_of(measurement.norms))
    return Coordinates(directions, layout.n_rows)


def second_pass(
    rows: MeasuredRows,
    layout: RowLayout,
    mu: NDArray[np.float32],
    norms: NDArray[np.float64],
    calls: Iterable[Callable[[NDArray[np.float32]], object]],
) -> Iterator[Chunk]:
    """The bytes of γ′, computed from W's rows on disk. Writes the norms of its rows to ``norms``, (n_rows,) float64,
    and makes the ``calls`` with each block of its rows.
    """
    first = 0
    for block in rows.blocks(layout.block_nbytes):
        gamma_block = centred(block, layout.encoding, mu)
        with np.errstate(invalid="ignore", over="ignore"):
            norms[first : first + len(block)] = row_norms(gamma_block.astype(np.float64))
        first += len(block)
        for call in calls:
            call(gamma_block)
        yield bytes_of(gamma_block)


def publish_projection(projection: Projection, output: ArtifactFolder) -> dict[str, Artifact]:
    """Publish the principal directions of γ′ and the coordinates of its rows."""
    content: dict[StoredTensor, NDArray[np.generic]] = {
        StoredTensor("coordinates", "F32", projection.coordinates.shape): projection.coordinates,
        StoredTensor("directions", "F32", projection.directions.shape): projection.directions,
        StoredTensor("explained_variance", "F64", projection.explained_variance.shape): projection.explained_variance,
    }
    # Two runs at once tell by the headers whose file is there; on processors of two kinds the last bits may differ.
    sha256 = hashlib.sha256(b"".join(bytes_of(values) for values in content.values())).hexdigest()
    output = output.with_metadata(projection_sha256=sha256)
    return output.publish("projection", {tensor: [bytes_of(values)] for tensor, values in content.items()})


def publish_covariance(
    rows: MeasuredRows, layout: RowLayout, mu: NDArray[np.float32], output: ArtifactFolder, track: Track
) -> dict[str, Artifact]:
    """Publish the covariance of W's rows about ``mu``, computed from the rows on disk, and its eigenvalues."""
    from job.geometry.covariance import Covariance, eigenvalues_of

    covariance = Covariance(mu)
    for chunk in track(
        map(bytes_of, rows.blocks(layout.block_nbytes)), layout.n_rows * layout.row_nbytes, "covariance"
    ):
        covariance.add(layout.encoding.numbers(np.frombuffer(chunk, np.uint8).reshape(-1, layout.row_nbytes)))
    matrix = covariance.finish()
    eigenvalues = call_beside(partial(eigenvalues_of, matrix)).result()  # else no signal would be heeded meanwhile
    # Two runs at once tell by the headers whose file is there; eigenvalues of one W may differ in their last bits.
    output = output.with_metadata(eigenvalues_sha256=hashlib.sha256(bytes_of(eigenvalues)).hexdigest())
    return output.publish(
        "covariance",
        {
            StoredTensor("covariance", "F64", matrix.shape): map(bytes_of, matrix),
            StoredTensor("eigenvalues", "F64", eigenvalues.shape): [bytes_of(eigenvalues)],
        },
    )


def bytes_of(array: NDArray[np.generic]) -> memoryview:
    """The bytes of an array in C order, without a copy. It may not be changed any more."""
    return array.reshape(-1).view(np.uint8).data
