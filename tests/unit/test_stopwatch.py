"""What a survey spends its time on is counted once, for the activity that it is really in."""

import time
from collections.abc import Iterator

import pytest

from job.store.stopwatch import Stopwatch

SECONDS = 0.02


def slow(times: int) -> Iterator[int]:
    for number in range(times):
        time.sleep(SECONDS)
        yield number


def test_time_counts_for_the_innermost_activity_and_only_once() -> None:
    stopwatch, began = Stopwatch(), time.monotonic()

    def computed() -> Iterator[int]:
        for number in stopwatch.iterate("source", slow(3)):
            time.sleep(SECONDS)
            yield number

    with stopwatch.during("store"):
        for _ in stopwatch.iterate("computing", computed()):
            time.sleep(SECONDS)
    assert min(stopwatch.seconds.values()) >= 3 * SECONDS
    assert sum(stopwatch.seconds.values()) <= time.monotonic() - began


def test_an_activity_ends_with_the_error_that_ends_it() -> None:
    stopwatch = Stopwatch()

    def breaks() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"), stopwatch.during("computing"):
        list(stopwatch.iterate("source", breaks()))
    before = dict(stopwatch.seconds)
    time.sleep(SECONDS)
    with stopwatch.during("store"):
        pass
    assert stopwatch.seconds["source"] == before["source"]
    assert stopwatch.seconds["computing"] == before["computing"]
