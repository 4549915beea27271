"""A model while it is surveyed: what to read, where to publish, where to work."""

import logging
from dataclasses import dataclass
from pathlib import Path

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.unembedding import Unembedding
from job.clock import Clock
from job.models.references import ModelRef
from job.report.progress import Follow
from job.settings import Settings
from job.store.manifest import ContentIdentity
from job.store.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A pinned model whose W has been found."""

    ref: ModelRef
    checkpoint: Checkpoint
    unembedding: Unembedding
    settings: Settings
    store: Store
    follow: Follow
    clock: Clock
    scratch: Path
    """A folder for this model alone, gone when its survey ends."""

    @property
    def identity(self) -> ContentIdentity:
        location = self.unembedding.location
        return ContentIdentity(self.checkpoint.files[location.file].content_id, location.begin, location.end)

    def key(self, name: str) -> str:
        """Where an artifact of this commit is filed."""
        return f"{self.checkpoint.repo_id}/{self.checkpoint.commit}/{name}"

    def log(self, stage: str, message: str, *values: object) -> None:
        """Tell of a stage, with the model's name in front and as fields for machines."""
        logger.info("%s: " + message, self.ref, *values, extra={"model": str(self.ref), "stage": stage})
