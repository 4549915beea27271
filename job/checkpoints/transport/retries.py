"""When a failed read is tried again, and at which byte it goes on. It knows no protocol, and not what is read."""

import logging
import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import TypeVar
from urllib.parse import urlsplit

from job.errors import TransientError, UnsupportedCheckpoint

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class RetryableError(Exception):
    """An attempt failed, but a later one may succeed. The message reads ``where: what was found``."""

    def __init__(self, message: str, *, demanded_wait: float | None = None, too_many_requests: bool = False) -> None:
        super().__init__(message)
        self.too_many_requests = too_many_requests
        """Whether the server refused because all threads together ask it too often."""
        self.demanded_wait = demanded_wait
        """Seconds that the server demands to wait; None if it demands nothing."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try and how long to wait, in seconds.

    The defaults bridge an outage of about two minutes: they wait 1, 2, 4, … 32, 60 s, each time shortened by up to
    half, so that connections that failed together do not all come back together. After a longer outage, whoever started
    the job has to start it again. The Hub counts its rate limits in windows of 300 s, so no server should demand a
    longer wait (https://huggingface.co/docs/hub/rate-limits).
    """

    attempts: int = 8
    """How many attempts in a row may bring no bytes. An attempt that brings some bytes starts the count anew."""
    first_wait: float = 1.0
    max_wait: float = 60.0
    max_demanded_wait: float = 300.0

    def wait(self, failures: int, failure: RetryableError) -> float:
        """Seconds to wait after so many failures in a row. A failure after some progress counts as none."""
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        if failure.demanded_wait is not None:
            return failure.demanded_wait + self.first_wait * jitter
        return min(self.max_wait, self.first_wait * 2.0 ** max(0, failures - 1)) * (0.5 + jitter / 2)


DEFAULT_RETRY = RetryPolicy()


class Cooldown:
    """A time in which nobody may ask a server, because it demanded a wait. All threads that ask the server share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._until = 0.0
        self._cause = ""

    def begin(self, seconds: float, cause: str) -> None:
        """Forbid requests for so many seconds from now. ``cause`` says why, as ``where: what was found``."""
        with self._lock:
            until = time.monotonic() + seconds
            if until > self._until:
                self._until, self._cause = until, cause

    def wait(self, policy: RetryPolicy) -> None:
        """Wait until requests are allowed. The threads that wait go on at different moments within ``first_wait``.

        Raises:
            TransientError: the wait is longer than the policy allows.
        """
        while (left := self._until - time.monotonic()) > 0:
            if left > policy.max_demanded_wait:
                raise TransientError(
                    f"{self._cause}, and nobody may ask the server for {left:,.0f} s, expected at most "
                    f"{policy.max_demanded_wait:,.0f} s; try again after that"
                )
            time.sleep(left + policy.first_wait * random.random())  # noqa: S311 - spreads load, guards nothing


class Cooldowns:
    """The cool-downs of the servers that a run asks: one for each server, shared by all who ask it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cooldowns: dict[str, Cooldown] = {}

    def of(self, url: str) -> Cooldown:
        """The cool-down of the server that an address is on."""
        with self._lock:
            return self._cooldowns.setdefault(urlsplit(url).netloc, Cooldown())


def retry(call: Callable[[], Value], policy: RetryPolicy, cooldown: Cooldown | None = None) -> Value:
    """The value of ``call()``, which is called again while it raises RetryableError.

    Every call waits until ``cooldown`` is over. A wait that the server demands begins it, for all who share it.

    Raises:
        TransientError: the policy's attempts are used up, or the server demands a longer wait than the policy allows.
    """
    cooldown = cooldown or Cooldown()
    failures = 0
    while True:
        cooldown.wait(policy)
        try:
            return call()
        except RetryableError as failure:
            failures += 1
            _wait(failures, failure, policy, cooldown)


def read_resuming(
    read: Callable[[int, int], Generator[bytes, None, None]],
    begin: int,
    end: int,
    *,
    where: str,
    policy: RetryPolicy,
    cooldown: Cooldown | None = None,
) -> bytes:
    """Bytes ``begin`` to ``end``, where ``read(position, end)`` yields them in pieces and may raise RetryableError.

    After a break, the next read starts at the first missing byte. ``cooldown`` is as in ``retry``.

    Raises:
        TransientError: as in ``retry``.
        UnsupportedCheckpoint: more bytes arrive than were requested.
    """
    cooldown = cooldown or Cooldown()
    buffer = BytesIO()  # getvalue() copies nothing; joining a list of pieces would
    failures = 0
    while (position := begin + buffer.tell()) < end:
        cooldown.wait(policy)
        try:
            with closing(read(position, end)) as pieces:
                for piece in pieces:
                    buffer.write(piece)
                    if buffer.tell() > end - begin:
                        raise UnsupportedCheckpoint(
                            f"{where}: found more bytes than the {end - position:,} requested; use another server"
                        )
            if begin + buffer.tell() < end:
                raise RetryableError(f"{where}: the answer ended at byte {begin + buffer.tell():,}, expected {end:,}")
        except RetryableError as failure:
            failures = 0 if begin + buffer.tell() > position else failures + 1
            _wait(failures, failure, policy, cooldown)
    return buffer.getvalue()


def _wait(failures: int, failure: RetryableError, policy: RetryPolicy, cooldown: Cooldown) -> None:
    """Wait before the next attempt. In the main thread, a signal's handler may end the wait by raising."""
    if failures >= policy.attempts:
        raise TransientError(f"{failure}, {failures} times in a row; try again later") from failure
    demanded = failure.demanded_wait
    seconds = policy.wait(failures, failure)
    if demanded is not None or failure.too_many_requests:
        cooldown.begin(demanded if demanded is not None else seconds, str(failure))
    if demanded is not None and demanded > policy.max_demanded_wait:
        raise TransientError(
            f"{failure}, and the server demands a wait of {demanded:,.0f} s, expected at most "
            f"{policy.max_demanded_wait:,.0f} s; try again after that"
        ) from failure
    logger.warning("%s; trying again in %.1f s", failure, seconds)
    time.sleep(seconds)
