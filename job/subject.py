"""A model while it is surveyed: what to read, where to publish, where to work."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.formats.gguf_rows import dequantised
from job.checkpoints.head.unembedding import Unembedding
from job.checkpoints.transport.ranges import stream_range
from job.geometry.rows import FLOATS, Block, Encoding, canonical_nans
from job.models.references import ModelRef
from job.monitor.progress import ProgressReporter
from job.monitor.stages import StageTimer
from job.settings import Settings
from job.store.store import Store

logger = logging.getLogger(__name__)

CHUNK_NBYTES: Final = 8 << 20
"""A request's worth of bytes: large enough that a round trip of 100 ms costs little, small enough to hold several."""


@dataclass(frozen=True)
class Subject:
    """A pinned model whose W has been found."""

    ref: ModelRef
    checkpoint: Checkpoint
    unembedding: Unembedding
    settings: Settings
    store: Store
    follow: ProgressReporter
    clock: StageTimer
    folder: str
    """Where the survey is filed in the store."""
    scratch: Path
    """A folder for this model alone, gone when its survey ends."""

    @property
    def encoding(self) -> Encoding:
        """How W's rows stand for numbers."""
        dtype = self.unembedding.location.dtype

        def numbers(block: Block) -> torch.Tensor:
            return torch.from_numpy(canonical_nans(dequantised(block, dtype)))

        return FLOATS.get(dtype) or Encoding(dtype, numbers, one_to_one=False)

    def stream(self, location: TensorLocation, name: str) -> Iterator[bytes]:
        """The bytes that a tensor is stored in, in order, several ranges of them in flight, shown as they pass."""
        chunks = stream_range(
            partial(self.checkpoint.fetch, location.file),
            location.begin,
            location.end,
            chunk_nbytes=CHUNK_NBYTES,
            connections=self.settings.connections,
        )
        return self.follow(chunks, location.nbytes, str(self.ref), name)

    def key(self, name: str) -> str:
        """Where an artifact of this survey is filed."""
        return f"{self.folder}/{name}"

    def log(self, stage: str, message: str, *values: object) -> None:
        """Tell of a stage, with the model's name in front and as fields for machines."""
        logger.info("%s: " + message, self.ref, *values, extra={"model": str(self.ref), "stage": stage})
