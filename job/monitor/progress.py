"""Shows the progress of streams of bytes: a bar on a terminal, or else a log line every half minute; and in metrics."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.filesize import decimal

from job.monitor.metrics import Metrics
from job.report.text import escape
from job.store.store import Chunk

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0
"""The time between two log lines about a stream. A stream that takes less has none."""
BAR_SECONDS = 0.1
"""The time between two drawings of a bar."""
_NUMBERS_WIDTH = len("1,023.9/1,023.9 GB 1,023.9 MB/s 0:00:00")
"""The width of what stands to the right of a bar."""


class ProgressReporter:
    """Shows the progress of streams of bytes, one stream at a time."""

    def __init__(self, console: "Console", bars: bool, metrics: Metrics) -> None:
        """``bars``: whether to draw bars; log lines otherwise."""
        self.metrics = metrics
        self._console, self._bars = console, bars
        self._shown: Progress | None = None
        """The bar that is on the terminal."""

    def track(self, model: str, chunks: Iterable[Chunk], nbytes: int, label: str) -> Iterator[Chunk]:
        """The same chunks, ``nbytes`` bytes in all. Their progress is shown as ``model label``."""
        counted = self._log(self.metrics.count_chunks(chunks, nbytes), nbytes, model, label)
        return self._bar(counted, nbytes, f"{model} {label}") if self._bars else counted

    def end(self) -> None:
        """Leave the terminal as it was, wherever a stream is."""
        if self._shown:
            self._shown.stop()
        if self._bars:
            self._console.show_cursor()

    def _bar(self, chunks: Iterable[Chunk], nbytes: int, description: str) -> Iterator[Chunk]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        bar_width = min(40, self._console.width // 4)
        text = _shorten(escape(description), self._console.width - bar_width - _NUMBERS_WIDTH - 2)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        # Drawn by this thread: one of its own would draw into what other threads print, or could not be started.
        with Progress(*columns, console=self._console, transient=True, auto_refresh=False) as self._shown:
            task = self._shown.add_task(text, total=nbytes)
            drawn_at = 0.0
            for chunk in chunks:
                yield chunk
                self._shown.advance(task, len(chunk))
                if time.monotonic() - drawn_at >= BAR_SECONDS:
                    self._shown.refresh()
                    drawn_at = time.monotonic()

    def _log(self, chunks: Iterable[Chunk], nbytes: int, model: str, label: str) -> Iterator[Chunk]:
        started = logged_at = time.monotonic()
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            now = time.monotonic()
            if now - logged_at >= LOG_SECONDS or (done == nbytes and now - started >= LOG_SECONDS):
                _log_progress(done, nbytes, now - started, model, label)
                logged_at = now


def _shorten(text: str, width: int) -> str:
    """The end of the text, which holds the model's own name, in so many columns."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[1:]
    return f"…{text}"


def _log_progress(done: int, nbytes: int, seconds: float, model: str, label: str) -> None:
    rate = done / max(seconds, 1e-3)
    time_text = f"{(nbytes - done) / rate:.0f} s left" if done < nbytes else f"done in {seconds:.1f} s"
    logger.info(
        "%s: %s %d %%, %s of %s, %s/s, %s",
        *(model, label, done * 100 // nbytes, decimal(done), decimal(nbytes), decimal(int(rate)), time_text),
        extra={"model": model, "tensor": label, "bytes_done": done, "bytes_total": nbytes},
    )
