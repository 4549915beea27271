"""What reading surveys can raise. Every message says where, what was found, what was expected, and what to do."""


class SurveysError(Exception):
    """The base of all errors of this package."""


class UnknownSurvey(SurveysError, KeyError):
    """There is no such model or commit, or more than one survey fits."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError's own shows the text in quotes


class NotPublished(SurveysError, LookupError):
    """The survey exists, but what was asked for was not published with it."""


class QuantisedW(SurveysError, TypeError):
    """W is stored quantised, so its rows are bytes and not numbers."""


class InvalidManifest(SurveysError, ValueError):
    """A manifest is not one that this version can read, or names files outside the place it lies in."""


class CorruptArtifact(SurveysError):
    """A file is missing, or is not what the manifest says."""


class UnreadableStore(SurveysError, OSError):
    """The folder or the bucket cannot be read."""


class MissingPackage(SurveysError, ImportError):
    """A package is needed that is not installed."""


class ExportRefused(SurveysError, FileExistsError):
    """Exporting would replace a file that is not of this survey."""
