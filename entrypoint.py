"""Run a survey: settings → run → exit status. Signals and logging are set up here and nowhere else."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

from job.errors import ConfigError, SurveyError, Terminated, exit_status_of

if TYPE_CHECKING:
    from rich.console import Console

    from job.outcome import Outcome
    from job.plan import Planned
    from job.settings import LogFormat, Settings

_GRACE_SECONDS: Final = 25
"""What a stopped run has for leaving the store clean. Kubernetes and Docker kill after 30 and 10 by default; a store
that hangs would keep it longer, and what it leaves then, the next run removes."""


def main(arguments: Sequence[str]) -> int:
    """Run with these command-line arguments; returns the exit status, which for a signal is 128 and its number."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
        signal.alarm(_GRACE_SECONDS)
        raise Terminated("SIGTERM") if number == signal.SIGTERM else KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        status = _main(arguments)
    except BaseException:
        # Whatever it is: an import that is interrupted half way may end in any error, or in none.
        if not received:
            raise
    return 128 + received[0] if received else status


def _main(arguments: Sequence[str]) -> int:
    # Imports wait for their turn, here and below: those of torch take seconds, in which a signal has to be heeded, and
    # whoever asks for help or mistypes a setting should not wait.
    from rich.console import Console

    from job.settings import read_settings

    console = Console(stderr=True)
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        console.print(f"ConfigError  {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    set_up_logging(settings.log_format, console)
    return plan(settings) if settings.verb == "plan" else survey(settings, console)


def survey(settings: "Settings", console: "Console") -> int:
    """Survey every model, tell what came of it, and return the exit status."""
    import logging

    from job.report.progress import Follow
    from job.survey import run

    logger = logging.getLogger("job")
    outcomes: list[Outcome] = []
    try:
        for outcome in run(settings, Follow(console, bars=console.is_terminal and settings.log_format == "text")):
            outcomes.append(outcome)  # noqa: PERF402 - what comes before an interruption is kept
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    except KeyboardInterrupt:
        logger.error("stopped after %d models; what is finished stays", len(outcomes))
        raise
    finally:
        tell(settings, outcomes)
    return exit_status_of(outcome.error for outcome in outcomes if outcome.error and outcome.status == "failed")


def plan(settings: "Settings") -> int:
    """Tell what a survey of every model would do, and return the exit status it would have."""
    import logging

    from job.plan import plan_models

    logger = logging.getLogger("job")
    known: dict[int, Planned] = {}
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


def tell_plan(settings: "Settings", plan: "Sequence[Planned]") -> None:
    """Print the plan on standard output; whether it is read is the reader's business."""
    from rich.console import Console

    from job.report.plan_table import plan_as_json, print_plan

    try:
        if settings.format == "json":
            print(plan_as_json(plan), flush=True)  # noqa: T201 - this is the output
        else:
            print_plan(Console() if sys.stdout.isatty() else Console(width=180), plan)
    except OSError:
        silence_output()


def tell(settings: "Settings", outcomes: "Sequence[Outcome]") -> None:
    """Print the summary on standard output; the surveys are done, whether or not anybody reads it."""
    from rich.console import Console

    from job.report.terminal import print_summary, print_tokens, print_whereabouts

    output = Console() if sys.stdout.isatty() else Console(width=180)
    try:
        for outcome in outcomes:
            if settings.show_tokens and outcome.manifest:
                print_tokens(output, str(outcome.ref), outcome.manifest, settings.show_tokens)
        if outcomes:
            print_summary(output, outcomes)
            print_whereabouts(output, settings.output, outcomes)
    except OSError:
        silence_output()


def silence_output() -> None:
    """Nobody reads: a pipe that was closed, a full disk. What is buffered must not fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def set_up_logging(log_format: "LogFormat", console: "Console") -> None:
    """One line an event on standard error, for people or for machines, warnings and libraries included."""
    import logging

    from pythonjsonlogger.json import JsonFormatter
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    from job.report.text import shown

    class OneLine(logging.Formatter):
        """Texts from a checkpoint may hold line ends and escapes; an event stays one line. Tracebacks keep theirs."""

        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
            record.message = shown(record.message)
            return super().formatMessage(record)

    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(
            JsonFormatter("{asctime}{levelname}{name}{message}", style="{", rename_fields={"levelname": "level"})
        )
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, highlighter=NullHighlighter(), log_time_format="%X")
        handler.setFormatter(OneLine("{message}", style="{"))
    else:
        handler.setFormatter(OneLine("{asctime} {levelname} {message}", style="{"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    logging.getLogger("job").setLevel(logging.INFO)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file of this process has it
    sys.exit(main(sys.argv[1:]))
