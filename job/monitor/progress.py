"""Shows the progress of streams of bytes: a bar on a terminal, or else a log line for every tenth; and in metrics."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from job.monitor.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgressReporter:
    """Shows the progress of streams of bytes."""

    console: Console
    bars: bool
    """Whether to draw bars; log lines otherwise."""
    metrics: Metrics

    def track(self, model: str, chunks: Iterable[bytes], nbytes: int, label: str) -> Iterator[bytes]:
        """The same chunks, ``nbytes`` bytes in all. Their progress is shown as ``model label``."""
        report = self._bar if self.bars else self._log
        started = time.monotonic()
        yield from report(self.metrics.count_chunks(chunks, nbytes), nbytes, model, label)
        _log_progress(nbytes, nbytes, time.monotonic() - started, model, label)

    def _bar(self, chunks: Iterable[bytes], nbytes: int, model: str, label: str) -> Iterator[bytes]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(f"{model} {label}", total=nbytes)
            for chunk in chunks:
                yield chunk
                progress.advance(task, len(chunk))

    def _log(self, chunks: Iterable[bytes], nbytes: int, model: str, label: str) -> Iterator[bytes]:
        started = time.monotonic()
        done = 0
        for chunk in chunks:
            yield chunk
            tenths_before = done * 10 // nbytes
            done += len(chunk)
            if tenths_before < done * 10 // nbytes < 10:
                _log_progress(done, nbytes, time.monotonic() - started, model, label)


def _log_progress(done: int, nbytes: int, seconds: float, model: str, label: str) -> None:
    rate = done / max(seconds, 1e-3)
    time_text = f"{(nbytes - done) / rate:.0f} s left" if done < nbytes else f"done in {seconds:.1f} s"
    logger.info(
        "%s: %s %d %%, %s of %s, %s/s, %s",
        *(model, label, done * 100 // nbytes, decimal(done), decimal(nbytes), decimal(int(rate)), time_text),
        extra={"model": model, "tensor": label, "bytes_done": done, "bytes_total": nbytes},
    )
