"""The seconds that one thread spends on each of several activities."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

Item = TypeVar("Item")

Activity = Literal["source", "computing", "store"]
"""Waiting for the checkpoint's bytes; computing; waiting until the store has taken bytes."""


class Stopwatch:
    """Counts the seconds of one thread by activity. What it is doing within another activity counts only once."""

    def __init__(self) -> None:
        self.seconds: dict[Activity, float] = {"source": 0.0, "computing": 0.0, "store": 0.0}
        self._activities: list[Activity] = []
        self._since = 0.0

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """The code inside is this activity, except where it is inside another one."""
        self._count()
        self._activities.append(activity)
        try:
            yield
        finally:
            self._count()
            self._activities.pop()

    def iterate(self, activity: Activity, items: Iterable[Item]) -> Iterator[Item]:
        """The same items. To get each of them is this activity; what the caller does with it is not."""
        rest = iter(items)
        while True:
            with self.during(activity):
                try:
                    item = next(rest)
                except StopIteration:
                    return
            yield item

    def _count(self) -> None:
        """Add the time since the last change to the innermost activity."""
        now = time.monotonic()
        if self._activities:
            self.seconds[self._activities[-1]] += now - self._since
        self._since = now
