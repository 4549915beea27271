"""How far a stream of bytes has come: a bar on a terminal, elsewhere a log line every tenth of the way; and metrics."""

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
    """Shows how far streams of bytes have come."""

    console: Console
    bars: bool
    """Whether to draw bars; log lines otherwise."""
    metrics: Metrics

    def track(self, model: str, chunks: Iterable[bytes], nbytes: int, label: str) -> Iterator[bytes]:
        """The same chunks, shown as they pass: ``nbytes`` bytes in all, of what the label says of this model."""
        report = self._bar if self.bars else self._log
        began = time.monotonic()
        yield from report(self.metrics.passing(chunks, nbytes), nbytes, model, label)
        _log_progress(nbytes, nbytes, time.monotonic() - began, model, label)

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
        began = time.monotonic()
        passed = 0
        for chunk in chunks:
            yield chunk
            tenth = passed * 10 // nbytes
            passed += len(chunk)
            if tenth < passed * 10 // nbytes < 10:
                _log_progress(passed, nbytes, time.monotonic() - began, model, label)


def _log_progress(passed: int, nbytes: int, seconds: float, model: str, label: str) -> None:
    rate = passed / max(seconds, 1e-3)
    left = f"{(nbytes - passed) / rate:.0f} s left" if passed < nbytes else f"done in {seconds:.1f} s"
    logger.info(
        "%s: %s %d %%, %s of %s, %s/s, %s",
        *(model, label, passed * 100 // nbytes, decimal(passed), decimal(nbytes), decimal(int(rate)), left),
        extra={"model": model, "tensor": label, "bytes_done": passed, "bytes_total": nbytes},
    )
