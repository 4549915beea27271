"""How one model fared in a run."""

from dataclasses import dataclass
from typing import Literal

from job.errors import ModelError, SurveyError
from job.manifest.comparison import News
from job.manifest.filing import Manifest
from job.models.references import ModelRef

Status = Literal["surveyed", "same content", "already published", "passed over", "failed"]
"""``same content``: a new commit whose W was published before, so that only its manifest and report are new.
``passed over``: a query found it, and it can never be surveyed as it stands; nobody asked for it by name."""


def is_passed_over(ref: ModelRef, error: SurveyError) -> bool:
    """Whether a failure is no failure of the run: what a query finds may be gated, removed or without a head."""
    return ref.found_by is not None and isinstance(error, ModelError)


@dataclass(frozen=True)
class Outcome:
    """What came of one model: its manifest, or the error that it failed with or was passed over for."""

    ref: ModelRef
    status: Status
    seconds: float
    bytes_fetched: int = 0
    manifest: Manifest | None = None
    error: SurveyError | None = None
    news: News | None = None
    """None where nothing of it is new."""
