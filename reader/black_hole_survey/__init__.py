"""Opens published black-hole surveys of language models: ``open_surveys(folder_or_s3)``.

Importing it imports nothing that is not of Python itself. numpy, which takes most of the time that an import would, is
imported with the first tensor.
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
