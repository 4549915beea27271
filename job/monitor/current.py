"""The model and stage that this process works on, for log lines and metrics."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

MODEL_OF_THREAD: Final[ContextVar[str | None]] = ContextVar("model_of_thread", default=None)
"""The model that a thread of a plan asks about. A plan asks about several models at once."""


@dataclass
class CurrentStage:
    """The model that is being surveyed, and the stage of its survey. A process surveys one model at a time."""

    model: str | None = None
    stage: str | None = None
