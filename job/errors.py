"""All errors with a cause outside this program, and the exit status of each branch.

    SurveyError
    ├── ConfigError               78  a setting is wrong, or the store refuses it; no retry helps
    ├── ModelError                65  this model can never succeed
    │   ├── ModelUnavailable          it is missing, gated or removed
    │   ├── NoUnembedding             it has no unembedding matrix, or several tensors could be it
    │   ├── UnsupportedCheckpoint     its format, dtype, quantisation or server cannot be read
    │   └── CorruptCheckpoint         its files contradict themselves
    └── TransientError            75  network, rate limit, server or store failure; a retry may succeed
        └── UploadLost                somebody removed the unfinished upload of an artifact
    Terminated                   143  SIGTERM; 129, SIGHUP (KeyboardInterrupt, 130, for SIGINT)

A message reads ``where: what was found, what is expected; what to do``, with values and without secrets.
A bug is none of these errors; it shows as a traceback.
"""

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final, Self


def without_credentials(text: str) -> str:
    """The text without the user and password of each address in it."""
    return re.sub(r"//[^/\s@]*@", "//", text)


def join_limited(items: Sequence[object], limit: int = 5) -> str:
    """The first ``limit`` of the items, and the number of the others."""
    n_more = len(items) - limit
    return ", ".join(map(str, items[:limit])) + (f" and {n_more:,} more" if n_more > 0 else "")


CHANGED: Final = 1
"""The exit status of a comparison that finds something changed, as diff(1) and cmp(1) have it."""
BUG: Final = 70
"""The exit status of a comparison that ends by a bug, so that nobody takes it for a change. (EX_SOFTWARE of sysexits.)
Every other verb ends with Python's own, 1."""


class SurveyError(Exception):
    """A failure with a cause outside this program."""

    exit_status: ClassVar[int]

    def without_frames(self) -> Self:
        """The same error without its frames and causes. Frames keep their variables in memory, and a run keeps the
        errors of all its models until its end."""
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
    """This tool cannot read the checkpoint's format, dtype or quantisation exactly, or cannot use its server."""


class CorruptCheckpoint(ModelError):
    """The checkpoint's files contradict themselves or each other."""


class TransientError(SurveyError):
    """The network, a rate limit, a server or the store failed. A later attempt may succeed."""

    exit_status = 75

    def __init__(self, message: str, *, server: str | None = None) -> None:
        super().__init__(message)
        self.server = server
        """The server that could not be reached, if that is why."""


class UploadLost(TransientError):
    """Somebody removed the unfinished upload or file of an artifact, perhaps another run that published the same."""


_SHORTAGES: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""The error codes of a process that may not have another process, more memory or another open file."""


@contextmanager
def shortages_translated(where: str) -> Iterator[None]:
    """Raise TransientError if the code inside may not have another thread, process, open file, or more memory.

    ``where``: what needed it.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        found = _shortage(error)
        if not found:
            raise
        raise TransientError(
            f"{where}: {found}, expected enough threads, processes, open files and memory; raise the limit (of a "
            "container or of ulimit), or lower CONNECTIONS or PLAN_CONCURRENCY, then run again"
        ) from error


def _shortage(error: Exception) -> str:
    """What a process lacked that ended with this error; empty if the error has another cause."""
    text = str(error)
    if isinstance(error, MemoryError):
        return f"out of memory ({text})" if text else "out of memory"
    if isinstance(error, OSError):
        return text if error.errno in _SHORTAGES else ""
    # CPython's words, and those of torch's allocator.
    marks = ("can't start new thread", "can't allocate memory")
    return next((text for mark in marks if mark in text), "")


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. It is a KeyboardInterrupt, so libraries clean up as for Ctrl-C, and none of them catches
    it."""

    exit_status = 143


EXIT_STATUS_ORDER: Final = (ConfigError.exit_status, TransientError.exit_status, ModelError.exit_status)
"""The order of importance: first a setting, which somebody has to correct, then what a retry may cure."""


def exit_status_of(errors: Iterable[SurveyError]) -> int:
    """The exit status of a run with these failures: the most important of theirs, or 0 if there are none."""
    return min((error.exit_status for error in errors), key=EXIT_STATUS_ORDER.index, default=0)
