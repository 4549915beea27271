"""A run of several workers: one of them pins the list and shares it out, all of them read what that one wrote."""

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
from job.outcome import Planned
from job.runs.assignment import balance
from job.runs.pinned_list import Assignment, PinnedList, parse_pinned_list, pinned_list_as_bytes, pinned_list_key
from job.store.store import Store, creates_once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PinnedListWait:
    """How long a worker waits for another one to write the plan, in seconds.

    Worker 0 writes it. Worker i takes over after i times ``turn``, so that where worker 0 is held up not all of the
    others ask the Hub about every model at once.
    """

    poll: float
    turn: float
    maximum: float


def pinned_list_wait(entries: Sequence[Entry]) -> PinnedListWait:
    """The patience for a list; 200 models take half a minute to ask about (benchmarks/plan.py)."""
    most = sum(1 if isinstance(entry, ModelRef) else entry.limit or MAX_MATCHES for entry in entries)
    turn = 60.0 + most / 2
    return PinnedListWait(poll=2.0, turn=turn, maximum=max(600.0, 2 * turn))


def share_of_run(
    run: str,
    entries: Sequence[Entry],
    worker: int,
    workers: int,
    store: Store,
    plan_list: Callable[[], Iterable[tuple[int, Planned]]],
) -> list[ModelRef]:
    """The models that fall to this worker. The list is resolved by one worker alone, for all of them.

    ``plan_list()`` asks about each model of the list, and gives what will come of it with its place in the list.

    Raises:
        ConfigError: the run's name was used before, with another list or another number of workers.
        TransientError: the pinned list did not come in time, or the list could not be resolved.
    """
    key = pinned_list_key(run)
    list_sha256 = _digest(entries)
    wait = pinned_list_wait(entries)

    def propose() -> bytes | None:
        planned: dict[int, Planned] = {}
        looked = time.monotonic()
        for place, one in plan_list():
            planned[place] = one
            if time.monotonic() - looked > wait.poll:
                looked = time.monotonic()
                if store.read(key) is not None:
                    return None
        in_order = [planned[place] for place in sorted(planned)]
        return pinned_list_as_bytes(pin(run, workers, list_sha256, in_order))

    pinned = parse_pinned_list(agree(store, key, worker, propose, wait), store.url(key))
    if (pinned.workers, pinned.list_sha256) != (workers, list_sha256):
        found, expected = (
            (f"{pinned.workers} workers", f"{workers}")
            if pinned.workers != workers
            else ("another list of models", "this one")
        )
        raise ConfigError(
            f"{store.url(key)}: the run {run!r} was planned for {found}, expected {expected}; choose another RUN"
        )
    share = pinned.share(worker)
    logger.info(
        "worker %d of %d: %d of the %d models in %s, pinned at %s",
        *(worker, pinned.workers, len(share), len(pinned.models), store.url(key), pinned.pinned_at),
    )
    return share


def pin(run: str, workers: int, list_sha256: str, planned: Sequence[Planned]) -> PinnedList:
    """Who surveys what: each model pinned as it was found, all of one repository to one worker.

    One that could not be found is shared out too, for its owner to try again and to report.

    Raises:
        ConfigError, TransientError: nothing could be found, with this setting or for now, so that nothing would be
            pinned or balanced.
    """
    found = [one.need.read_nbytes for one in planned if one.need]
    curable = [one.error for one in planned if isinstance(one.error, ConfigError | TransientError)]
    if curable and not found:
        raise min(curable, key=lambda error: isinstance(error, TransientError))
    mean = sum(found) // max(1, len(found))
    loads = [
        (one.need.repo_id, one.need.read_nbytes)
        if one.need
        else (one.ref.location, mean if isinstance(one.error, TransientError) else 0)
        for one in planned
    ]
    models = [
        Assignment(pinned_ref(one), nbytes, worker)
        for one, (_, nbytes), worker in zip(planned, loads, balance(loads, workers), strict=True)
    ]
    pinned_at = datetime.now(UTC).isoformat(timespec="seconds")
    return PinnedList(run, workers, list_sha256, pinned_at, tuple(models))


def pinned_ref(planned: Planned) -> ModelRef:
    """The reference with the commit it was found at; a source without commits stays as it is."""
    if planned.ref.source != "hub" or not planned.need:
        return planned.ref
    return replace(planned.ref, commit=planned.need.asked_commit)


def agree(store: Store, key: str, worker: int, propose: Callable[[], bytes | None], wait: PinnedListWait) -> bytes:
    """The content of ``key``, which one of the workers proposes and all of them get to see. Who takes long to propose
    may see in between that another one has, and give None.

    On a store that creates a key only once, any worker may propose, and the first to write decides. On another store
    nothing could decide between two who write, so there worker 0 alone does, and the others wait for it. (That worker 0
    is never two pods at once is the Job's ``podReplacementPolicy: Failed``.)

    Raises:
        TransientError: nobody wrote it in time.
    """
    content = store.read(key)
    if content is None and worker > 0:
        logger.info("worker %d: waiting for worker 0 to write %s", worker, store.url(key))
        turn = min(worker * wait.turn, wait.maximum)
        content = _await(store, key, turn, wait.poll)
        if content is None and not creates_once(store, f"{key}."):
            content = _await(store, key, wait.maximum - turn, wait.poll)
            if content is None:
                raise TransientError(
                    f"{store.url(key)}: found nothing after {wait.maximum:,.0f} s, expected worker 0 to write it; "
                    "no other worker may, because on this store a second writer would replace it; see why worker 0 is "
                    "late, then run again"
                )
    if content is None:
        proposal = propose()
        created = proposal is not None and store.create(key, proposal)
        # What counts is what is there: somebody else may have been first.
        content = _await(store, key, wait.turn, wait.poll)
        if content is None:
            found = "nothing, although it was written" if created else "nothing, and it cannot be created"
            raise TransientError(
                f"{store.url(key)}: found {found}, expected the run's list; check the store, then run again"
            )
    return content


def _await(store: Store, key: str, seconds: float, poll: float) -> bytes | None:
    """The content of ``key`` as soon as there is any; None after so many seconds without."""
    deadline = time.monotonic() + seconds
    while (content := store.read(key)) is None and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(poll, left))
    return content


def _digest(entries: Sequence[Entry]) -> str:
    """The sha-256 of the list as it was given."""
    fields = [asdict(entry) for entry in entries]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()
