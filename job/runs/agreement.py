"""A run of several workers: one worker pins the list and assigns its models, and all workers read the pinned list."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from job.errors import ConfigError, TransientError
from job.models.queries import MAX_MATCHES, Entry
from job.models.references import ModelRef
from job.models.revisions import MAX_REVISIONS, ModelRevisions
from job.outcome import PlannedModel
from job.runs.assignment import assign_workers
from job.runs.pinned_list import Assignment, PinnedList, parse_pinned_list, pinned_list_as_bytes, pinned_list_key
from job.store.store import Store, creates_once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PinnedListWait:
    """How long a worker waits for another worker to write the pinned list, in seconds.

    Worker 0 writes it. If it is late, worker i takes over after i times ``turn``. So the workers do not all ask the Hub
    about all models at once.
    """

    poll: float
    """The time between two looks at the store."""
    turn: float
    maximum: float
    """The maximum time before a worker takes over or gives up."""


def pinned_list_wait(entries: Sequence[Entry]) -> PinnedListWait:
    """How long to wait for the pinned list of these entries. To plan 200 models takes 30 s (benchmarks/plan.py)."""
    max_models = sum(map(_max_models, entries))
    turn = 60.0 + max_models / 2
    return PinnedListWait(poll=2.0, turn=turn, maximum=max(600.0, 2 * turn))


def _max_models(entry: Entry) -> int:
    """How many models an entry may stand for."""
    if isinstance(entry, ModelRef):
        return 1
    if isinstance(entry, ModelRevisions):
        return MAX_REVISIONS if entry.has_patterns else len(entry.patterns)
    return entry.limit or MAX_MATCHES


def share_of_run(
    run: str,
    entries: Sequence[Entry],
    worker: int,
    workers: int,
    store: Store,
    plan_list: Callable[[], Iterable[tuple[int, PlannedModel]]],
) -> list[ModelRef]:
    """The models of this worker. One worker resolves the list for all workers.

    ``plan_list()`` plans each model of the list, and returns it with its index in the list.

    Raises:
        ConfigError: the name of the run was used before, with another list or another number of workers.
        TransientError: the pinned list was not written in time, or the list could not be resolved.
    """
    key = pinned_list_key(run)
    list_sha256 = _digest(entries)
    wait = pinned_list_wait(entries)

    def make_pinned_list() -> bytes | None:
        planned: dict[int, PlannedModel] = {}
        read_at = time.monotonic()
        for index, model in plan_list():
            planned[index] = model
            if time.monotonic() - read_at > wait.poll:
                read_at = time.monotonic()
                if store.read(key) is not None:
                    return None
        in_order = [planned[index] for index in sorted(planned)]
        return pinned_list_as_bytes(assign_models(run, workers, list_sha256, in_order))

    pinned = parse_pinned_list(read_or_create(store, key, worker, make_pinned_list, wait), store.url(key))
    if pinned.workers != workers:
        raise ConfigError(
            f"{store.url(key)}: the run {run!r} was pinned for {pinned.workers} workers, expected {workers}; choose "
            "another RUN"
        )
    if pinned.list_sha256 != list_sha256:
        raise ConfigError(
            f"{store.url(key)}: the run {run!r} was pinned for another list of models, expected this one; choose "
            "another RUN"
        )
    share = pinned.share(worker)
    logger.info(
        "worker %d of %d: %d of the %d models in %s, pinned at %s",
        *(worker, pinned.workers, len(share), len(pinned.models), store.url(key), pinned.pinned_at),
    )
    return share


def assign_models(run: str, workers: int, list_sha256: str, planned: Sequence[PlannedModel]) -> PinnedList:
    """The pinned list: each model with its commit and its worker. All models of one repository have the same worker.

    A model that could not be planned also gets a worker, which tries it again and reports it.

    Raises:
        ConfigError, TransientError: no model could be planned, and a corrected setting or a retry may help.
    """
    sizes = [model.survey.read_nbytes for model in planned if model.survey]
    curable = [model.error for model in planned if isinstance(model.error, ConfigError | TransientError)]
    if curable and not sizes:
        raise min(curable, key=lambda error: isinstance(error, TransientError))
    mean_size = sum(sizes) // max(1, len(sizes))
    loads = [
        (model.survey.repo_id, model.survey.read_nbytes)
        if model.survey
        else (model.ref.location, mean_size if isinstance(model.error, TransientError) else 0)
        for model in planned
    ]
    assignments = [
        Assignment(pinned_ref(model), nbytes, worker)
        for model, (_, nbytes), worker in zip(planned, loads, assign_workers(loads, workers), strict=True)
    ]
    pinned_at = datetime.now(UTC).isoformat(timespec="seconds")
    return PinnedList(run, workers, list_sha256, pinned_at, tuple(assignments))


def pinned_ref(planned: PlannedModel) -> ModelRef:
    """The reference with the commit that was planned. A reference to a source without commits stays unchanged."""
    if planned.ref.source != "hub" or not planned.survey:
        return planned.ref
    return replace(planned.ref, commit=planned.survey.asked_commit)


def read_or_create(
    store: Store, key: str, worker: int, make_content: Callable[[], bytes | None], wait: PinnedListWait
) -> bytes:
    """The content of ``key``, which is the same for all workers. If there is none, one worker creates it.

    ``make_content()`` may return None if another worker wrote the content in the meantime.

    On a store that creates a key only once, any worker may write, and the first one decides. On other stores, the
    content of one worker could replace that of another, so only worker 0 writes, and the others wait. (The Job's
    ``podReplacementPolicy: Failed`` ensures that worker 0 never runs in two pods at once.)

    Raises:
        TransientError: no worker wrote the content in time.
    """
    content = store.read(key)
    if content is None and worker > 0:
        logger.info("worker %d: waiting for worker 0 to write %s", worker, store.url(key))
        turn = min(worker * wait.turn, wait.maximum)
        content = _wait_for(store, key, turn, wait.poll)
        if content is None and not creates_once(store, f"{key}."):
            content = _wait_for(store, key, wait.maximum - turn, wait.poll)
            if content is None:
                raise TransientError(
                    f"{store.url(key)}: found nothing after {wait.maximum:,.0f} s, expected the list from worker 0 "
                    "(on this store no other worker may write it); find out why worker 0 is late, then run again"
                )
    if content is None:
        new_content = make_content()
        created = new_content is not None and store.create(key, new_content)
        # Read the content back in any case, because another worker may have been first.
        content = _wait_for(store, key, wait.turn, wait.poll)
        if content is None:
            found = "nothing, although it was written" if created else "nothing, and it cannot be created"
            raise TransientError(
                f"{store.url(key)}: found {found}, expected the run's list; check the store, then run again"
            )
    return content


def _wait_for(store: Store, key: str, seconds: float, poll: float) -> bytes | None:
    """The content of ``key`` as soon as it exists; None if it does not exist after this many seconds."""
    deadline = time.monotonic() + seconds
    while (content := store.read(key)) is None and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(poll, left))
    return content


def _digest(entries: Sequence[Entry]) -> str:
    """The sha-256 of the list before it is resolved."""
    fields = [asdict(entry) for entry in entries]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()
