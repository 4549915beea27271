"""The metrics of a run, written to a file as OpenMetrics text and sent to a Pushgateway while the run goes on."""

import errno
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from job import __version__
from job.errors import ConfigError, ModelError, SurveyError, TransientError
from job.manifest.published import NewItem
from job.monitor.current import CurrentStage
from job.monitor.pushgateway import Pushgateway
from job.outcome import Outcome, Status
from job.report.text import escape
from job.store.store import Chunk

logger = logging.getLogger(__name__)

_PREFIX: Final = "black_hole_survey"

_ERROR_KINDS: Final[tuple[type[SurveyError], ...]] = (ConfigError, TransientError, *ModelError.__subclasses__())

_PASSING: Final = (errno.ENOSPC, errno.EDQUOT)
"""The error codes of a disk on which there may be room again."""


class Metrics(Collector):
    """The metrics of a run. Only the main thread changes them."""

    def __init__(
        self,
        current: CurrentStage,
        *,
        run: str | None,
        worker: int,
        file: Path | None,
        gateway: Pushgateway | None,
        refresh_seconds: float = 10.0,
    ) -> None:
        self._current = current
        self._run, self._worker = run, worker
        self._file, self._gateway = file, gateway
        self._started = time.time()
        self.models = 0
        """The number of models to survey; 0 until it is known."""
        self._refresh_seconds = refresh_seconds
        self._models_done = Counter[str](dict.fromkeys(get_args(Status), 0))
        self._failures = Counter[str]({kind.__name__: 0 for kind in _ERROR_KINDS})
        self._changes = Counter[str](dict.fromkeys((*get_args(NewItem), "black_holes"), 0))
        self._fetched_before = 0
        """Bytes fetched from the checkpoints of earlier models."""
        self._fetched_now: Callable[[], int] = int
        """Returns the bytes fetched from the current model's checkpoint; ``int()`` is 0."""
        self._stage_seconds: dict[str, float] = {}
        self._stage_bytes_done, self._stage_bytes = 0, 0
        self._last_model_time: float | None = None
        self._exit_status: int | None = None
        self._refreshed_at = time.monotonic()
        self._file_failed = False

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
        self.models = n_models
        self._refresh()
        if self._gateway:
            self._gateway.push(self)

    def begin_model(self, model: str) -> None:
        self._current.model, self._current.stage = model, None
        self._fetched_before, self._fetched_now = self._fetched_before + self._fetched_now(), int

    def count_fetched(self, bytes_fetched: Callable[[], int]) -> None:
        """Count the bytes fetched from the current model's checkpoint; ``bytes_fetched()`` is their number so far."""
        self._fetched_now = bytes_fetched

    def begin_stage(self, stage: str) -> None:
        self._current.stage = stage
        self._stage_bytes_done, self._stage_bytes = 0, 0
        self._refresh()

    def count_chunks(self, chunks: Iterable[Chunk], nbytes: int) -> Iterator[Chunk]:
        """The same chunks, ``nbytes`` bytes in all, counted as bytes of the current stage."""
        self._stage_bytes_done, self._stage_bytes = 0, nbytes
        for chunk in chunks:
            yield chunk
            self._stage_bytes_done += len(chunk)
            if time.monotonic() - self._refreshed_at >= self._refresh_seconds:
                self._refresh()

    def end_stage(self, stage: str, seconds: float) -> None:
        self._current.stage = None
        self._stage_bytes_done, self._stage_bytes = 0, 0
        self._stage_seconds[stage] = self._stage_seconds.get(stage, 0.0) + seconds

    def end_model(self, outcome: Outcome) -> None:
        self._current.model = None
        self._fetched_before, self._fetched_now = self._fetched_before + self._fetched_now(), int
        self._models_done[outcome.status] += 1
        if outcome.error and outcome.status == "failed":
            self._failures[type(outcome.error).__name__] += 1
        if outcome.changes:
            self._changes[outcome.changes.new_item] += 1
            self._changes["black_holes"] += bool(outcome.changes.black_hole_change)
        self._last_model_time = time.time()
        self._refresh()
        if self._gateway:
            self._gateway.push(self)

    def end(self, exit_status: int) -> None:
        """The run ends with this exit status. Writes the file."""
        self._exit_status = exit_status
        self._refresh()

    def push_last(self) -> None:
        """Send the metrics after the end. A gateway that does not answer is waited for a few seconds."""
        if self._gateway:
            self._gateway.push(self, is_last=True)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their values. prometheus_client calls this."""
        run = {"version": __version__, "run": self._run or "", "index": str(self._worker)}
        yield InfoMetricFamily(f"{_PREFIX}_run", "Version of the tool, name of the run, and index of this worker.", run)
        yield _gauge("start_time_seconds", "Unix time when the run started.", self._started)
        yield _gauge("running", "1 while the run goes on, 0 after its end.", self._exit_status is None)
        yield _gauge("exit_status", "Exit status of the run; absent until its end.", self._exit_status)
        yield _gauge("models", "Models that this worker surveys; 0 until their number is known.", self.models)
        yield _counter("models_done", "Models done, by status.", "status", self._models_done)
        yield _counter("failures", "Models that failed, by kind of error.", "kind", self._failures)
        yield _counter(
            "news", "New models, revisions and tensors; models whose black holes changed.", "what", self._changes
        )
        yield _gauge(
            "last_model_time_seconds", "Unix time when the last model was done; absent before.", self._last_model_time
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_fetched_bytes",
            "Bytes fetched from checkpoints whose W was found.",
            value=self._fetched_before + self._fetched_now(),
        )
        yield _counter("stage_seconds", "Time spent in finished stages, by stage.", "stage", self._stage_seconds)
        yield _gauge("stage_bytes", "Bytes to process in the current stage; 0 if it processes none.", self._stage_bytes)
        yield _gauge("stage_done_bytes", "Bytes processed so far in the current stage.", self._stage_bytes_done)
        model, stage = self._current.model, self._current.stage
        current = {"model": escape(model), "stage": stage or ""} if model and self._exit_status is None else None
        yield InfoMetricFamily(f"{_PREFIX}_current", "Current model and stage; absent between models.", current)

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
            unfinished.write_bytes(generate_latest(self))  # type: ignore[no-untyped-call]  # it has no types
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                unfinished.unlink(missing_ok=True)
            raise


def _is_replaceable(found: os.stat_result) -> bool:
    """Whether a file may be replaced: it is a regular one, and nothing that this process writes to."""
    return stat.S_ISREG(found.st_mode) and not any(os.path.samestat(found, os.fstat(number)) for number in (1, 2))


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
