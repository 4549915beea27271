"""What all who ask a server must know of it: that it demanded a wait, or that it could not be reached."""

import random
import time
from threading import Lock
from urllib.parse import urlsplit

from job.checkpoints.transport.deadline import Deadline
from job.errors import TransientError


class UnreachableServers:
    """The servers that could not be reached, each in spite of all attempts. No other model tries so long again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._causes: dict[str, str] = {}
        self._on_trial: set[str] = set()

    def add(self, server: str, cause: str) -> None:
        """Nobody may ask this server any more. ``cause`` says why, as ``where: what was found``."""
        with self._lock:
            self._causes[server] = cause
            self._on_trial.discard(server)

    def remove(self, server: str) -> None:
        """The server has answered."""
        if server in self._causes:
            with self._lock:
                self._causes.pop(server, None)
                self._on_trial.discard(server)

    def check(self, server: str) -> None:
        """Check that a server may be asked.

        Raises:
            TransientError: it could not be reached before.
        """
        cause = self._causes.get(server)
        if cause is not None and server not in self._on_trial:
            raise TransientError(
                f"{server}: not asked, because it could not be reached before ({cause}); check the network and the "
                "server, and run again",
                server=server,
            )

    def ask_again(self) -> None:
        """From now on, each server may be asked again, but one failure is enough to give it up."""
        with self._lock:
            self._on_trial = set(self._causes)

    def holds(self, server: str) -> bool:
        """Whether the server could not be reached before, so that one more failure is enough to give it up."""
        return server in self._causes


class Cooldown:
    """A time in which nobody may ask a server, because it demanded a wait. All threads that ask the server share it."""

    def __init__(self, unreachable: UnreachableServers | None = None) -> None:
        self._lock = Lock()
        self._until = 0.0
        self._cause = ""
        self.unreachable = unreachable or UnreachableServers()
        """Of all servers of the run: the one that the cool-down is of leads to others, such as a CDN's."""

    def begin(self, seconds: float, cause: str) -> None:
        """Forbid requests for so many seconds from now. ``cause`` says why, as ``where: what was found``."""
        with self._lock:
            until = time.monotonic() + seconds
            if until > self._until:
                self._until, self._cause = until, cause

    def wait(self, max_seconds: float, spread: float, deadline: Deadline) -> None:
        """Wait until requests are allowed. The threads that wait go on at different moments within ``spread`` seconds.

        Raises:
            TransientError: the wait is longer than ``max_seconds``, or the deadline has passed.
        """
        deadline.check()
        while (left := self._until - time.monotonic()) > 0:
            if left > max_seconds:
                raise TransientError(
                    f"{self._cause}, and nobody may ask the server for {left:,.0f} s, expected at most "
                    f"{max_seconds:,.0f} s; try again after that"
                )
            deadline.sleep(left + spread * random.random())  # noqa: S311 - spreads load, guards nothing


class Cooldowns:
    """The cool-downs of the servers that a run asks: one for each server, shared by all who ask it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cooldowns: dict[str, Cooldown] = {}
        self.unreachable = UnreachableServers()

    def of(self, url: str) -> Cooldown:
        """The cool-down of the server that an address is on."""
        with self._lock:
            return self._cooldowns.setdefault(urlsplit(url).netloc, Cooldown(self.unreachable))
