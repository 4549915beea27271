"""The short summary of a run that Kubernetes keeps with the container's status (``terminationMessagePath``)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from job.ending import write_in_place
from job.errors import EXIT_STATUS_ORDER, SurveyError, without_credentials
from job.outcome import Outcome
from job.report.changes import list_changes
from job.report.messages import message_with_model
from job.report.text import count_statuses, escape

logger = logging.getLogger(__name__)

LIMIT_NBYTES: Final = 4096
"""Kubernetes keeps no more (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)."""
_LINE_NBYTES: Final = 480
"""The maximum length of a line."""
_MAX_CHANGED_MODELS: Final = 3
"""With lines this long, these models leave half of the room to the failures."""


def leave_message(
    path: Path,
    outcomes: Sequence[Outcome],
    n_models: int,
    exit_status: int,
    error: BaseException | None,
    worker: str | None,
    model: str | None,
) -> None:
    """Write the message to ``path``. If that fails, it is logged; the run's result counts.

    The other arguments are those of ``termination_message``.
    """
    text = termination_message(outcomes, n_models, exit_status, error, worker, model)
    try:
        write_in_place(path, text)
    except OSError as failure:
        logger.warning("TERMINATION_MESSAGE: %s: %s; it is not written", path, failure.strerror)


def termination_message(
    outcomes: Sequence[Outcome],
    n_models: int,
    exit_status: int,
    error: BaseException | None,
    worker: str | None,
    model: str | None = None,
) -> str:
    """The exit status and the counts, then what is new, then as many failures as fit, the most important first.

    ``n_models``: the number of models to survey. ``error``: the error that ended the run early, if any; a bug, if it is
    neither a SurveyError nor a signal's. ``worker``: this worker of a distributed run. ``model``: the model that the
    run ended at.
    """
    not_reached = n_models - len(outcomes)
    counts = [
        count_statuses(outcome.status for outcome in outcomes),
        f"{not_reached:,} not reached" if not_reached > 0 else "",
    ]
    no_counts = "no model was reached" if exit_status else "no models"
    first_line = f"exit status {exit_status}: {', '.join(filter(None, counts)) or no_counts}"
    failures = [
        (outcome.error.exit_status, f"{type(outcome.error).__name__}  {message_with_model(outcome.ref, outcome.error)}")
        for outcome in outcomes
        if outcome.error and outcome.status == "failed"
    ]
    if isinstance(error, SurveyError):
        failures.insert(0, (error.exit_status, f"{type(error).__name__}  {error}"))
    failures.sort(key=lambda failure: EXIT_STATUS_ORDER.index(failure[0]))
    lines = [f"{first_line} ({worker})" if worker else first_line]
    if isinstance(error, Exception) and not isinstance(error, SurveyError):
        at = f" at {model}" if model else ""
        bug = f"{type(error).__name__}: {without_credentials(str(error))}"
        lines.append(f"ended by a bug of this program{at}: {bug}; report it with the log")
    if outcomes:
        lines += list_changes(outcomes, _MAX_CHANGED_MODELS)
    return _fit([_shorten(line) for line in lines], [_shorten(text) for _, text in failures])


def _shorten(text: str) -> str:
    """The text as one line of at most ``_LINE_NBYTES`` bytes."""
    line = escape(text)
    content = line.encode()
    if len(content) <= _LINE_NBYTES:
        return line
    return content[: _LINE_NBYTES - len("…".encode())].decode(errors="ignore") + "…"


def _fit(lines: list[str], failures: list[str]) -> str:
    """All lines and as many failures as fit into the message, and the number of the other failures."""
    for n_printed in range(len(failures), -1, -1):
        n_more = len(failures) - n_printed
        more = [f"… and {n_more:,} more"] if n_more else []
        text = "\n".join([*lines, *failures[:n_printed], *more]) + "\n"
        if len(text.encode()) <= LIMIT_NBYTES:
            break
    return text
