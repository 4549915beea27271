"""How long one model may take, and how its requests end when its time is over."""

import math
import time
from collections.abc import Callable
from threading import Event

from job.errors import TransientError


class Deadline:
    """The time that one model may take. All threads that read for the model share it.

    ``where`` names the model in the error, and ``stage()`` says what its survey is doing.
    """

    def __init__(
        self, seconds: float = math.inf, where: str = "model", stage: Callable[[], str | None] = lambda: None
    ) -> None:
        self._seconds, self._where, self._stage = seconds, where, stage
        self._ends_at = time.monotonic() + seconds
        self._ended = Event()
        self.last_failure = ""
        """What the request that failed last ended with; empty if none failed since the last that succeeded."""

    @property
    def seconds_left(self) -> float:
        """The time until the deadline; 0 if it has passed, or if the model has ended."""
        return 0.0 if self._ended.is_set() else max(0.0, self._ends_at - time.monotonic())

    def check(self) -> None:
        """Check that the model may go on.

        Raises:
            TransientError: its time is used up, or ``end`` was called.
        """
        if self._ended.is_set():
            raise TransientError(f"{self._where}: its survey has ended, so nothing more is read for it; run again")
        if time.monotonic() >= self._ends_at:
            stage = self._stage()
            raise TransientError(
                f"{self._where}: not done after {self._seconds:,.0f} s"
                + (f" (in the stage '{stage}')" if stage else "")
                + ", expected less"
                + (f"; the last request failed ({self.last_failure})" if self.last_failure else "")
                + "; run again when the servers are faster, or give it a larger MODEL_DEADLINE"
            )

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds. In the main thread, a signal's handler may end the wait by raising.

        Raises:
            TransientError: as ``check``, as soon as it would.
        """
        self._ended.wait(min(seconds, self.seconds_left))
        self.check()

    def end(self) -> None:
        """End what other threads still do for the model: they raise at their next step."""
        self._ended.set()
