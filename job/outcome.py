"""The outcome of one model in a run, and the expected outcome of one model in a plan. Values only."""

from dataclasses import dataclass
from typing import Literal

from job.checkpoints.head.tie import Tie
from job.errors import ModelError, SurveyError, TransientError
from job.manifest.comparison import SurveyChanges
from job.manifest.schema import SummaryFields
from job.models.references import ModelRef

Status = Literal["surveyed", "same content", "already published", "passed over", "failed"]
"""``same content``: a new commit with a W that was published before; only its manifest and report are new, and if its
tokenizer is, what is said of the tokens.
``passed over``: a query found the model, but it cannot be surveyed. This is no failure of the run."""

PlanStatus = Literal["to survey", "same content", "already published", "passed over", "fails"]
"""The ``Status`` that a run would give the model: ``to survey`` stands for surveyed, ``fails`` for failed."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one model: its manifest, or the error because of which it failed or was passed over."""

    ref: ModelRef
    status: Status
    seconds: float
    bytes_fetched: int = 0
    manifest: SummaryFields | None = None
    """The fields that the summary shows."""
    error: SurveyError | None = None
    changes: SurveyChanges | None = None
    """None if the survey was published before, or failed."""


@dataclass(frozen=True)
class PlannedSurvey:
    """Which tensor a survey would read, and what the survey would need. Sizes are in bytes.

    The fields are also those of ``need`` in a plan's JSON, so their names must stay.
    """

    repo_id: str
    commit: str
    asked_commit: str
    """The commit of the requested model. It differs from ``commit`` if an adapter's base model is surveyed."""
    source: str
    tensor: str
    reason: str
    tie: Tie
    tie_evidence: str
    notes: tuple[str, ...]
    """The warnings about W; of a published survey that was not looked into again, all of its warnings."""
    dtype: str
    shape: tuple[int, ...]
    file: str
    w_nbytes: int
    checkpoint_nbytes: int | None
    """None if the server lists files without their sizes."""
    read_nbytes: int
    """How much of the checkpoint the survey reads: W, an embedding to compare with it, and the tokenizer's files; 0 if
    the survey is already published."""
    scratch_nbytes: int
    """Disk space that the survey needs."""
    output_nbytes: int
    """Room that what is to be published takes in OUTPUT: the tensors, without the centroids of black holes, and about
    what the tables of tokens take."""
    memory_nbytes: int
    """Memory that the survey's process needs."""
    connections: int
    """Ranges of a file that the survey fetches at a time."""
    parts: int
    """Parts of an upload that it sends at a time; 0 if OUTPUT is a folder."""


@dataclass(frozen=True)
class PlannedModel:
    """The expected outcome of one model: its planned survey, and the error because of which it will fail or be passed
    over. Both, if the survey needs more than this process has."""

    ref: ModelRef
    status: PlanStatus
    survey: PlannedSurvey | None = None
    error: SurveyError | None = None


def is_passed_over(ref: ModelRef, error: SurveyError) -> bool:
    """Whether an error is no failure of the run: a query may find models that are gated, removed or without a head."""
    return ref.found_by is not None and isinstance(error, ModelError)


def is_unreached(error: SurveyError) -> bool:
    """Whether a model failed because its server could not be reached. When the others are done, it is tried again."""
    return isinstance(error, TransientError) and error.server is not None
