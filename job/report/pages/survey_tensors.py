"""What a page shows of a survey's tensors: coordinates, the hole of each row, distances between holes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.safetensors_header import LENGTH_NBYTES, header_end, parse_header
from job.geometry.distances import distances
from job.geometry.rows import FLOATS

MAX_HOLES: Final = 200
"""The number of holes, the most populous ones, whose distances are shown."""
_INTEGERS: Final[Mapping[str, type[np.integer]]] = {"U8": np.uint8, "I32": np.int32}
_FIRST_READ_NBYTES: Final = 1 << 16
_MAX_NBYTES: Final = 64 << 20
"""How much of a file is read for one tensor."""


@dataclass(frozen=True)
class TensorFile:
    """A published safetensors file."""

    where: str
    """Its address, for messages."""
    nbytes: int
    read_begin: Callable[[int], bytes]
    """Reads this many of its first bytes."""

    def rows(self, name: str, n_rows: int | None = None) -> NDArray[np.generic] | None:
        """A tensor, or its first rows, as numbers. None if it lies too far behind other tensors to be read for a page.

        Raises:
            SurveyError: the file is damaged.
            KeyError: it has no such tensor.
        """
        location = self._locate(name)
        shape = location.shape if n_rows is None else (min(n_rows, location.shape[0]), *location.shape[1:])
        row_nbytes = (location.end - location.begin) // max(1, location.shape[0])
        end = location.begin + row_nbytes * shape[0]
        if end > _MAX_NBYTES:
            return None
        content = self.read_begin(end)
        if len(content) < end:
            raise ValueError(f"{self.where}: found {len(content):,} bytes, expected {end:,} or more")
        stored = np.frombuffer(content, np.uint8, end - location.begin, location.begin).copy()
        if location.dtype in FLOATS:
            return FLOATS[location.dtype].numbers(stored.reshape(1, -1)).reshape(shape)
        return stored.view(_INTEGERS[location.dtype]).reshape(shape)

    def _locate(self, name: str) -> TensorLocation:
        begin = self.read_begin(_FIRST_READ_NBYTES)
        end = header_end(begin, self.nbytes, self.where)
        header = (begin if end <= len(begin) else self.read_begin(end))[LENGTH_NBYTES:end]
        return parse_header(header, self.where, self.nbytes, self.where)[name]


def hole_distances(black_holes: TensorFile) -> NDArray[np.float32] | None:
    """(h, h) float32: the distances between the centroids of the first holes. None if there are not two."""
    centroids = black_holes.rows("black_hole_centroids", MAX_HOLES)
    if centroids is None or len(centroids) < 2:
        return None
    return distances(centroids.astype(np.float64))


def hole_ids(black_holes: TensorFile) -> NDArray[np.int32] | None:
    """(n_rows,) int32: each row's hole. None if they lie too far behind the centroids."""
    ids = black_holes.rows("black_hole_id")
    return None if ids is None else ids.astype(np.int32)


def row_coordinates(projection: TensorFile) -> NDArray[np.float32] | None:
    """(n_rows, 3) float32: the rows of γ′ along the first principal directions. None if they are too many."""
    coordinates = projection.rows("coordinates")
    return None if coordinates is None else coordinates.astype(np.float32)
