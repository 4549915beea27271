"""Plans a run: for each model, pin it, find W, and see what is published already.

Reads only headers, asks about several models at once, and writes nothing.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.safetensors_header import BITS
from job.checkpoints.sources.access import Access
from job.checkpoints.transport.cooldowns import Cooldowns
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.parallel import map_as_completed
from job.errors import SurveyError, shortages_translated
from job.geometry.methods import Dedup
from job.limits.need import Need, refuse_what_does_not_fit, survey_need
from job.locate import Located, locate
from job.manifest.build import embedding_entry
from job.models.lists import warn_of_shared_names
from job.models.queries import Entry, ModelQuery
from job.models.references import ModelRef
from job.models.resolve import resolve
from job.models.revisions import ModelRevisions
from job.monitor.current import MODEL_OF_THREAD
from job.outcome import PlannedModel, PlannedSurvey, PlanStatus, Status, is_passed_over, is_unreached
from job.settings import Settings
from job.store.open import open_store
from job.store.store import Store
from job.tokens.files import tokenizer_file_names

logger = logging.getLogger(__name__)

TOKEN_ROW_NBYTES, NUMBERS_ROW_NBYTES = 40, 10
"""For each row, what is published of the tokens: with a tokenizer, and without. Measured: 25 bytes with Qwen's tokens
(benchmarks/tokens.py). Without a tokenizer, the three numbers take 9."""

_STATUS: Final[dict[Status, PlanStatus]] = {
    "surveyed": "to survey",
    "same content": "same content",
    "already published": "already published",
}


def plan_models(settings: Settings) -> Iterator[tuple[int, PlannedModel]]:
    """Each model of the run's list with its index in the list, in the order in which the answers arrive.

    Raises:
        ConfigError, TransientError: the store cannot be read, or a query cannot be resolved; no model was planned.
    """
    store, access = store_and_access(settings)
    # A store that refuses one model refuses all. No model is filed under plan/, so this listing is short.
    store.sizes("plan/")
    warn_of_shared_names(settings.models)
    yield from plan_list(settings, store, access)


def store_and_access(settings: Settings) -> tuple[Store, Access]:
    """The store that a run publishes to, and its access to checkpoints. Sends no request.

    Raises:
        ConfigError: OUTPUT is not the address of a store.
    """
    named = [entry.model if isinstance(entry, ModelRevisions) else entry for entry in settings.models]
    folders = [ref.path for ref in named if isinstance(ref, ModelRef) and ref.source == "folder"]
    access = Access(settings.hf_endpoint, settings.hf_token, settings.read_timeout, Cooldowns())
    return open_store(settings.output, folders, settings.parts), access


def resolve_list(entries: Sequence[Entry], access: Access, max_seconds: float) -> list[ModelRef]:
    """The models that a list stands for today: references as they are, the results of queries, and the revisions that
    patterns match.

    Raises:
        ConfigError, TransientError: an entry cannot be resolved, or not within ``max_seconds``.
    """

    def find(query: ModelQuery) -> list[ModelRef]:
        from job.checkpoints.sources.hub_queries import find_models  # imports the HTTP client

        access_in_time = replace(access, deadline=Deadline(max_seconds, str(query)))
        return find_models(query, access_in_time, datetime.now(UTC).date())

    def find_revisions(entry: ModelRevisions) -> list[ModelRef]:
        from job.checkpoints.sources.revisions import revisions_of  # imports the HTTP client

        return revisions_of(entry, replace(access, deadline=Deadline(max_seconds, str(entry))))

    return resolve(entries, find, find_revisions)


def plan_list(settings: Settings, store: Store, access: Access) -> Iterator[tuple[int, PlannedModel]]:
    """Each model of the list with its index in the list, in the order in which the answers arrive.

    The models whose server cannot be reached are asked about once more, after all others.
    """

    def plan_one(indexed_ref: tuple[int, ModelRef]) -> PlannedModel:
        return plan_model(
            indexed_ref[1],
            store,
            access,
            tensors=settings.tensors,
            dedup=settings.dedup,
            connections=settings.connections,
            max_seconds=settings.model_deadline,
            scratch=settings.scratch,
            scratch_limit=settings.scratch_limit,
        )

    refs = resolve_list(settings.models, access, settings.model_deadline)
    unreached: list[tuple[int, ModelRef]] = []
    for indexed_ref, planned in map_as_completed(plan_one, enumerate(refs), settings.plan_concurrency):
        if planned.error and is_unreached(planned.error):
            unreached.append(indexed_ref)
        else:
            yield indexed_ref[0], planned
    access.cooldowns.unreachable.ask_again()
    for (index, _), planned in map_as_completed(plan_one, unreached, settings.plan_concurrency):
        yield index, planned


def plan_model(
    ref: ModelRef,
    store: Store,
    access: Access,
    *,
    tensors: frozenset[str],
    dedup: Dedup,
    connections: int,
    max_seconds: float,
    scratch: Path,
    scratch_limit: int | None,
) -> PlannedModel:
    """The expected outcome of one model. Each call runs in a thread of its own."""
    MODEL_OF_THREAD.set(str(ref))
    deadline = Deadline(max_seconds, str(ref))
    try:
        with shortages_translated(str(ref)):
            located = locate(ref, replace(access, deadline=deadline), store, tensors)
            planned_survey = _planned_survey(located, dedup, connections, store.parts_in_flight)
    except SurveyError as error:
        return _failed(ref, error)
    finally:
        deadline.end()
    try:
        need = need_of(located, dedup, connections, store.parts_in_flight)
        refuse_what_does_not_fit(need, located.checkpoint.source, scratch, scratch_limit)
    except SurveyError as error:
        return _failed(ref, error, planned_survey)
    status = _STATUS[located.status]
    logger.info("%s: %s: %s, %s", ref, status, located.unembedding.name, located.unembedding.reason)
    return PlannedModel(ref, status, planned_survey)


def _failed(ref: ModelRef, error: SurveyError, survey: PlannedSurvey | None = None) -> PlannedModel:
    status: PlanStatus = "passed over" if is_passed_over(ref, error) else "fails"
    logger.info("%s: %s: %s: %s", ref, status, type(error).__name__, error)
    return PlannedModel(ref, status, survey, error=error.without_frames())


def need_of(located: Located, dedup: Dedup, connections: int, parts_in_flight: int) -> Need:
    """What the survey of a model needs."""
    location = located.unembedding.location
    is_local = location.file in located.checkpoint.local_paths and location.strides is None
    return survey_need(
        location,
        rows_are_on_disk=is_local or (located.output_is_local and "W" in located.tensors_to_publish),
        reads_w=bool(located.tensors_to_publish),
        tokenizer_nbytes=_tokenizer_nbytes(located),
        describes_tokens=located.status != "already published",
        dedup=dedup,
        connections=connections,
        parts_in_flight=parts_in_flight,
        projection="projection" in located.tensors_to_publish,
        covariance="covariance" in located.tensors_to_publish,
    )


def _tokenizer_nbytes(located: Located) -> int:
    """The size of the tokenizer's files that a survey reads."""
    if located.status == "already published":
        return 0
    checkpoint, unembedding = located.checkpoint, located.unembedding
    _, names = tokenizer_file_names(checkpoint, unembedding.location.file, unembedding.vocabulary)
    return sum(checkpoint.files[name].size for name in names)


