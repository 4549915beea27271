"""Everything that can go wrong for a reason outside this program, and the exit status each branch ends with.

    SurveyError
    ├── ConfigError               78  a setting is wrong, or the store refuses it; no retry helps
    ├── ModelError                65  this model can never succeed
    │   ├── ModelUnavailable          it is missing, gated or removed
    │   ├── NoUnembedding             it has no unembedding matrix, or it is ambiguous which tensor is
    │   ├── UnsupportedCheckpoint     its format, dtype, quantisation or server cannot be read
    │   └── CorruptCheckpoint         its files contradict themselves
    └── TransientError            75  network, rate limit, server or store failure; a retry may succeed
    Terminated                   143  SIGTERM (KeyboardInterrupt, 130, for SIGINT)

A message reads ``where: what was found, what was expected; what to do``, with values and without secrets.
A bug is none of these and stays a traceback.
"""

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self


def without_credentials(text: str) -> str:
    """The text with the user and password taken out of every address in it."""
    return re.sub(r"//[^/\s@]*@", "//", text)


def join_limited(items: Sequence[object], most: int = 5) -> str:
    """The first ``most`` of the items, and how many more there are."""
    left = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {left:,} more" if left > 0 else "")


class SurveyError(Exception):
    """A failure with a cause outside this program."""

    exit_status: ClassVar[int]

    def without_frames(self) -> Self:
        """The error without the frames that it passed through, which hold on to all that was held there: of hundreds
        of models that fail, a run keeps the errors until its end."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class ConfigError(SurveyError):
    """A setting is wrong, or the store refuses what was set; no retry helps."""

    exit_status = 78


class ModelError(SurveyError):
    """This model can never succeed as it stands; other models can."""

    exit_status = 65


class ModelUnavailable(ModelError):
    """The model does not exist, is gated for this token, or was removed."""


class NoUnembedding(ModelError):
    """The checkpoint holds no unembedding matrix, or more than one tensor could be it."""


class UnsupportedCheckpoint(ModelError):
    """The checkpoint's format, dtype, quantisation or server is one this tool cannot read exactly."""


class CorruptCheckpoint(ModelError):
    """The checkpoint's files contradict themselves or each other."""


class TransientError(SurveyError):
    """The network, a rate limit, a server or the store failed in a way that a later attempt may not meet."""

    exit_status = 75


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A KeyboardInterrupt, so that libraries clean up as they do for Ctrl-C and none swallows it."""

    exit_status = 143


def exit_status_of(errors: Iterable[SurveyError]) -> int:
    """What a run with these failures ends with: the status with which a retry makes most sense, 0 without any."""
    failures = list(errors)
    worst_first = (ConfigError, TransientError, ModelError)
    return next((kind.exit_status for kind in worst_first if any(isinstance(f, kind) for f in failures)), 0)
