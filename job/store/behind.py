"""Calls that go on beside the caller: hashing and writing wait for no computation, and no computation for them."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

Value = TypeVar("Value")

MAX_BEHIND: Final = 2
"""How many values wait at most. Each may be a chunk, so this bounds memory."""


class Behind(Generic[Value]):
    """Calls a function with one value after another, in order, in a thread of its own.

    Leaving the ``with`` block waits for all calls. If the block raises, it waits only for the one that is running: the
    caller may close what that call writes to.
    """

    def __init__(self, call: Callable[[Value], object]) -> None:
        self._call = call
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[object]] = deque()

    def __call__(self, value: Value) -> None:
        """Call the function with this value later. Raises what an earlier call raised."""
        self._waiting.append(self._thread.submit(self._call, value))
        self._wait(MAX_BEHIND)

    def wait(self) -> None:
        """Wait for all calls. Raises what one of them raised."""
        self._wait(0)

    def _wait(self, n_left: int) -> None:
        while len(self._waiting) > n_left:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._thread.shutdown(cancel_futures=True)
