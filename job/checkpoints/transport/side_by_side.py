"""Calls made side by side, in threads that keep no ending process alive."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def side_by_side(call: Callable[[Item], Value], items: Iterable[Item], at_once: int) -> Iterator[tuple[Item, Value]]:
    """Each item with ``call(item)``, in the order in which they are done, while up to ``at_once`` are under way.

    The first call to raise ends it with its error. A signal's handler may end the wait by raising, in the main thread;
    the calls that are under way are then left to end by themselves, or with the process.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once} must be positive")
    rest = iter(items)
    done: SimpleQueue[tuple[Item, Future[Value]]] = SimpleQueue()

    def work(item: Item) -> None:
        outcome = Future[Value]()
        try:
            outcome.set_result(call(item))
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited, which would else wait for ever
            outcome.set_exception(error)
        done.put((item, outcome))

    def start(some: Iterable[Item]) -> int:
        # Daemons, unlike an executor's threads: one that waits for a server does not hold up Ctrl-C.
        threads = [Thread(target=work, args=(item,), daemon=True) for item in some]
        for thread in threads:
            thread.start()
        return len(threads)

    under_way = start(islice(rest, at_once))
    while under_way:
        item, outcome = done.get()
        value = outcome.result()
        under_way += start(islice(rest, 1)) - 1
        yield item, value
