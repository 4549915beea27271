"""Watches the survey of one model: its stages and their durations, its deadline, its progress, and its log lines."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from job.checkpoints.transport.deadline import Deadline
from job.manifest.schema import ActivitySeconds
from job.monitor.progress import ProgressReporter
from job.store.stopwatch import Stopwatch
from job.store.store import Chunk

logger = logging.getLogger(__name__)


class ModelMonitor:
    """Reports to progress bars, metrics and the log where the survey of a model is.

    The survey ends with TransientError ``max_seconds`` seconds from now, wherever it is: at the next chunk or stage.
    """

    def __init__(self, model: str, progress: ProgressReporter, max_seconds: float = math.inf) -> None:
        self._model, self._progress, self._metrics = model, progress, progress.metrics
        self._stage: str | None = None
        self.deadline = Deadline(max_seconds, model, lambda: self._stage)
        self._started = time.monotonic()
        self.seconds: dict[str, float] = {}
        """The duration of each stage."""
        self.stopwatch = Stopwatch()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The code inside belongs to this stage."""
        started = time.monotonic()
        self._metrics.begin_stage(name)
        self._stage = name
        self.deadline.check()
        try:
            yield
        finally:
            self._stage = None
            seconds = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
            self._metrics.end_stage(name, seconds)

    def track(self, chunks: Iterable[Chunk], nbytes: int, label: str) -> Iterator[Chunk]:
        """The same chunks, ``nbytes`` bytes in all. Their progress is shown as ``label``."""
        return self._progress.track(self._model, self._until_deadline(chunks), nbytes, label)

    def _until_deadline(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self.deadline.check()
            yield chunk

    def count_fetched(self, bytes_fetched: Callable[[], int]) -> None:
        """Count the bytes fetched from the model's checkpoint; ``bytes_fetched()`` is their number so far."""
        self._metrics.count_fetched(bytes_fetched)

    def log(self, stage: str, message: str, *values: object) -> None:
        """Log a result of a stage. The line begins with the model's name, and has the model and stage as fields."""
        logger.info("%s: " + message, self._model, *values, extra={"model": self._model, "stage": stage})

    @property
    def activity_seconds(self) -> ActivitySeconds:
        """What bounds the survey so far."""
        source, computing, store = (round(seconds, 3) for seconds in self.stopwatch.seconds.values())
        return {"source": source, "computing": computing, "store": store}

    @property
    def total_seconds(self) -> float:
        """The time since the survey began."""
        return round(time.monotonic() - self._started, 3)
