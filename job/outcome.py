"""How one model fared in a run."""

from dataclasses import dataclass
from typing import Literal

from job.errors import SurveyError
from job.models.references import ModelRef
from job.report.news import News
from job.store.manifest import Manifest

Status = Literal["surveyed", "same content", "already published", "failed"]
"""``same content``: a new commit whose W was published before, so that only its manifest and report are new."""


@dataclass(frozen=True)
class Outcome:
    """What came of one model: its manifest, or the error that it failed with."""

    ref: ModelRef
    status: Status
    seconds: float
    bytes_fetched: int = 0
    manifest: Manifest | None = None
    error: SurveyError | None = None
    news: News | None = None
    """None where nothing of it is new."""
