"""What is seen of one model while it is surveyed: stages and their seconds, how far its bytes have come, log lines."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from job.monitor.progress import ProgressReporter

logger = logging.getLogger(__name__)


class ModelMonitor:
    """Tells progress, metrics and log where the survey of a model is."""

    def __init__(self, model: str, progress: ProgressReporter) -> None:
        self._model, self._progress, self._metrics = model, progress, progress.metrics
        self._started = time.monotonic()
        self.seconds: dict[str, float] = {}
        """What each stage took."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside towards a stage."""
        started = time.monotonic()
        self._metrics.begin_stage(name)
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
            self._metrics.end_stage(name, seconds)

    def track(self, chunks: Iterable[bytes], nbytes: int, label: str) -> Iterator[bytes]:
        """The same chunks, ``nbytes`` bytes in all, shown under a label as they pass."""
        return self._progress.track(self._model, chunks, nbytes, label)

    def count_fetched(self, bytes_fetched: Callable[[], int]) -> None:
        """The checkpoint is open: ``bytes_fetched()`` is how many of its bytes were fetched so far."""
        self._metrics.fetch_from(bytes_fetched)

    def log(self, stage: str, message: str, *values: object) -> None:
        """Log what a stage found, with the model's name in front and as fields for machines."""
        logger.info("%s: " + message, self._model, *values, extra={"model": self._model, "stage": stage})

    @property
    def total_seconds(self) -> float:
        """Since the survey began."""
        return round(time.monotonic() - self._started, 3)
