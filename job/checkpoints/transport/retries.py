"""When a failed read is tried again, and at which byte it goes on. It knows no protocol, and not what is read."""

import logging
import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.errors import SurveyError, TransientError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class RetryableError(Exception):
    """An attempt failed, but a later one may succeed. The message reads ``where: what was found``."""

    def __init__(
        self,
        message: str,
        *,
        demanded_wait: float | None = None,
        too_many_requests: bool = False,
        refusal: SurveyError | None = None,
        explained: bool = False,
        server: str | None = None,
    ) -> None:
        super().__init__(message)
        self.too_many_requests = too_many_requests
        """Whether the server refused because all threads together ask it too often."""
        self.demanded_wait = demanded_wait
        """Seconds that the server demands to wait; None if it demands nothing."""
        self.refusal = refusal
        """What the answer means if it is repeated; None if no number of repetitions makes it final."""
        self.explained = explained
        """Whether the server said why it refuses. If not, the answer may be that of a proxy in trouble."""
        self.server = server
        """The server that could not be reached; None if there was an answer."""

    @classmethod
    def unless_repeated(cls, refusal: SurveyError, *, explained: bool) -> "RetryableError":
        """The failure by an answer that is final if it is repeated."""
        return cls(str(refusal), refusal=refusal, explained=explained)


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try and how long to wait, in seconds.

    The defaults bridge an outage of about two minutes: they wait 1, 2, 4, … 32, 60 s, each time shortened by up to
    half, so that connections that failed together do not all come back together. After a longer outage, whoever started
    the job has to start it again. The Hub counts its rate limits in windows of 300 s, so no server should demand a
    longer wait (https://huggingface.co/docs/hub/rate-limits).

    A refusal is believed when it is repeated. If the server says why (a gated model, a wrong token), once more is
    enough. If it does not (a bare 401, a page instead of JSON, 200 for a range), it may come from a proxy or a balancer
    in trouble: that is tried as often as an outage, but within half a minute, since it is mostly a wrong address.
    """

    attempts: int = 8
    """How many attempts in a row may bring no progress. Progress is ``progress_nbytes`` bytes, at ``min_rate``."""
    first_wait: float = 1.0
    max_wait: float = 60.0
    max_demanded_wait: float = 300.0
    confirmations: int = 2
    """How often in a row a refusal must come to be believed: at once with a reason, else at the end of all attempts."""
    max_wait_after_refusal: float = 8.0
    min_rate: float = 1024.0
    """Bytes a second. A connection that brings less for ``slow_seconds`` is given up, and so is an attempt."""
    slow_seconds: float = 60.0
    answer_seconds: float = 180.0
    """How long a short answer may take as a whole, such as the description of a model."""

    @property
    def progress_nbytes(self) -> float:
        """What the slowest connection brings before it is given up."""
        return self.min_rate * self.slow_seconds

    def wait(self, failures: int, failure: RetryableError) -> float:
        """Seconds to wait after so many failures in a row. A failure after some progress counts as none."""
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        if failure.demanded_wait is not None:
            return failure.demanded_wait + self.first_wait * jitter
        max_wait = min(self.max_wait, self.max_wait_after_refusal) if failure.refusal else self.max_wait
        return min(max_wait, self.first_wait * 2.0 ** max(0, failures - 1)) * (0.5 + jitter / 2)


DEFAULT_RETRY = RetryPolicy()


def retry(
    call: Callable[[], Value],
    policy: RetryPolicy,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
) -> Value:
    """The value of ``call()``, which is called again while it raises RetryableError.

    Every call waits until ``cooldown`` is over. A wait that the server demands begins it, for all who share it.

    Raises:
        TransientError: the policy's attempts are used up, the server demands a longer wait than the policy allows, the
            server could not be reached before, or the deadline has passed.
        SurveyError: the refusal of a RetryableError was repeated.
    """
    failures = _Failures(policy, cooldown or Cooldown(), deadline or Deadline())
    while True:
        failures.cool_down()
        try:
            value = call()
        except RetryableError as failure:
            failures.count(failure)
            failures.wait(failure)
        else:
            failures.deadline.last_failure = ""
            return value


def read_resuming(
    read: Callable[[int, memoryview], Generator[int, None, None]],
    begin: int,
    buffer: memoryview,
    *,
    where: str,
    policy: RetryPolicy,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
) -> None:
    """Fill a buffer with the bytes from ``begin`` on.

    ``read(position, rest)`` makes one request for the rest of the buffer, reads its answer into it, yields the number
    of bytes of each piece, and may raise RetryableError. After a break, the next request starts at the first missing
    byte. ``cooldown`` and ``deadline`` are as in ``retry``.

    Raises:
        TransientError, SurveyError: as in ``retry``.
    """
    failures = _Failures(policy, cooldown or Cooldown(), deadline or Deadline())
    filled = progress = 0
    while filled < len(buffer):
        failures.cool_down()
        began, before = time.monotonic(), filled
        try:
            with closing(read(begin + filled, buffer[filled:])) as pieces:
                for nbytes in pieces:
                    filled += nbytes
                    failures.deadline.check()
            if filled < len(buffer):
                raise RetryableError(
                    f"{where}: the answer ended at byte {begin + filled:,}, expected {begin + len(buffer):,}"
                )
        except RetryableError as failure:
            nbytes = filled - before
            progress += nbytes if nbytes >= policy.min_rate * (time.monotonic() - began) else 0
            if progress >= policy.progress_nbytes:
                progress = 0
                failures.forget()
            else:
                failures.count(failure)
            failures.wait(failure)
    failures.deadline.last_failure = ""


class _Failures:
    """The failures of one call in a row."""

    def __init__(self, policy: RetryPolicy, cooldown: Cooldown, deadline: Deadline) -> None:
        self.policy, self.cooldown, self.deadline = policy, cooldown, deadline
        self.forget()

    def forget(self) -> None:
        """There was progress."""
        self._number = self._refusals = self._unreached = 0

    def cool_down(self) -> None:
        """Wait until the server may be asked.

        Raises:
            TransientError: that takes longer than the policy allows, or than the deadline.
        """
        self.cooldown.wait(self.policy.max_demanded_wait, self.policy.first_wait, self.deadline)

    def count(self, failure: RetryableError) -> None:
        """Count one more.

        Raises:
            SurveyError: it was the last that the policy allows.
        """
        self._number += 1
        self._refusals = self._refusals + 1 if failure.refusal else 0
        self._unreached += failure.server is not None
        is_repeated = self._refusals >= min(self.policy.confirmations, self.policy.attempts)
        if failure.refusal and is_repeated and (failure.explained or self._number >= self.policy.attempts):
            raise failure.refusal from failure
        unreachable = self.cooldown.unreachable
        is_known = failure.server is not None and unreachable.holds(failure.server)
        if self._number < self.policy.attempts and not is_known:
            return
        server = failure.server if is_known or self._unreached == self._number else None
        if server is not None:
            unreachable.add(server, str(failure))
        times = "once more" if is_known else f"{self._number} times in a row"
        raise TransientError(f"{failure}, {times}; try again later", server=server) from failure

    def wait(self, failure: RetryableError) -> None:
        """Wait before the next attempt. In the main thread, a signal's handler may end the wait by raising.

        Raises:
            TransientError: the server demands a longer wait than the policy allows, or the deadline passes.
        """
        policy, demanded = self.policy, failure.demanded_wait
        seconds = policy.wait(self._number, failure)
        if demanded is not None or failure.too_many_requests:
            self.cooldown.begin(demanded if demanded is not None else seconds, str(failure))
        if demanded is not None and demanded > policy.max_demanded_wait:
            raise TransientError(
                f"{failure}, and the server demands a wait of {demanded:,.0f} s, expected at most "
                f"{policy.max_demanded_wait:,.0f} s; try again after that"
            ) from failure
        level = logging.INFO if failure.explained else logging.WARNING
        logger.log(level, "%s; trying again in %.1f s", failure, seconds)
        self.deadline.last_failure = str(failure)
        self.deadline.sleep(seconds)
