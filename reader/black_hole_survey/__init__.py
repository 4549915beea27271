"""Opens published black-hole surveys of language models: ``open_surveys(folder_or_s3)``.

Importing this package imports numpy, and nothing else that is not of Python itself.
"""

from black_hole_survey.errors import (
    CorruptArtifact,
    ExportRefused,
    InvalidManifest,
    MissingPackage,
    NotPublished,
    QuantisedW,
    SurveysError,
    UnknownSurvey,
    UnreadableStore,
)
from black_hole_survey.manifest import Manifest
from black_hole_survey.survey import Survey
from black_hole_survey.surveys import Surveys, open_surveys

__all__ = [
    "CorruptArtifact",
    "ExportRefused",
    "InvalidManifest",
    "Manifest",
    "MissingPackage",
    "NotPublished",
    "QuantisedW",
    "Survey",
    "Surveys",
    "SurveysError",
    "UnknownSurvey",
    "UnreadableStore",
    "open_surveys",
]
