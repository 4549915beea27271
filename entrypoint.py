"""Run a verb: settings → run → exit status. Signals are handled here and nowhere else."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Final

from job.errors import ConfigError, SurveyError, Terminated, exit_status_of

if TYPE_CHECKING:
    from rich.console import Console

    from job.monitor.current import CurrentStage
    from job.outcome import Outcome, PlannedModel
    from job.settings import Settings

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_GRACE_SECONDS: Final = 25
"""What a stopped run has for leaving the store clean. Kubernetes and Docker kill after 30 and 10 by default; a store
that hangs would keep it longer, and what it leaves then, a later run removes."""


def main(arguments: Sequence[str]) -> int:
    """Run with these command-line arguments; returns the exit status, which for a signal is 128 and its number."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
        signal.alarm(_GRACE_SECONDS)
        raise Terminated("SIGTERM") if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        status = _main(arguments, received)
    except BaseException:
        # Whatever it is: an import that is interrupted half way may end in any error, or in none.
        if not received:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else status


def _main(arguments: Sequence[str], received: Sequence[int]) -> int:
    # Imports wait for their turn, here and below: those of torch take seconds, in which a signal has to be heeded, and
    # whoever asks for help or mistypes a setting should not wait.
    from rich.console import Console

    from job.monitor.current import CurrentStage
    from job.settings import read_settings

    console, now = Console(stderr=True), CurrentStage()
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        console.print(f"ConfigError  {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status

    from job.logs import set_up_logging

    worker: dict[str, str | int] = {"run": settings.run, "index": settings.worker} if settings.run else {}
    set_up_logging(settings.log_format, console, now, worker)
    match settings.verb:
        case "survey":
            return survey(settings, console, now, received)
        case "plan":
            return plan(settings)


def survey(settings: "Settings", console: "Console", now: "CurrentStage", received: Sequence[int]) -> int:
    """Survey every model, tell what came of it, and return the exit status. ``received``: the signals so far."""
    import logging

    from job.monitor.metrics import Metrics
    from job.monitor.pushgateway import Pushgateway
    from job.report.terminal import shorten_manifest

    logger = logging.getLogger("job")
    gateway = Pushgateway(settings.pushgateway, settings.worker) if settings.pushgateway else None
    metrics = Metrics(now, run=settings.run, worker=settings.worker, file=settings.metrics_file, gateway=gateway)
    outcomes: list[Outcome] = []
    ended_by: Exception | None = None
    status = 1  # a bug's, until the run has come to another end
    try:
        metrics.check()

        from job.monitor.progress import ProgressReporter
        from job.survey import run

        bars = console.is_terminal and settings.log_format == "text"
        for outcome in run(settings, ProgressReporter(console, bars, metrics)):
            outcomes.append(shorten_manifest(outcome, settings.show_tokens))  # noqa: PERF401 - kept if interrupted
        status = exit_status_of(outcome.error for outcome in outcomes if outcome.error and outcome.status == "failed")
    except SurveyError as error:
        status, ended_by = error.exit_status, error
        logger.error("%s: %s", type(error).__name__, error)
    except KeyboardInterrupt:
        logger.error("stopped after %d of %d models; what is finished stays", len(outcomes), metrics.models)
        raise
    except Exception as bug:
        if not received:
            ended_by = bug
            extra = {"model": now.model} if now.model else {}
            message = "%s: a bug of this program (%s) after %d of %d models; what is finished stays"
            logger.error(
                message, now.model or "no model", type(bug).__name__, len(outcomes), metrics.models, extra=extra
            )
        raise
    finally:
        status, model = 128 + received[0] if received else status, now.model
        # In this order, because a gateway that does not answer takes some of the seconds that a signal leaves. Each is
        # tried whatever becomes of those before it.
        with ExitStack() as last:
            last.callback(metrics.end, status)
            last.callback(leave_message, settings, outcomes, metrics.models, status, ended_by, model)
            if not received:  # what the run ended with is said from here on, and has to be what the process ends with
                last.callback(_ignore_signals)
            tell(settings, outcomes)
    return status


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def plan(settings: "Settings") -> int:
    """Tell what a survey of every model would do, and return the exit status it would have."""
    import logging

    from job.plan import plan_models

    logger = logging.getLogger("job")
    known: dict[int, PlannedModel] = {}
    try:
        for place, planned in plan_models(settings):
            known[place] = planned  # noqa: PERF403 - what comes before an interruption is counted
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    except KeyboardInterrupt:
        logger.error("stopped after %d models; nothing was written", len(known))
        raise
    tell_plan(settings, [known[place] for place in sorted(known)])
    return exit_status_of(planned.error for planned in known.values() if planned.error and planned.status == "fails")


def tell(settings: "Settings", outcomes: "Sequence[Outcome]") -> None:
    """Print the summary."""
    from job.report.standard_output import standard_output
    from job.report.terminal import print_changes, print_output_location, print_summary, print_tokens

    with standard_output() as console:
        if outcomes:
            print_changes(console, outcomes)
        for outcome in outcomes:
            if settings.show_tokens and outcome.manifest:
                print_tokens(console, str(outcome.ref), outcome.manifest, settings.show_tokens)
        if outcomes:
            print_summary(console, outcomes)
            print_output_location(console, settings.output, outcomes)


def tell_plan(settings: "Settings", plan: "Sequence[PlannedModel]") -> None:
    """Print the plan."""
    from job.report.plan_table import plan_as_json, print_plan
    from job.report.standard_output import standard_output

    with standard_output() as console:
        if settings.format == "json":
            print(plan_as_json(plan), flush=True)  # noqa: T201 - this is the output
        else:
            print_plan(console, plan)


def leave_message(
    settings: "Settings",
    outcomes: "Sequence[Outcome]",
    n_models: int,
    status: int,
    error: Exception | None,
    model: str | None,
) -> None:
    """Write the summary in short where Kubernetes looks for it; the run's result counts, whether or not that works.

    ``error``: what ended the run early, if anything did, and ``model`` the model that it was at.
    """
    import logging

    from job.report.termination import termination_message

    if path := settings.termination_message:
        worker = f"index {settings.worker} of {settings.workers}, run {settings.run}" if settings.run else None
        try:
            # In place: it is a file that is mounted alone, so nothing can be moved there.
            path.write_text(termination_message(outcomes, n_models, status, error, worker, model), "utf-8")
        except OSError as failure:
            logging.getLogger("job").warning("TERMINATION_MESSAGE: %s: %s; it is not written", path, failure.strerror)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file of this process has it
    sys.exit(main(sys.argv[1:]))
