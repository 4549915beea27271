"""What a run would do: pin → find W → published already? Headers only, many models at once, nothing written."""

import logging
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from job.checkpoints.formats.safetensors_header import BITS
from job.checkpoints.sources.hub_queries import find_models
from job.checkpoints.sources.open import Access
from job.checkpoints.transport.parallel import map_as_completed
from job.checkpoints.transport.retries import Cooldowns
from job.errors import SurveyError
from job.geometry.methods import Dedup
from job.locate import Located, locate
from job.models.queries import Entry
from job.models.references import ModelRef
from job.models.resolve import resolve
from job.monitor.current import ASKED_ABOUT
from job.outcome import Need, Planned, PlanStatus, Status, is_passed_over
from job.settings import Settings
from job.store.open import open_store
from job.store.store import Store
from job.tokens.tokenizer import FILES

logger = logging.getLogger(__name__)

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


def plan_models(settings: Settings) -> Iterator[tuple[int, Planned]]:
    """What a run with these settings would do, a model at a time, in the order in which that becomes known, each with
    its place in the run's list.

    Raises:
        ConfigError, TransientError: the store cannot be read, or a query not be resolved; no model was asked about.
    """
    store, access = store_and_access(settings)
    # A store that refuses one model refuses them all. Listing what no model is filed under is the cheapest question.
    store.sizes("plan/")
    yield from plan_list(settings, store, access)


def store_and_access(settings: Settings) -> tuple[Store, Access]:
    """Where a run publishes, and how it reads. Nothing is asked of either yet.

    Raises:
        ConfigError: OUTPUT cannot be a store.
    """
    folders = [ref.path for ref in settings.models if isinstance(ref, ModelRef) and ref.source == "folder"]
    access = Access(settings.hf_endpoint, settings.hf_token, settings.read_timeout, Cooldowns())
    return open_store(settings.output, folders), access


def resolve_list(entries: Sequence[Entry], access: Access) -> list[ModelRef]:
    """The models that a list stands for today.

    Raises:
        ConfigError, TransientError: a query cannot be resolved.
    """
    return resolve(entries, partial(find_models, access=access, today=datetime.now(UTC).date()))


def plan_list(settings: Settings, store: Store, access: Access) -> Iterator[tuple[int, Planned]]:
    """What will come of each model of the list, as it becomes known, with the model's place in the list."""

    def plan_one(numbered: tuple[int, ModelRef]) -> Planned:
        return plan_model(
            numbered[1],
            store,
            access,
            tensors=settings.tensors,
            dedup=settings.dedup,
            connections=settings.connections,
        )

    refs = resolve_list(settings.models, access)
    for (place, _), planned in map_as_completed(plan_one, enumerate(refs), settings.plan_concurrency):
        yield place, planned


def plan_model(
    ref: ModelRef, store: Store, access: Access, *, tensors: frozenset[str], dedup: Dedup, connections: int
) -> Planned:
    """What will come of one model. Called by a thread of its own."""
    ASKED_ABOUT.set(str(ref))
    try:
        located = locate(ref, access, store, tensors)
    except SurveyError as error:
        status: PlanStatus = "passed over" if is_passed_over(ref, error) else "fails"
        logger.info("%s: %s: %s: %s", ref, status, type(error).__name__, error)
        return Planned(ref, status, error=error.without_frames())
    status = _STATUS[located.status]
    logger.info("%s: %s: %s, %s", ref, status, located.unembedding.name, located.unembedding.reason)
    return Planned(ref, status, _need(located, dedup, connections))


def _need(located: Located, dedup: Dedup, connections: int) -> Need:
    checkpoint, unembedding = located.checkpoint, located.unembedding
    location, to_read = unembedding.location, bool(located.missing)
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
        memory_nbytes=memory_needed(location.shape[0], location.nbytes, dedup, connections) if to_read else BASE_NBYTES,
    )


def memory_needed(n_rows: int, w_nbytes: int, dedup: Dedup, connections: int) -> int:
    """Bytes that the process takes at most while it surveys a W of ``n_rows`` rows."""
    copies = COPIES_OF_W * w_nbytes if dedup == "torch-unique" else 0
    return BASE_NBYTES + connections * CONNECTION_NBYTES + n_rows * ROW_NBYTES + copies
