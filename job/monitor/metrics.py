"""The numbers of a run while it goes on: as OpenMetrics text in a file, and sent to a Pushgateway."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from job import __version__
from job.errors import ConfigError, ModelError, SurveyError, TransientError
from job.manifest.filing import Novelty
from job.monitor.current import CurrentStage
from job.monitor.pushgateway import Pushgateway
from job.outcome import Outcome, Status
from job.report.text import escape

logger = logging.getLogger(__name__)

_PREFIX: Final = "black_hole_survey"

_KINDS: Final[tuple[type[SurveyError], ...]] = (ConfigError, TransientError, *ModelError.__subclasses__())


class Metrics(Collector):
    """What a run counts. One thread at a time changes and publishes it: where a thread of the store's pulls a stream
    through, the one that goes through the models waits for it."""

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
        """How many are to be surveyed; 0 until that is known."""
        self._refresh_seconds = refresh_seconds
        self._done = Counter[str](dict.fromkeys(get_args(Status), 0))
        self._failures = Counter[str]({kind.__name__: 0 for kind in _KINDS})
        self._new = Counter[str](dict.fromkeys((*get_args(Novelty), "black_holes"), 0))
        self._fetched = 0
        self._fetching: Callable[[], int] = int
        self._stage_seconds: dict[str, float] = {}
        self._stage_done, self._stage_total = 0, 0
        self._last_model: float | None = None
        self._exit_status: int | None = None
        self._refreshed = time.monotonic()
        self._file_failed = False

    def check(self) -> None:
        """Write the file for the first time.

        Raises:
            ConfigError: it cannot be written.
        """
        if path := self._file:
            try:
                self._write(path)
            except OSError as error:
                raise ConfigError(
                    f"METRICS_FILE: {path}: {error.strerror}, expected a file that can be written; choose another, "
                    "or give this user write access to its folder"
                ) from error

    def begin(self, n_models: int) -> None:
        """So many models are to be surveyed."""
        self.models = n_models
        self._refresh()
        if self._gateway:
            self._gateway.push(self)

    def begin_model(self, model: str) -> None:
        self._current.model, self._current.stage = model, None

    def fetch_from(self, fetched: Callable[[], int]) -> None:
        """The checkpoint of this model is open: ``fetched()`` is how many of its bytes were fetched so far."""
        self._fetching = fetched

    def begin_stage(self, stage: str) -> None:
        self._current.stage = stage
        self._stage_done, self._stage_total = 0, 0
        self._refresh()

    def passing(self, chunks: Iterable[bytes], nbytes: int) -> Iterator[bytes]:
        """The same chunks, counted as they pass: ``nbytes`` bytes in all."""
        self._stage_done, self._stage_total = 0, nbytes
        for chunk in chunks:
            yield chunk
            self._stage_done += len(chunk)
            if time.monotonic() - self._refreshed >= self._refresh_seconds:
                self._refresh()

    def end_stage(self, stage: str, seconds: float) -> None:
        self._current.stage = None
        self._stage_done, self._stage_total = 0, 0
        self._stage_seconds[stage] = self._stage_seconds.get(stage, 0.0) + seconds

    def end_model(self, outcome: Outcome) -> None:
        self._current.model = None
        self._fetched, self._fetching = self._fetched + self._fetching(), int
        self._done[outcome.status] += 1
        if outcome.error and outcome.status == "failed":
            self._failures[type(outcome.error).__name__] += 1
        if outcome.diff:
            self._new[outcome.diff.novelty] += 1
            self._new["black_holes"] += bool(outcome.diff.hole_change)
        self._last_model = time.time()
        self._refresh()
        if self._gateway:
            self._gateway.push(self)

    def end(self, exit_status: int) -> None:
        """The run is over, whatever its end."""
        self._current.model = self._current.stage = None
        self._exit_status = exit_status
        self._refresh()
        if self._gateway:
            self._gateway.push(self, is_last=True)

    def collect(self) -> Iterator[Metric]:
        """Every metric with its value, as prometheus_client asks for them."""
        run = {"version": __version__, "run": self._run or "", "index": str(self._worker)}
        yield InfoMetricFamily(f"{_PREFIX}_run", "The tool's version, RUN, and which of its workers this is.", run)
        yield _gauge("start_time_seconds", "When the run started, in Unix time.", self._started)
        yield _gauge("running", "1 while the run goes on, 0 once it has ended.", self._exit_status is None)
        yield _gauge("exit_status", "What the run ended with; absent until then.", self._exit_status)
        yield _gauge("models", "Models that this worker surveys; 0 until that is known.", self.models)
        yield _counter("models_done", "Models that are through, by status.", "status", self._done)
        yield _counter("failures", "Models that failed, by kind of error.", "kind", self._failures)
        yield _counter("news", "Models, revisions and tensors new to OUTPUT; changed black holes.", "what", self._new)
        yield _gauge("last_model_time_seconds", "When the last model was through; absent before.", self._last_model)
        yield CounterMetricFamily(
            f"{_PREFIX}_fetched_bytes",
            "Bytes fetched from checkpoints whose W was found.",
            value=self._fetched + self._fetching(),
        )
        yield _counter("stage_seconds", "Time that ended stages took.", "stage", self._stage_seconds)
        yield _gauge("stage_bytes", "Bytes that pass in the current stage; 0 where none do.", self._stage_total)
        yield _gauge("stage_done_bytes", "Those of them that have passed.", self._stage_done)
        model, stage = self._current.model, self._current.stage
        current = {"model": escape(model), "stage": stage or ""} if model else None
        yield InfoMetricFamily(f"{_PREFIX}_current", "The model and stage under way; absent between models.", current)

    def _refresh(self) -> None:
        """Write the file anew. That it fails later on does not end a run that goes well."""
        self._refreshed = time.monotonic()
        if path := self._file:
            try:
                self._write(path)
            except OSError as error:
                if not self._file_failed:  # said once: this is tried again every few seconds
                    logger.warning("METRICS_FILE: %s: %s; it is out of date", path, error.strerror)
                self._file_failed = True
            else:
                self._file_failed = False

    def _write(self, path: Path) -> None:
        """Replace the file at once, so that whoever reads it never sees half of it."""
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_bytes(generate_latest(self))  # type: ignore[no-untyped-call]  # it has no types
        unfinished.replace(path)


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
