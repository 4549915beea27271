"""The metrics of a run, written to a file as OpenMetrics text and sent to a Pushgateway while the run goes on."""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from job.errors import ConfigError
from job.monitor.current import CurrentStage
from job.monitor.numbers import RunNumbers
from job.outcome import Outcome
from job.store.store import Chunk

if TYPE_CHECKING:
    from job.monitor.pushgateway import Pushgateway

logger = logging.getLogger(__name__)

_PASSING: Final = (errno.ENOSPC, errno.EDQUOT)
"""The error codes of a disk on which there may be room again."""


class Metrics:
    """The metrics of a run. Only the main thread changes them."""

    def __init__(
        self,
        current: CurrentStage,
        *,
        run: str | None,
        worker: int,
        file: Path | None,
        gateway: "Pushgateway | None",
        refresh_seconds: float = 10.0,
    ) -> None:
        self._numbers = RunNumbers(current, run, worker)
        self._file, self._gateway = file, gateway
        if file:
            # Not later: the handler of a signal writes the file too, and may have interrupted this very import.
            from job.monitor.openmetrics import openmetrics_text

            self._as_text: Callable[[RunNumbers], bytes] = openmetrics_text
        self._refresh_seconds = refresh_seconds
        self._refreshed_at = time.monotonic()
        self._file_failed = False

    @property
    def models(self) -> int:
        """The number of models to survey; 0 until it is known."""
        return self._numbers.models

    def check(self) -> None:
        """Write the file for the first time.

        Raises:
            ConfigError: it is no regular file, or cannot be written. It is left alone from then on.
        """
        path, self._file = self._file, None
        if path is None:
            return
        target = Path(os.path.realpath(path))  # a link stays a link
        try:
            if path.exists() and not _is_replaceable(path.stat()):
                raise ConfigError(
                    f"METRICS_FILE: {path}: found a device, a pipe or the run's own output, expected a file, which is "
                    "replaced by every new one; choose another"
                )
            self._write(target)
        except OSError as error:
            if error.errno in _PASSING:
                logger.warning(
                    "METRICS_FILE: %s: %s; there are no metrics yet, and the run goes on", path, error.strerror
                )
            else:
                raise ConfigError(
                    f"METRICS_FILE: {path}: {error.strerror}, expected a writable file; choose another file, or give "
                    "this user write access to its folder"
                ) from error
        self._file = target

    def begin(self, n_models: int) -> None:
        """The run starts with its first model; ``n_models`` are to be surveyed."""
        self._numbers.models = n_models
        self._refresh()
        if self._gateway:
            self._gateway.push(self._numbers)

    def begin_model(self, model: str) -> None:
        self._numbers.current.model, self._numbers.current.stage = model, None
        self._numbers.end_model()

    def count_fetched(self, bytes_fetched: Callable[[], int]) -> None:
        """Count the bytes fetched from the current model's checkpoint; ``bytes_fetched()`` is their number so far."""
        self._numbers.fetched_now = bytes_fetched

    def begin_stage(self, stage: str) -> None:
        self._numbers.current.stage = stage
        self._numbers.stage_bytes_done, self._numbers.stage_bytes = 0, 0
        self._refresh()

    def count_chunks(self, chunks: Iterable[Chunk], nbytes: int) -> Iterator[Chunk]:
        """The same chunks, ``nbytes`` bytes in all, counted as bytes of the current stage."""
        self._numbers.stage_bytes_done, self._numbers.stage_bytes = 0, nbytes
        for chunk in chunks:
            yield chunk
            self._numbers.stage_bytes_done += len(chunk)
            if time.monotonic() - self._refreshed_at >= self._refresh_seconds:
                self._refresh()

    def end_stage(self, stage: str, seconds: float) -> None:
        self._numbers.current.stage = None
        self._numbers.stage_bytes_done, self._numbers.stage_bytes = 0, 0
        self._numbers.stage_seconds[stage] = self._numbers.stage_seconds.get(stage, 0.0) + seconds

    def end_model(self, outcome: Outcome) -> None:
        self._numbers.current.model = None
        self._numbers.end_model()
        self._numbers.models_done[outcome.status] += 1
        if outcome.error and outcome.status == "failed":
            self._numbers.failures[type(outcome.error).__name__] += 1
        if outcome.changes:
            self._numbers.changes[outcome.changes.new_item] += 1
            self._numbers.changes["black_holes"] += bool(outcome.changes.black_hole_change)
        self._numbers.last_model_time = time.time()
        self._refresh()
        if self._gateway:
            self._gateway.push(self._numbers)

    def end(self, exit_status: int) -> None:
        """The run ends with this exit status. Writes the file."""
        self._numbers.exit_status = exit_status
        self._refresh()

    def push_last(self) -> None:
        """Send the metrics after the end. A gateway that does not answer is waited for a few seconds."""
        if self._gateway:
            self._gateway.push(self._numbers, is_last=True)

    def _refresh(self) -> None:
        """Write the file again. A failure here is logged, but does not end the run."""
        self._refreshed_at = time.monotonic()
        if path := self._file:
            try:
                self._write(path)
            except OSError as error:
                if not self._file_failed:  # logged once, because the next attempt follows within seconds
                    logger.warning(
                        "METRICS_FILE: %s: %s; the file is out of date, and the run goes on", path, error.strerror
                    )
                self._file_failed = True
            else:
                self._file_failed = False

    def _write(self, path: Path) -> None:
        """Replace the whole file at once, so that no reader ever sees a part of it."""
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            unfinished.write_bytes(self._as_text(self._numbers))
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                unfinished.unlink(missing_ok=True)
            raise


def _is_replaceable(found: os.stat_result) -> bool:
    """Whether a file may be replaced: it is a regular one, and nothing that this process writes to."""
    return stat.S_ISREG(found.st_mode) and not any(os.path.samestat(found, os.fstat(number)) for number in (1, 2))
