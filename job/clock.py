"""Seconds, by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """How long each stage of a survey took, in seconds."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside towards a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = round(self.stages.get(name, 0.0) + time.monotonic() - started, 3)

    @property
    def total(self) -> float:
        """Since the clock was made."""
        return round(time.monotonic() - self._started, 3)
