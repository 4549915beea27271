"""How events are logged: one line each on standard error, for people or for machines.

The one place that sets levels and handlers, those of libraries too. It imports none of them.
"""

import logging
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

from job.monitor.current import MODEL_OF_THREAD, CurrentStage
from job.report.text import escape
from job.settings import LogFormat

if TYPE_CHECKING:
    from rich.console import Console

LEVELS: Final[Mapping[str, int]] = {
    "": logging.WARNING,
    "job": logging.INFO,
    # They log addresses with their signatures at INFO and DEBUG.
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "urllib3": logging.ERROR,  # and at WARNING
}
"""The level of each logger, and of those below it. The root's is first."""

WITH_HANDLERS_OF_THEIR_OWN: Final = ("huggingface_hub", "transformers")
"""Libraries that add a handler to their logger, which writes lines as they are, when they are imported or first log."""


def set_up_logging(
    log_format: LogFormat, console: "Console", now: CurrentStage, every_event: Mapping[str, str | int]
) -> None:
    """Send every event to standard error; warnings and those of libraries too.

    Args:
        console: where text goes if it is a terminal.
        now: what events are about that do not say it themselves.
        every_event: fields that every event has in JSON.
    """
    if log_format == "json":
        handler = _json_handler(now, every_event)
        sys.excepthook = _log_bug
    else:
        handler = _text_handler(console)
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(True)
    set_levels()
    for name in WITH_HANDLERS_OF_THEIR_OWN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.__class__ = _PassingOn


def set_levels() -> None:
    """Set the level of every logger that has one of its own."""
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


class _PassingOn(logging.Logger):
    """Leaves its events to the job's handler, whatever its library sets up: before it is imported, nothing else can
    be told it, and to import it for that takes seconds."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - logging's name
        pass

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        pass


class _OneLine(logging.Formatter):
    """Texts from a checkpoint may hold line ends and escapes; an event stays one line. Tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = escape(record.message)
        return super().formatMessage(record)


def _text_handler(console: "Console") -> logging.Handler:
    if console.is_terminal:
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(
            console=console, show_path=False, highlighter=NullHighlighter(), log_time_format="%X"
        )
        handler.setFormatter(_OneLine("{message}", style="{"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_OneLine("{asctime} {levelname} {message}", style="{"))
    return handler


def _json_handler(now: CurrentStage, every_event: Mapping[str, str | int]) -> logging.Handler:
    from pythonjsonlogger.json import JsonFormatter

    def located(record: logging.LogRecord) -> bool:
        """What an event does not say of the model and stage it concerns, is what its thread or the process is at."""
        asked_about = MODEL_OF_THREAD.get()
        for field, value in ({"model": asked_about, "stage": "plan"} if asked_about else vars(now)).items():
            if value and not hasattr(record, field):
                setattr(record, field, value)
        return True

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(located)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields=dict(every_event),
        )
    )
    return handler


def _log_bug(kind: type[BaseException], bug: BaseException, frames: TracebackType | None) -> None:
    logging.getLogger("job").critical("a bug: %s", kind.__name__, exc_info=(kind, bug, frames))
