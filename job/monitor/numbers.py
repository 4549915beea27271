"""The numbers of a run, of which its metrics tell."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, get_args

from job.errors import ConfigError, ModelError, SurveyError, TransientError
from job.manifest.published import NewItem
from job.monitor.current import CurrentStage
from job.outcome import Status

_ERROR_KINDS: Final[tuple[type[SurveyError], ...]] = (ConfigError, TransientError, *ModelError.__subclasses__())


@dataclass
class RunNumbers:
    """The numbers of a run so far."""

    current: CurrentStage
    run: str | None
    """The name of a run of several workers."""
    worker: int
    started: float = field(default_factory=time.time)
    """Unix time, as are the other times."""
    models: int = 0
    """The number of models to survey; 0 until it is known."""
    models_done: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(get_args(Status), 0)))
    failures: Counter[str] = field(default_factory=lambda: Counter({kind.__name__: 0 for kind in _ERROR_KINDS}))
    changes: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys((*get_args(NewItem), "black_holes"), 0))
    )
    fetched_before: int = 0
    """Bytes fetched from the checkpoints of earlier models."""
    fetched_now: Callable[[], int] = int
    """Returns the bytes fetched from the current model's checkpoint; ``int()`` is 0."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    stage_bytes_done: int = 0
    stage_bytes: int = 0
    last_model_time: float | None = None
    exit_status: int | None = None

    def end_model(self) -> None:
        """What was fetched for a model counts as fetched before."""
        self.fetched_before, self.fetched_now = self.fetched_before + self.fetched_now(), int
