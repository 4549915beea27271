"""What this process is at, for those who tell of it: log lines and metrics."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

ASKED_ABOUT: Final[ContextVar[str | None]] = ContextVar("asked_about", default=None)
"""The model that a thread asks about for a plan, where many are asked about at once."""


@dataclass
class CurrentStage:
    """The model that is being surveyed, and the stage of its survey. A process surveys one model at a time."""

    model: str | None = None
    stage: str | None = None
