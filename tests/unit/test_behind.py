"""Calls beside the caller come in order, and their errors reach it."""

import time

import pytest

from job.store.behind import Behind


def test_what_goes_on_beside_the_caller_comes_in_order_and_is_whole_at_the_end() -> None:
    found: list[int] = []
    with Behind(found.append) as add:
        for number in range(100):
            add(number)
    assert found == list(range(100))


def test_an_error_beside_the_caller_reaches_it() -> None:
    def refuse(number: int) -> None:
        if number == 3:
            raise OSError("disk full")

    done: list[int] = []

    def write_all() -> None:
        with Behind(refuse) as write:
            for number in range(100):
                write(number)
                done.append(number)

    with pytest.raises(OSError, match="disk full"):
        write_all()
    assert len(done) < 10


def test_no_call_runs_any_more_when_the_callers_error_is_raised() -> None:
    running: list[int] = []

    def work(number: int) -> None:
        running.append(number)
        time.sleep(0.02)
        running.remove(number)

    def interrupted() -> None:
        with Behind(work) as later:
            later(1)
            later(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert running == []
