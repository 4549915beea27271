"""Reads the body of an answer into a buffer, and gives up a connection that brings too little. It knows no protocol."""

import time
from collections.abc import Generator
from contextlib import suppress
from threading import Event
from types import TracebackType
from typing import Final, Protocol

from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.parallel import run_in_thread
from job.checkpoints.transport.retries import RetryableError, RetryPolicy

FIRST_PIECE_NBYTES: Final = 1 << 12
"""Small beside what the slowest connection brings while it is watched, because a piece counts when it is whole."""
MAX_PIECE_NBYTES: Final = 1 << 18
"""Larger pieces cost no less time, and a connection that is reset loses the piece that it was bringing."""
_QUICK_SECONDS: Final = 0.1


class Body(Protocol):
    """The body of an answer, of urllib3 or of botocore."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read as many bytes as the buffer has, or those until the end; 0 at the end."""

    def shutdown(self) -> None:
        """End a ``readinto`` that another thread waits for."""


def read_body(
    body: Body, buffer: memoryview, where: str, policy: RetryPolicy, deadline: Deadline
) -> Generator[int, None, None]:
    """Read a body into a buffer, until one of them ends. Yields the number of bytes of each piece.

    ``readinto`` returns when the whole piece has come, however slowly. So pieces are small while bytes come slowly, and
    a thread watches.

    Raises:
        RetryableError: less than ``min_rate`` bytes a second came for ``slow_seconds``.
        TransientError: the deadline has passed.
    """
    piece_nbytes = FIRST_PIECE_NBYTES
    with _Watch(body, len(buffer), where, policy, deadline) as watch:
        while watch.position < len(buffer):
            began = time.monotonic()
            nbytes = body.readinto(buffer[watch.position : watch.position + piece_nbytes])
            if not nbytes:
                break
            watch.position += nbytes
            yield nbytes
            is_quick = time.monotonic() - began < _QUICK_SECONDS
            piece_nbytes = min(2 * piece_nbytes, MAX_PIECE_NBYTES) if is_quick else FIRST_PIECE_NBYTES


class _Watch:
    """Shuts a body down when it brings too little, or when the deadline has passed."""

    def __init__(self, body: Body, nbytes: int, where: str, policy: RetryPolicy, deadline: Deadline) -> None:
        self.position = 0
        """How many of the ``nbytes`` bytes have come."""
        self._body, self._nbytes, self._where, self._policy, self._deadline = body, nbytes, where, policy, deadline
        self._ended, self._failure = Event(), ""

    def __enter__(self) -> "_Watch":
        run_in_thread(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._failure and self.position < self._nbytes and kind is not GeneratorExit:
            self._deadline.check()
            raise RetryableError(self._failure) from error

    def _run(self) -> None:
        while True:
            began, before = time.monotonic(), self.position
            if self._ended.wait(min(self._policy.slow_seconds, self._deadline.seconds_left)):
                return
            seconds, nbytes = time.monotonic() - began, self.position - before
            if nbytes < self._policy.min_rate * seconds or not self._deadline.seconds_left:
                self._failure = (
                    f"{self._where}: found {nbytes:,} bytes in {seconds:,.1f} s, expected at least "
                    f"{self._policy.min_rate:,.0f} bytes a second"
                )
                with suppress(RuntimeError, ValueError):  # urllib3's, if the body has just ended
                    self._body.shutdown()
                return