def _planned_survey(located: Located, dedup: Dedup, connections: int, parts_in_flight: int) -> PlannedSurvey:
    checkpoint, unembedding = located.checkpoint, located.unembedding
    location, need = unembedding.location, need_of(located, dedup, connections, parts_in_flight)
    w_nbytes = location.nbytes if located.tensors_to_publish else 0
    return PlannedSurvey(
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
        read_nbytes=w_nbytes + _compared_nbytes(located) + _tokenizer_nbytes(located),
        scratch_nbytes=need.scratch_nbytes,
        output_nbytes=sum(_tensor_nbytes(location)[name] for name in located.tensors_to_publish - {"tokens"})
        + (_tokens_nbytes(located) if located.publishes_tokens else 0),
        memory_nbytes=need.memory_nbytes,
        covariance_flop=_covariance_flop(located),
        connections=connections,
        parts=parts_in_flight,
    )


def _covariance_flop(located: Located) -> int:
    """The floating-point operations that the covariance takes, apart from its eigenvalues: three products of half a
    matrix each, a multiplication and an addition for each number of a row and each column."""
    n_rows, hidden_size = located.unembedding.location.shape
    return 3 * n_rows * hidden_size**2 if "covariance" in located.tensors_to_publish else 0


def _compared_nbytes(located: Located) -> int:
    """How much a survey reads to compare W with the input embedding, besides W itself."""
    copy, same_w = located.unembedding.copy, located.published.same_w
    if copy is None or located.status == "already published":
        return 0
    if same_w and same_w["tensor"].get("embedding") == embedding_entry(located.checkpoint, copy.embedding):
        return 0
    w = located.unembedding.location
    # By columns, W's own digest is of its rows, so its stored bytes are read even if its tensors are published.
    reads_w = w.strides is not None and not located.tensors_to_publish
    return copy.embedding.location.nbytes + (w.nbytes if reads_w else 0)


def _tokens_nbytes(located: Located) -> int:
    """About the size of what is published of the tokens. It depends on how long they are, and on how many are dead."""
    has_tokenizer = _tokenizer_nbytes(located) > 0 or located.unembedding.vocabulary is not None
    return (TOKEN_ROW_NBYTES if has_tokenizer else NUMBERS_ROW_NBYTES) * located.unembedding.location.shape[0]


def _tensor_nbytes(location: TensorLocation) -> dict[str, int]:
    """The size of each tensor that is published of a W, as far as headers tell: the number of black holes, each with a
    centroid, is not known before W is read."""
    n_rows, hidden_size = location.shape
    w_nbytes = location.nbytes if location.strides is None else math.prod(location.shape) * BITS[location.dtype] // 8
    return {
        "W": w_nbytes,
        "mu": 4 * hidden_size,
        "gamma_centered": 4 * n_rows * hidden_size,
        "black_holes": 5 * n_rows,  # a mask, and ids of at most four bytes
        "projection": 12 * (n_rows + hidden_size) + 24,
        "covariance": 8 * hidden_size * (hidden_size + 1),
    }
