"""What came of one model in a run, and what a plan says will come of it. Values, and what is said of both alike."""

from dataclasses import dataclass
from typing import Literal

from job.checkpoints.head.tie import Tie
from job.errors import ModelError, SurveyError
from job.manifest.comparison import SurveyDiff
from job.manifest.schema import Shown
from job.models.references import ModelRef

Status = Literal["surveyed", "same content", "already published", "passed over", "failed"]
"""``same content``: a new commit whose W was published before, so that only its manifest and report are new.
``passed over``: a query found it, and it can never be surveyed as it stands; nobody asked for it by name."""

PlanStatus = Literal["to survey", "same content", "already published", "passed over", "fails"]
"""``same content``: a new commit whose W is published, so that only a manifest and a report will be written.
``passed over``: a query found it, and its survey would fail; the run will not."""


@dataclass(frozen=True)
class Outcome:
    """What came of one model: its manifest, or the error that it failed with or was passed over for."""

    ref: ModelRef
    status: Status
    seconds: float
    bytes_fetched: int = 0
    manifest: Shown | None = None
    """As much of it as the summary shows."""
    error: SurveyError | None = None
    diff: SurveyDiff | None = None
    """None where nothing of it is new."""


@dataclass(frozen=True)
class Need:
    """What is known of a model's W, and what its survey takes. Sizes in bytes."""

    repo_id: str
    commit: str
    asked_commit: str
    """Of the model that was asked for, where that is an adapter whose base is surveyed; else the same."""
    source: str
    tensor: str
    reason: str
    tie: Tie
    tie_evidence: str
    notes: tuple[str, ...]
    """The warnings about W, under the name that the JSON of a plan has for them."""
    dtype: str
    shape: tuple[int, ...]
    file: str
    w_nbytes: int
    checkpoint_nbytes: int
    read_nbytes: int
    """Of W; 0 where it is published already."""
    scratch_nbytes: int
    """On the disk, while this model is surveyed."""
    memory_nbytes: int


@dataclass(frozen=True)
class Planned:
    """What will come of one model: what it takes, or the error that it will fail with or be passed over for."""

    ref: ModelRef
    status: PlanStatus
    need: Need | None = None
    error: SurveyError | None = None


def is_passed_over(ref: ModelRef, error: SurveyError) -> bool:
    """Whether a failure is no failure of the run: what a query finds may be gated, removed or without a head."""
    return ref.found_by is not None and isinstance(error, ModelError)
