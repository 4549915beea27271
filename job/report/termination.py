"""The summary in short, as Kubernetes keeps it with the container's status (``terminationMessagePath``)."""

from collections.abc import Sequence
from typing import Final

from job.errors import SurveyError
from job.outcome import Outcome
from job.report.failures import cause_of
from job.report.headline import headline
from job.report.text import count_statuses, escape

LIMIT_NBYTES: Final = 4096
"""What Kubernetes keeps of it (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)."""
_LINE_NBYTES: Final = 480
_MAX_CHANGES: Final = 3
"""With lines this long, so many leave half of the room to the failures."""
_MAX_SENSIBLE_RETRY: Final = (78, 75, 65)


def termination_message(
    outcomes: Sequence[Outcome], n_models: int, exit_status: int, error: SurveyError | None, worker: str | None
) -> str:
    """How the run ended, what is new, and its failures, the weightiest first; as many of them as there is room for.

    ``n_models``: how many were to be surveyed. ``error``: what ended the run before it was through. ``worker``: which
    one of a distributed run this was.
    """
    not_reached = n_models - len(outcomes)
    parts = [
        count_statuses(outcome.status for outcome in outcomes),
        f"{not_reached:,} not reached" if not_reached > 0 else "",
    ]
    nothing = "no model was reached" if exit_status else "no models"
    first = f"exit status {exit_status}: {', '.join(filter(None, parts)) or nothing}"
    failures = [] if error is None else [(error.exit_status, f"{type(error).__name__}  {error}")]
    failures += [
        (outcome.error.exit_status, f"{type(outcome.error).__name__}  {cause_of(outcome.ref, outcome.error)}")
        for outcome in outcomes
        if outcome.error and outcome.status == "failed"
    ]
    failures.sort(key=lambda failure: _MAX_SENSIBLE_RETRY.index(failure[0]))
    lines = [f"{first} ({worker})" if worker else first]
    if outcomes:
        lines += headline(outcomes, _MAX_CHANGES)
    lines = [_cut(escape(line)) for line in lines]
    return _joined(lines, [_cut(escape(text)) for _, text in failures])


def _cut(line: str) -> str:
    """The line, or as many of its characters as a line may take."""
    content = line.encode()
    if len(content) <= _LINE_NBYTES:
        return line
    return content[: _LINE_NBYTES - len("…".encode())].decode(errors="ignore") + "…"


def _joined(lines: list[str], failures: list[str]) -> str:
    """All lines and as many failures as there is room for, with the number of those left out."""
    for n_shown in range(len(failures), -1, -1):
        left = len(failures) - n_shown
        text = "\n".join([*lines, *failures[:n_shown], *([f"… and {left:,} more"] if left else [])]) + "\n"
        if len(text.encode()) <= LIMIT_NBYTES:
            break
    return text
