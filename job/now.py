"""What this process is at, for those who tell of it: log lines and metrics."""

from dataclasses import dataclass


@dataclass
class Now:
    """The model that is being surveyed, and the stage of its survey. A process surveys one model at a time."""

    model: str | None = None
    stage: str | None = None
