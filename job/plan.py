"""What a run would do: pin → find W → published already? Headers only, many models at once, nothing written."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from job.checkpoints.formats.safetensors_header import BITS
from job.checkpoints.head.tie import Tie
from job.checkpoints.transport.side_by_side import side_by_side
from job.errors import SurveyError
from job.locate import Cooldowns, Located, find, open_store
from job.models.references import ModelRef
from job.models.resolve import resolve_today
from job.monitor.current import ASKED_ABOUT
from job.outcome import Status, is_passed_over
from job.settings import Settings
from job.store.store import Store
from job.tokens.tokenizer import FILES

logger = logging.getLogger(__name__)

PlanStatus = Literal["to survey", "same content", "already published", "passed over", "fails"]
"""``same content``: a new commit whose W is published, so that only a manifest and a report will be written.
``passed over``: a query found it, and its survey would fail; the run will not."""

_STATUS: Final[dict[Status, PlanStatus]] = {
    "surveyed": "to survey",
    "same content": "same content",
    "already published": "already published",
}

# What a survey's process takes, by `python -m benchmarks.memory --rows …` over 20,000 to 1,000,000 rows, each with its
# token, and CONNECTIONS from 1 to 16: peaks of 438 to 783 MB, which the formula below exceeds by 2 to 22 %.
BASE_NBYTES: Final = 455_000_000
"""The interpreter with torch and transformers, blocks of rows, and a model class built without weights."""
CONNECTION_NBYTES: Final = 12_600_000
"""A chunk of 8 MiB, and the room its buffer grows by."""
ROW_NBYTES: Final = 300
"""43 bytes that are kept of a row, 161 while rows are grouped (numpy's own count), and its token."""
COPIES_OF_W: Final = 5
"""What torch.unique holds: the rows, its own copies of them, and one more where W holds a −0 or a NaN."""


@dataclass(frozen=True)
class Need:
    """What is known of a model's W, and what its survey takes. Sizes in bytes."""

    repo_id: str
    commit: str
    asked_commit: str
    """Of the model that was asked for, where that is an adapter whose base is surveyed; else the same."""
    source: str
    tensor: str
    reason: str
    tie: Tie
    tie_evidence: str
    notes: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    file: str
    w_nbytes: int
    checkpoint_nbytes: int
    read_nbytes: int
    """Of W; 0 where it is published already."""
    scratch_nbytes: int
    """On the disk, while this model is surveyed."""
    memory_nbytes: int


@dataclass(frozen=True)
class Planned:
    """What will come of one model: what it takes, or the error that it will fail with or be passed over for."""

    ref: ModelRef
    status: PlanStatus
    need: Need | None = None
    error: SurveyError | None = None


def plan_models(settings: Settings) -> Iterator[tuple[int, Planned]]:
    """What a run with these settings would do, a model at a time, in the order in which that becomes known, each with
    its place in the run's list.

    Raises:
        ConfigError, TransientError: the store cannot be read, or a query not be resolved; no model was asked about.
    """
    store, cooldowns = open_store(settings), Cooldowns()
    # A store that refuses one model refuses them all. Listing what no model is filed under is the cheapest question.
    store.sizes("plan/")

    yield from plan_each(resolve_today(settings, cooldowns), settings, store, cooldowns)


def plan_each(
    refs: Sequence[ModelRef], settings: Settings, store: Store, cooldowns: Cooldowns
) -> Iterator[tuple[int, Planned]]:
    """What will come of each model, as it becomes known, with the model's place among those given."""

    def plan_one(numbered: tuple[int, ModelRef]) -> Planned:
        return plan_model(numbered[1], settings, store, cooldowns)

    for (place, _), planned in side_by_side(plan_one, enumerate(refs), settings.plan_concurrency):
        yield place, planned


def plan_model(ref: ModelRef, settings: Settings, store: Store, cooldowns: Cooldowns) -> Planned:
    """What will come of one model. Called by a thread of its own."""
    ASKED_ABOUT.set(str(ref))
    try:
        found = find(ref, settings, store, cooldowns)
    except SurveyError as error:
        fate: PlanStatus = "passed over" if is_passed_over(ref, error) else "fails"
        logger.info("%s: %s: %s: %s", ref, fate, type(error).__name__, error)
        return Planned(ref, fate, error=error.without_frames())
    status = _STATUS[found.status]
    logger.info("%s: %s: %s, %s", ref, status, found.unembedding.name, found.unembedding.reason)
    return Planned(ref, status, _need(found, settings))


def _need(found: Located, settings: Settings) -> Need:
    checkpoint, unembedding = found.checkpoint, found.unembedding
    location, to_read = unembedding.location, bool(found.missing)
    is_local = location.file in checkpoint.local_paths
    if location.strides is None:
        copied = 0 if is_local else location.nbytes
    else:  # what is stored, and the rows that are put together from it
        copied = location.nbytes + math.prod(location.shape) * BITS[location.dtype] // 8
    tokenizer = sum(checkpoint.files[name].size for name in FILES if name in checkpoint.files)
    return Need(
        repo_id=checkpoint.repo_id,
        commit=checkpoint.commit,
        asked_commit=checkpoint.followed_from[0].rpartition("@")[2] if checkpoint.followed_from else checkpoint.commit,
        source=checkpoint.source,
        tensor=unembedding.name,
        reason=unembedding.reason,
        tie=unembedding.tie,
        tie_evidence=unembedding.tie_evidence,
        notes=unembedding.warnings,
        dtype=location.dtype,
        shape=location.shape,
        file=location.file,
        w_nbytes=location.nbytes,
        checkpoint_nbytes=checkpoint.nbytes,
        read_nbytes=location.nbytes if to_read else 0,
        scratch_nbytes=copied + tokenizer if to_read else 0,
        memory_nbytes=memory_needed(location.shape[0], location.nbytes, settings) if to_read else BASE_NBYTES,
    )


def memory_needed(n_rows: int, w_nbytes: int, settings: Settings) -> int:
    """Bytes that the process takes at most while it surveys a W of ``n_rows`` rows."""
    copies = COPIES_OF_W * w_nbytes if settings.dedup == "torch-unique" else 0
    return BASE_NBYTES + settings.connections * CONNECTION_NBYTES + n_rows * ROW_NBYTES + copies
