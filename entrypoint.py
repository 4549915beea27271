"""Run a verb: settings → run → exit status."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from job.ending import LAST_SECONDS, Ending, open_standard_streams, write_failure, write_in_place
from job.errors import (
    BUG,
    CHANGED,
    ConfigError,
    SurveyError,
    TransientError,
    exit_status_of,
    shortages_translated,
)

if TYPE_CHECKING:
    from rich.console import Console

    from job.differences.schema import SurveyDifference
    from job.monitor.current import CurrentStage
    from job.outcome import Outcome, PlannedModel
    from job.settings import Settings
    from job.store.store import Store


def main(arguments: Sequence[str]) -> int:
    """Run with these command-line arguments; returns the exit status, which for a signal is 128 and its number."""
    ending = Ending()
    with ending.heeding_signals():
        return _run(arguments, ending)


def run_as_process() -> NoReturn:
    """Run with the arguments of this process, and end it."""
    open_standard_streams()
    ending = Ending()
    with ending.heeding_signals():
        ending.watch()
        # At once: the interpreter would wait for threads that hang, and give another status if it fails to end well.
        os._exit(_run(sys.argv[1:], ending))


def _run(arguments: Sequence[str], ending: Ending) -> int:
    try:
        return ending.decide(_run_verb(arguments, ending))
    except SystemExit:  # help was printed
        return ending.decide(0)
    except BaseException:  # noqa: BLE001 - a bug is told, and has an exit status too
        status = ending.decide(1)
        # After a signal it is none: an import that is interrupted half way may end in any error.
        if not ending.by_signal:
            sys.excepthook(*sys.exc_info())
        return status


def _run_verb(arguments: Sequence[str], ending: Ending) -> int:
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

    if (path := settings.termination_message) and settings.verb in ("survey", "plan"):
        # Until what is imported here can say more.
        ending.record = lambda status: write_in_place(path, f"exit status {status}: no model was reached\n")

    from job.logs import set_up_logging

    worker: dict[str, str | int] = {"run": settings.run, "index": settings.worker} if settings.run else {}
    set_up_logging(settings.log_format, console, now, worker)
    match settings.verb:
        case "survey":
            return survey(settings, console, now, ending)
        case "plan":
            return plan(settings)
        case "compare":
            return compare(settings)
        case "index":
            return index(settings)


def survey(settings: "Settings", console: "Console", now: "CurrentStage", ending: Ending) -> int:
    """Survey every model, tell what came of it, and return the exit status."""
    from job.limits.memory import keep_freed_memory
    from job.monitor.metrics import Metrics
    from job.monitor.progress import ProgressReporter
    from job.report.terminal import shorten_manifest
    from job.report.termination import leave_message

    gateway = None
    if settings.pushgateway:
        from job.monitor.pushgateway import Pushgateway

        gateway = Pushgateway(settings.pushgateway, settings.worker)
    metrics = Metrics(now, run=settings.run, worker=settings.worker, file=settings.metrics_file, gateway=gateway)
    progress = ProgressReporter(console, console.is_terminal and settings.log_format == "text", metrics)
    worker = f"index {settings.worker} of {settings.workers}, run {settings.run}" if settings.run else None
    began_at, store = datetime.now(UTC), None
    outcomes: list[Outcome] = []
    ended_by: BaseException | None = None

    def record(status: int) -> None:
        if path := settings.termination_message:
            error = None if ending.by_signal else ended_by
            leave_message(path, outcomes, metrics.models, status, error, worker, now.model)
        metrics.end(status)
        progress.end()

    ending.record = record
    try:
        with shortages_translated("the run"):
            keep_freed_memory()
            # numpy lets other threads run while it computes, and then waits for one of them to give way, 5 ms by
            # default: longer than a block of rows takes. With two dozen connections, W arrived half as fast.
            sys.setswitchinterval(0.0005)
            metrics.check()
            from job.survey import open_output, run

            store, access = open_output(settings)
            for outcome in run(settings, store, access, progress):
                outcomes.append(shorten_manifest(outcome, settings.show_tokens))  # noqa: PERF401 - kept if interrupted
    except BaseException as error:  # noqa: BLE001 - it is told below, and raised again if it is a bug
        ended_by = error
    status = ending.decide(_status_of_run(outcomes, ended_by))
    # From the last to the first: local files, then what may wait for a server or a reader. Each is tried whatever
    # becomes of those before it.
    with ExitStack() as last:
        last.callback(tell, settings, outcomes)
        last.callback(log_ending, ended_by, now.model, len(outcomes), metrics.models, is_signal=ending.by_signal)
        if store:
            last.callback(
                update_index_of_run, settings, store, outcomes, ended_by, status, began_at, metrics.models, ending
            )
        last.callback(metrics.push_last)
        last.callback(record, status)
    if ended_by and not isinstance(ended_by, SurveyError):
        raise ended_by
    return status


def update_index_of_run(
    settings: "Settings",
    store: "Store",
    outcomes: "Sequence[Outcome]",
    ended_by: BaseException | None,
    status: int,
    began_at: datetime,
    n_models: int,
    ending: Ending,
) -> None:
    """Publish what came of the models, and bring the index up to date. If that fails, it is logged."""
    import logging

    from job.index import end_run

    logger = logging.getLogger("job")
    try:
        with shortages_translated("the index"):
            end_run(
                settings,
                store,
                outcomes,
                began_at=began_at,
                exit_status=status,
                ended_by=ended_by,
                n_models=n_models,
                max_seconds=LAST_SECONDS if ending.by_signal else None,
            )
    except SurveyError as error:
        logger.warning("the index is not up to date: %s; the surveys stand, and the next run or index adds them", error)
    except BaseException as error:
        message = "the index is not up to date, by a bug of this program (%s); the surveys stand"
        logger.warning(message, type(error).__name__, exc_info=True)


def _status_of_run(outcomes: "Sequence[Outcome]", ended_by: BaseException | None) -> int:
    if ended_by:
        return ended_by.exit_status if isinstance(ended_by, SurveyError) else 1
    return exit_status_of(outcome.error for outcome in outcomes if outcome.error and outcome.status == "failed")


def log_ending(
    ended_by: BaseException | None, model: str | None, n_done: int, n_models: int, *, is_signal: bool
) -> None:
    """Log what ended a run before its last model, if anything did."""
    import logging

    logger = logging.getLogger("job")
    if is_signal:
        logger.error("stopped after %d of %d models; what is finished stays", n_done, n_models)
    elif isinstance(ended_by, SurveyError):
        logger.error("%s: %s", type(ended_by).__name__, ended_by)
    elif ended_by:
        message = "%s: a bug of this program (%s) after %d of %d models; what is finished stays"
        extra = {"model": model} if model else {}
        logger.error(message, model or "no model", type(ended_by).__name__, n_done, n_models, extra=extra)


def plan(settings: "Settings") -> int:
    """Tell what a survey of every model would do, and return the exit status it would have."""
    import logging

    from job.plan import plan_models

    logger = logging.getLogger("job")
    known: dict[int, PlannedModel] = {}
    try:
        with shortages_translated("the plan"):
            for place, planned in plan_models(settings):
                known[place] = planned  # noqa: PERF403 - what comes before an interruption is counted
        tell_plan(settings, [known[place] for place in sorted(known)])
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    except KeyboardInterrupt:
        logger.error("stopped after %d models; nothing was written", len(known))
        raise
    return exit_status_of(planned.error for planned in known.values() if planned.error and planned.status == "fails")


def compare(settings: "Settings") -> int:
    """Tell how two published surveys differ, and return whether anything changed."""
    import logging

    logger = logging.getLogger("job")
    try:
        with shortages_translated("the comparison"):
            from job.compare import compare_published

            difference = compare_published(settings.output, settings.surveys)
            tell_comparison(settings, difference)
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    except Exception:  # noqa: BLE001 - a bug is told, and is no change
        sys.excepthook(*sys.exc_info())
        return BUG
    return CHANGED if difference["changed"] else 0


def index(settings: "Settings") -> int:
    """Bring the index of OUTPUT up to date, and return the exit status."""
    import logging

    from job.index import index_output

    logger = logging.getLogger("job")
    try:
        with shortages_translated("the index"):
            index_output(settings)
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    return 0


def tell(settings: "Settings", outcomes: "Sequence[Outcome]") -> None:
    """Print the summary."""
    import logging

    from job.report.messages import console_for_results
    from job.report.terminal import print_changes, print_output_location, print_summary, print_tokens

    if not outcomes:
        return
    console = console_for_results()
    print_changes(console, outcomes)
    for outcome in outcomes:
        if settings.show_tokens and outcome.manifest:
            print_tokens(console, str(outcome.ref), outcome.manifest, settings.show_tokens)
    print_summary(console, outcomes)
    print_output_location(console, settings.output, outcomes)
    if (failure := write_failure(sys.stdout)) and not isinstance(failure, BrokenPipeError):
        logging.getLogger("job").warning(
            "standard output: %s; the summary is not whole, and the manifests have what it says", failure.strerror
        )


def tell_plan(settings: "Settings", plan: "Sequence[PlannedModel]") -> None:
    """Print the plan.

    Raises:
        TransientError: it cannot be written. (Whoever closes the pipe has read enough.)
    """
    from job.report.messages import console_for_results
    from job.report.plan_table import plan_as_json, print_plan

    if settings.format == "json":
        print(plan_as_json(plan), flush=True)  # noqa: T201 - this is the output
    else:
        print_plan(console_for_results(), plan)
    check_written("the plan")


def tell_comparison(settings: "Settings", difference: "SurveyDifference") -> None:
    """Print a comparison.

    Raises:
        TransientError: it cannot be written. (Whoever closes the pipe has read enough.)
    """
    from job.report.comparison import comparison_as_json, print_comparison
    from job.report.messages import console_for_results

    if settings.format == "json":
        print(comparison_as_json(difference), flush=True)  # noqa: T201 - this is the output
    elif settings.format == "html":
        from job.report.pages.compare_page import compare_page

        sys.stdout.buffer.write(compare_page(difference))
        sys.stdout.buffer.flush()
    else:
        print_comparison(console_for_results(), difference)
    check_written("the comparison")


def check_written(what: str) -> None:
    """Check that standard output took all that was written to it.

    Raises:
        TransientError: it did not. (Whoever closes the pipe has read enough.)
    """
    if (failure := write_failure(sys.stdout)) and not isinstance(failure, BrokenPipeError):
        raise TransientError(
            f"standard output: {failure.strerror}, expected that {what} can be written to it; make room, or send it "
            "elsewhere, then run again"
        )


if __name__ == "__main__":
    run_as_process()
