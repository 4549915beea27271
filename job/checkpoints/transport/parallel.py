"""Several calls at once: of one function over many items, and of a fetch over the chunks of one long range.

Or one call that may take only so long.

They run in daemon threads: unlike an executor's, a call that waits for a server does not keep an ending process alive.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")

_IDLE: Final[list[SimpleQueue[Callable[[], None]]]] = []
"""Where each idle thread waits for its next call."""
_IDLE_SECONDS: Final = 10.0
"""After that, an idle thread ends."""


def map_as_completed(
    call: Callable[[Item], Value], items: Iterable[Item], at_once: int
) -> Iterator[tuple[Item, Value]]:
    """Each item with ``call(item)``, in the order in which the calls end. Up to ``at_once`` calls run at once.

    The first call to raise ends the iteration with its error. In the main thread, a signal's handler may end the wait
    by raising. The calls that are running then go on until they or the process end.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once} must be positive")
    rest = iter(items)
    done: SimpleQueue[tuple[Item, Future[Value]]] = SimpleQueue()
    n_running = 0

    def start(count: int) -> None:
        nonlocal n_running
        for item in islice(rest, count):
            _start(call, item, done)
            n_running += 1

    start(at_once)
    while n_running:
        item, outcome = done.get()
        value = outcome.result()
        n_running -= 1
        start(1)
        yield item, value


def stream_range(
    fill: Callable[[int, memoryview], None], begin: int, end: int, *, chunk_nbytes: int, connections: int
) -> Iterator[memoryview]:
    """Bytes ``begin`` to ``end`` in order, in chunks of ``chunk_nbytes`` (the last may be shorter).

    ``fill(begin, chunk)`` fills a chunk with the bytes from ``begin`` on. Each chunk has memory of its own: it is the
    caller's from then on.

    Up to ``connections`` chunks are being filled or wait for their turn while the caller holds one more. The first
    ``fill`` to fail ends the stream with its error, even when an earlier chunk is still being filled. When the caller
    abandons the stream, the calls that are running go on until they end.
    """
    if chunk_nbytes < 1 or connections < 1:
        raise ValueError(f"chunk_nbytes={chunk_nbytes} and connections={connections} must both be positive")
    return _stream(fill, range(begin, end, chunk_nbytes), end, connections)


def _stream(fill: Callable[[int, memoryview], None], starts: range, end: int, connections: int) -> Iterator[memoryview]:
    import numpy as np  # not needed by a process that streams nothing

    done: SimpleQueue[tuple[int, Future[memoryview]]] = SimpleQueue()
    early: dict[int, memoryview] = {}

    def begin_chunk(start: int) -> None:
        # In the caller's thread, because malloc keeps freed memory for the thread that asked for it. Not filled with
        # zeros, as a bytearray is.
        chunk = np.empty(min(starts.step, end - start), np.uint8).data

        def filled(start: int) -> memoryview:
            fill(start, chunk)
            return chunk

        _start(filled, start, done)

    for start in starts[:connections]:
        begin_chunk(start)
    for index, start in enumerate(starts):
        while start not in early:
            arrived, outcome = done.get()
            early[arrived] = outcome.result()
            del outcome  # it holds the chunk too
        for later in starts[index + connections : index + connections + 1]:
            begin_chunk(later)
        yield early.pop(start)


def call_within(
    call: Callable[[], Value], seconds: float, discard: Callable[[Value], object] = lambda _: None
) -> Value:
    """The value of ``call()``, if it comes within so many seconds.

    A call that takes longer goes on in its thread until it ends by itself; its value is then given to ``discard``. In
    the main thread, a signal's handler may end the wait by raising.

    Raises:
        TimeoutError: no value came in time.
    """
    outcome = Future[Value]()

    def run() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is awaited
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)
        else:
            if outcome.set_running_or_notify_cancel():
                outcome.set_result(value)
            else:
                discard(value)

    run_in_thread(run)
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.cancel():
            raise
        return outcome.result()  # it came at the last moment, or is itself a TimeoutError
    finally:
        outcome.cancel()


def call_beside(call: Callable[[], Value]) -> Future[Value]:
    """Begin a call. Its value, or what it raised, is the outcome's."""
    outcome = Future[Value]()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is awaited, which would else never come
            outcome.set_exception(error)

    run_in_thread(run)
    return outcome


def _start(call: Callable[[Item], Value], item: Item, done: SimpleQueue[tuple[Item, Future[Value]]]) -> None:
    """Begin a call. When it ends, its item and its outcome are put into ``done``."""
    call_beside(partial(call, item)).add_done_callback(lambda outcome: done.put((item, outcome)))


def run_in_thread(call: Callable[[], None]) -> None:
    """Make a call, which must not raise, in a daemon thread: an idle one, because to start one takes as long as to read
    100 kB."""
    try:
        calls = _IDLE.pop()
    except IndexError:
        calls = SimpleQueue()
        Thread(target=_make_calls, args=(calls,), daemon=True).start()
    calls.put(call)


def _make_calls(calls: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        try:
            call = calls.get(timeout=_IDLE_SECONDS)
        except Empty:
            with suppress(ValueError):  # not there: somebody has just taken it, and a call will come
                _IDLE.remove(calls)
                return
            call = calls.get()
        Context().run(call)  # as in a new thread: nothing that the last call has set
        del call  # it may hold a chunk
        _IDLE.append(calls)
