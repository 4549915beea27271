"""The metrics of a run as OpenMetrics. Only a run whose metrics go somewhere imports it, and Prometheus' client."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from job import __version__
from job.monitor.numbers import RunNumbers
from job.report.text import escape

_PREFIX: Final = "black_hole_survey"


def openmetrics_text(numbers: RunNumbers) -> bytes:
    """All metrics with their values, as the text of a metrics file."""
    text: bytes = generate_latest(RunCollector(numbers))  # type: ignore[no-untyped-call]  # it has no types
    return text


class RunCollector(Collector):
    """The metrics of a run, for Prometheus' client."""

    def __init__(self, numbers: RunNumbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """All metrics with their values."""
        now = self._numbers
        run = {"version": __version__, "run": now.run or "", "index": str(now.worker)}
        yield InfoMetricFamily(f"{_PREFIX}_run", "Version of the tool, name of the run, and index of this worker.", run)
        yield _gauge("start_time_seconds", "Unix time when the run started.", now.started)
        yield _gauge("running", "1 while the run goes on, 0 after its end.", now.exit_status is None)
        yield _gauge("exit_status", "Exit status of the run; absent until its end.", now.exit_status)
        yield _gauge("models", "Models that this worker surveys; 0 until their number is known.", now.models)
        yield _counter("models_done", "Models done, by status.", "status", now.models_done)
        yield _counter("failures", "Models that failed, by kind of error.", "kind", now.failures)
        yield _counter(
            "news", "New models, revisions and tensors; models whose black holes changed.", "what", now.changes
        )
        yield _gauge(
            "last_model_time_seconds", "Unix time when the last model was done; absent before.", now.last_model_time
        )
        fetched = "Bytes fetched from checkpoints whose W was found."
        yield CounterMetricFamily(f"{_PREFIX}_fetched_bytes", fetched, value=now.fetched_before + now.fetched_now())
        yield _counter("stage_seconds", "Time spent in finished stages, by stage.", "stage", now.stage_seconds)
        yield _gauge("stage_bytes", "Bytes to process in the current stage; 0 if it processes none.", now.stage_bytes)
        yield _gauge("stage_done_bytes", "Bytes processed so far in the current stage.", now.stage_bytes_done)
        model, stage = now.current.model, now.current.stage
        current = {"model": escape(model), "stage": stage or ""} if model and now.exit_status is None else None
        yield InfoMetricFamily(f"{_PREFIX}_current", "Current model and stage; absent between models.", current)


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
