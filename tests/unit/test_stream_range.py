"""Ranges as streams of chunks, over plain functions: order, number at once, errors, and being abandoned."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import shake_256
from threading import Barrier, Event, Lock
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.checkpoints.transport.parallel import stream_range
from job.errors import CorruptCheckpoint, Terminated

CONTENT = shake_256(b"content").digest(1_000)


def fill_content(begin: int, chunk: memoryview) -> None:
    chunk[:] = CONTENT[begin : begin + len(chunk)]


@settings(deadline=None)
@given(
    limits=st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)).map(sorted),
    chunk_nbytes=st.integers(1, 1_100),
    connections=st.integers(1, 12),
)
def test_chunks_are_the_range_in_order_and_all_but_the_last_are_of_full_length(
    limits: list[int], chunk_nbytes: int, connections: int
) -> None:
    begin, end = limits
    chunks = list(stream_range(fill_content, begin, end, chunk_nbytes=chunk_nbytes, connections=connections))
    assert b"".join(chunks) == CONTENT[begin:end]
    assert all(len(chunk) == chunk_nbytes for chunk in chunks[:-1])
    assert not chunks or 1 <= len(chunks[-1]) <= chunk_nbytes


def test_as_many_chunks_are_fetched_at_once_as_there_are_connections() -> None:
    together = Barrier(4, timeout=5)

    def fill(begin: int, chunk: memoryview) -> None:
        together.wait()  # nobody returns before four have come
        fill_content(begin, chunk)

    assert b"".join(stream_range(fill, 0, 800, chunk_nbytes=100, connections=4)) == CONTENT[:800]


def test_a_slow_reader_holds_no_more_chunks_than_connections_and_the_one_it_works_on() -> None:
    lock = Lock()
    fetched: list[int] = []

    def fill(begin: int, chunk: memoryview) -> None:
        with lock:
            fetched.append(begin)
        fill_content(begin, chunk)

    for taken, _ in enumerate(stream_range(fill, 0, 1_000, chunk_nbytes=50, connections=3), start=1):
        time.sleep(0.01)
        assert len(fetched) <= taken + 3
    assert sorted(fetched) == list(range(0, 1_000, 50))


def test_chunks_that_arrive_out_of_order_are_delivered_in_order() -> None:
    later_came = Event()

    def fill(begin: int, chunk: memoryview) -> None:
        if begin == 0:
            assert later_came.wait(5)
        if begin == 200:
            later_came.set()
        fill_content(begin, chunk)

    assert b"".join(stream_range(fill, 0, 300, chunk_nbytes=100, connections=3)) == CONTENT[:300]


def test_an_error_ends_the_stream_even_while_an_earlier_chunk_stalls() -> None:
    released = Event()

    def fill(begin: int, chunk: memoryview) -> None:
        if begin == 200:
            raise CorruptCheckpoint("model: broken")
        if begin == 100:
            released.wait(30)
        fill_content(begin, chunk)

    began = time.monotonic()
    with pytest.raises(CorruptCheckpoint, match="model: broken"):
        list(stream_range(fill, 0, 300, chunk_nbytes=100, connections=3))
    assert time.monotonic() - began < 5
    released.set()


def test_a_bug_in_a_fetch_is_raised_where_the_chunk_is_awaited() -> None:
    def fill(begin: int, chunk: memoryview) -> None:
        fill_content(begin // 0, chunk)

    with pytest.raises(ZeroDivisionError):
        list(stream_range(fill, 0, 300, chunk_nbytes=100, connections=2))


@pytest.mark.parametrize("numbers", [{"chunk_nbytes": 0, "connections": 1}, {"chunk_nbytes": 1, "connections": 0}])
def test_numbers_that_make_no_stream_are_refused_at_the_call(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must both be positive"):
        stream_range(fill_content, 0, 1, **numbers)


def test_nothing_is_fetched_after_the_stream_is_abandoned() -> None:
    fetched: list[int] = []

    def fill(begin: int, chunk: memoryview) -> None:
        fetched.append(begin)
        fill_content(begin, chunk)

    stream = stream_range(fill, 0, 1_000, chunk_nbytes=10, connections=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # an Iterator by its type, a generator by its nature
    time.sleep(0.05)
    assert sorted(fetched) == [0, 10, 20]


@contextmanager
def terminated_after(seconds: float) -> Iterator[None]:
    """Raise Terminated in the main thread, as the handler of a signal does."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGALRM, terminate)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_signal_ends_the_wait_for_a_stalled_chunk() -> None:
    released = Event()

    def fill(begin: int, chunk: memoryview) -> None:
        released.wait(30)
        fill_content(begin, chunk)

    began = time.monotonic()
    with pytest.raises(Terminated), terminated_after(0.2):
        list(stream_range(fill, 0, 300, chunk_nbytes=100, connections=3))
    assert time.monotonic() - began < 5
    released.set()
