"""Calls of one function over many items: each is made once, so many at a time, and none after a failure."""

import itertools
import threading
import time
from contextvars import ContextVar

import pytest

from job.checkpoints.transport.parallel import map_as_completed


def test_every_item_comes_once_with_its_value() -> None:
    assert dict(map_as_completed(lambda n: n * n, range(100), 7)) == {n: n * n for n in range(100)}
    assert list(map_as_completed(str, [], 3)) == []


def test_a_slow_call_does_not_hold_up_the_others() -> None:
    release = threading.Event()

    def call(n: int) -> bool:
        return release.wait(10) if n == 0 else True

    results = map_as_completed(call, range(20), 2)
    assert {next(results)[0] for _ in range(19)} == set(range(1, 20))
    release.set()
    assert next(results) == (0, True)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_calls_than_allowed_are_under_way(at_once: int) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.002)
        with lock:
            under_way -= 1

    assert len(list(map_as_completed(call, range(30), at_once))) == 30
    assert most == at_once


def test_items_are_taken_only_as_calls_begin() -> None:
    numbers = itertools.count()
    results = map_as_completed(str, numbers, 4)
    for _ in range(3):
        next(results)
    assert next(numbers) <= 3 + 4


def test_the_first_failure_ends_it() -> None:
    def call(n: int) -> int:
        if n == 3:
            raise KeyError(n)
        return n

    with pytest.raises(KeyError, match="3"):
        list(map_as_completed(call, range(10), 2))


def test_nothing_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="at_once=0"):
        list(map_as_completed(str, [1], 0))


def test_threads_are_used_again_and_know_nothing_of_their_last_call() -> None:
    variable = ContextVar("variable", default="unset")

    def call(_item: int) -> tuple[str, int]:
        before = variable.get()
        variable.set("set")
        return before, threading.get_ident()

    calls = [next(map_as_completed(call, [item], 1))[1] for item in range(50)]
    assert {before for before, _ in calls} == {"unset"}
    assert len({thread for _, thread in calls}) < 25
