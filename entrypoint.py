"""Run a survey: settings → run → exit status. Signals and logging are set up here and nowhere else."""

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler

from job.errors import ConfigError, ModelError, SurveyError, Terminated, TransientError
from job.outcome import Outcome
from job.report.progress import Follow
from job.report.terminal import print_summary, print_tokens, print_whereabouts
from job.settings import LogFormat, Settings, read_settings

logger = logging.getLogger("job")

_WORST_FIRST = (ConfigError, TransientError, ModelError)
"""Which exit status a run with several failures ends with: a retry may still help some of its models."""


def main(arguments: Sequence[str]) -> int:
    """Run with these command-line arguments; returns the exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    console = Console(stderr=True)
    try:
        settings = read_settings(arguments)
    except ConfigError as error:
        console.print(f"ConfigError  {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    set_up_logging(settings.log_format, console)
    return survey(settings, console)


def survey(settings: Settings, console: Console) -> int:
    """Survey every model, tell what came of it, and return the exit status."""
    # Here, because torch and boto3 take seconds, and whoever asks for help or mistypes a setting should not wait.
    from job.survey import run

    outcomes: list[Outcome] = []
    try:
        for outcome in run(settings, Follow(console)):
            outcomes.append(outcome)  # noqa: PERF402 - what comes before an interruption is kept
    except SurveyError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_status
    except KeyboardInterrupt as stop:
        status = Terminated.exit_status if isinstance(stop, Terminated) else 130
        logger.error("stopped after %d of %d models; what is finished stays", len(outcomes), len(settings.models))
        return status
    finally:
        tell(settings, outcomes)
    failures = {type(outcome.error) for outcome in outcomes if outcome.error}
    return next((kind.exit_status for kind in _WORST_FIRST if any(issubclass(f, kind) for f in failures)), 0)


def tell(settings: Settings, outcomes: Sequence[Outcome]) -> None:
    """Print the summary on standard output."""
    output = Console()
    if not output.is_terminal:
        output = Console(width=180)
    for outcome in outcomes:
        if settings.show_tokens and outcome.manifest:
            print_tokens(output, str(outcome.ref), outcome.manifest, settings.show_tokens)
    if outcomes:
        print_summary(output, outcomes)
        print_whereabouts(output, settings.output, outcomes)


def set_up_logging(log_format: LogFormat, console: Console) -> None:
    """One line an event on standard error, for people or for machines."""
    handler: logging.Handler
    if log_format == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            JsonFormatter("{asctime}{levelname}{name}{message}", style="{", rename_fields={"levelname": "level"})
        )
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, highlighter=NullHighlighter(), log_time_format="%X")
        handler.setFormatter(logging.Formatter("{message}", style="{"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("{asctime} {levelname} {message}", style="{"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logger.setLevel(logging.INFO)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated("SIGTERM")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
