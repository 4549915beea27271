"""How this process ends: its exit status, what a signal does, and standard streams that nobody reads.

What decides first on the exit status is right: a signal, or the end of the run. Nothing that comes later changes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from select import select
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Final, TextIO

from job.errors import Terminated

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_SECONDS = 25
"""What a stopped run has for leaving the store clean. Kubernetes and Docker kill after 30 and 10 by default; a store
that hangs would keep it longer, and what it leaves then, a later run removes."""
LAST_SECONDS = 8
"""What a run still has if it had ended when the signal came. A Pushgateway takes 5 seconds at most; whoever should read
standard output may take for ever."""

HANDLER_SECONDS = 1
"""What the main thread has for calling a signal's handler."""


class Ending:
    """The exit status of this process, as soon as it is decided."""

    def __init__(self) -> None:
        self.status: int | None = None
        """None until it is decided."""
        self.by_signal = False
        """Whether a signal decided."""
        self.record: Callable[[int], None] = lambda _: None
        """Writes the exit status to where somebody looks for it. Called as soon as a signal comes, so it may wait for
        no server and no reader."""

    def decide(self, status: int) -> int:
        """Decide on this exit status, if nothing has decided yet. Returns the exit status of the process."""
        if self.status is None:
            self.status = status
        return self.status

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """The first signal ends the code inside: by an exception, so that it cleans up, or when its seconds are over.
        Later signals change nothing. SIGHUP stays ignored if it is, since nohup says so."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if before[signal.SIGHUP] == signal.SIG_IGN:
            del before[signal.SIGHUP]
        for number in before:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch(self) -> None:
        """Heed signals too while the main thread is in a call that none interrupts, such as the lookup of a host's name
        where no server answers, or a long computation."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # Without another thread, such a call delays the ending.
        with suppress(RuntimeError):
            Thread(target=self._await_signal, args=(reader,), daemon=True).start()

    def _await_signal(self, reader: int) -> None:
        while (number := os.read(reader, 1)[0]) not in SIGNALS:
            pass
        time.sleep(HANDLER_SECONDS)
        if self.status is None:
            self.by_signal = True
            self.record(self.decide(128 + number))
        time.sleep(GRACE_SECONDS)
        os._exit(self.decide(128 + number))

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        for later in SIGNALS:
            signal.signal(later, signal.SIG_IGN)
        has_ended = self.status is not None and not self.by_signal
        status = self.decide(128 + number)
        signal.signal(signal.SIGALRM, lambda *_: os._exit(status))
        signal.alarm(LAST_SECONDS if has_ended else GRACE_SECONDS)
        if has_ended:
            return
        self.by_signal = True
        try:
            self.record(status)
        finally:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(signal.Signals(number).name)


def write_in_place(path: Path, text: str) -> None:
    """Write a short text to a file that is mounted alone, so that no other file can replace it.

    A pipe that nobody reads is not waited for.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def open_standard_streams() -> None:
    """Make standard output and standard error streams to which everything can be written, whatever they are."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Closed. The next file to be opened would get this number, and whatever a library prints.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _open_stream(1, sys.stdout), _open_stream(2, sys.stderr)


def write_failure(stream: TextIO) -> OSError | None:
    """The first error for which something that was written to this stream is lost."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _UnfailingFile) else None


def _open_stream(descriptor: int, before: TextIO | None) -> TextIOWrapper:
    return TextIOWrapper(
        BufferedWriter(_UnfailingFile(descriptor, "wb", closefd=False)),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class _UnfailingFile(FileIO):
    """A file that drops what cannot be written: nobody reads the pipe any more, or the disk is full."""

    failure: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            while (nbytes := super().write(content)) is None:  # the pipe is full, and somebody made it non-blocking
                select([], [self], [])
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(content).nbytes
        return nbytes
