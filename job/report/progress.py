"""How far a stream of bytes has come: a bar on a terminal, elsewhere a log line every tenth of the way."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Follow:
    """Follows streams on a console."""

    console: Console

    def __call__(self, chunks: Iterable[bytes], nbytes: int, model: str, stage: str) -> Iterator[bytes]:
        """The same chunks, shown as they pass: ``nbytes`` bytes in all, of this stage of this model."""
        watch = self._bar if self.console.is_terminal else self._log
        yield from watch(chunks, nbytes, model, stage)

    def _bar(self, chunks: Iterable[bytes], nbytes: int, model: str, stage: str) -> Iterator[bytes]:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(f"{model} {stage}", total=nbytes)
            for chunk in chunks:
                yield chunk
                progress.advance(task, len(chunk))

    def _log(self, chunks: Iterable[bytes], nbytes: int, model: str, stage: str) -> Iterator[bytes]:
        started = time.monotonic()
        passed = tenths = 0
        for chunk in chunks:
            yield chunk
            passed += len(chunk)
            if passed * 10 // nbytes > tenths and passed < nbytes:
                tenths = passed * 10 // nbytes
                rate = passed / max(time.monotonic() - started, 1e-9)
                logger.info(
                    "%s: %s %d %%, %s of %s, %s/s, %.0f s left",
                    *(model, stage, tenths * 10, decimal(passed), decimal(nbytes), decimal(int(rate))),
                    (nbytes - passed) / rate,
                    extra={"model": model, "stage": stage, "bytes_done": passed, "bytes_total": nbytes},
                )
