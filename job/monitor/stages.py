"""The stages of a model's survey, and the seconds they take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from job.monitor.metrics import Metrics


class StageTimer:
    """How long each stage of a survey took, in seconds. It tells the metrics which stage is under way."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside towards a stage."""
        started = time.monotonic()
        self._metrics.begin_stage(name)
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self.stages[name] = round(self.stages.get(name, 0.0) + seconds, 3)
            self._metrics.end_stage(name, seconds)

    @property
    def total(self) -> float:
        """Since the timer was made."""
        return round(time.monotonic() - self._started, 3)
