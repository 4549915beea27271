"""What came of the models of a run, worker by worker: ``runs/<run>/outcomes-<worker>.json``."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from job import __version__
from job.errors import without_credentials
from job.manifest.schema import ToolEntry
from job.outcome import Outcome
from job.store.json_file import to_json
from job.store.store import ListedObject, Store

if TYPE_CHECKING:
    from pydantic import TypeAdapter

logger = logging.getLogger(__name__)

OUTCOMES_SCHEMA_VERSION: Final = 1
RUNS: Final = "runs/"
OUTCOMES_KEY: Final = re.compile(r"runs/([^/]+)/outcomes-(\d{1,9})\.json")
MAX_NBYTES: Final = 50_000_000
"""The size of a file of outcomes that is read. That of 10,000 failures has 5 MB."""


class ErrorEntry(TypedDict):
    """Why a model failed, or was passed over."""

    kind: str
    """The error's class: NoUnembedding, TransientError, …"""
    message: str


class ModelOutcome(TypedDict):
    """What came of one model."""

    model: str
    """The reference, as the list has it."""
    status: str
    seconds: float
    error: ErrorEntry | None


class WorkerOutcomes(TypedDict):
    """What came of the models of one worker."""

    schema_version: Literal[1]
    tool: ToolEntry
    run: str
    """The name of the run; without one, it is made of the time at which the run began."""
    worker: int
    workers: int
    began_at: str
    ended_at: str
    exit_status: int
    ended_by: str | None
    """What ended the run before its last model, if anything did."""
    n_models: int
    """How many models the worker was to survey."""
    models: list[ModelOutcome]
    """Those that it came to."""


def outcomes_key(run: str, worker: int) -> str:
    return f"runs/{run}/outcomes-{worker}.json"


def outcomes_as_bytes(
    outcomes: Sequence[Outcome],
    *,
    run: str,
    worker: int,
    workers: int,
    began_at: str,
    ended_at: str,
    exit_status: int,
    ended_by: str | None,
    n_models: int,
) -> bytes:
    """The file of a worker."""
    models: list[ModelOutcome] = [
        {
            "model": without_credentials(str(outcome.ref)),
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "error": {"kind": type(outcome.error).__name__, "message": str(outcome.error)} if outcome.error else None,
        }
        for outcome in outcomes
    ]
    content: WorkerOutcomes = {
        "schema_version": OUTCOMES_SCHEMA_VERSION,
        "tool": {"name": "black-hole-survey", "version": __version__},
        "run": run,
        "worker": worker,
        "workers": workers,
        "began_at": began_at,
        "ended_at": ended_at,
        "exit_status": exit_status,
        "ended_by": ended_by,
        "n_models": n_models,
        "models": models,
    }
    return to_json(dict(content))


def keys_of_last_run(listing: Mapping[str, ListedObject]) -> list[str]:
    """The files of the run whose worker was the last to end, by the store's clock."""
    found = {key: match[1] for key in listing if (match := OUTCOMES_KEY.fullmatch(key))}
    if not found:
        return []
    last = max(found, key=lambda key: (listing[key].modified or 0.0, key))
    return sorted((key for key, run in found.items() if run == found[last]), key=lambda key: (len(key), key))


def read_outcomes(store: Store, listing: Mapping[str, ListedObject]) -> list[WorkerOutcomes]:
    """What came of the models of the last run, worker by worker. What cannot be read is logged and left out."""
    read: list[WorkerOutcomes] = []
    for key in keys_of_last_run(listing):
        content = store.read(key) if listing[key].size <= MAX_NBYTES else b""
        if content is None:
            continue
        try:
            read.append(_adapter().validate_python(json.loads(content), strict=True))
        except (ValueError, RecursionError):
            logger.warning("%s: not the outcomes of a run; left out of the index", store.url(key))
    return read


@cache
def _adapter() -> "TypeAdapter[WorkerOutcomes]":
    from pydantic import TypeAdapter  # imported here, because only an update of the index needs it

    return TypeAdapter(WorkerOutcomes)
