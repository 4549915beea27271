"""THE STORY: how one model is surveyed, and how a run goes through its models. It alone knows every room."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from job import __version__
from job.checkpoints.head.tie import NamedTensor, settle
from job.checkpoints.head.unembedding import Unembedding
from job.checkpoints.sources.open import Access
from job.errors import CorruptCheckpoint, SurveyError
from job.locate import Located, locate
from job.manifest.build import artifact_entry, build_manifest, embedding_entry
from job.manifest.comparison import compare_with_previous, survey_diff
from job.manifest.filing import publish_manifest, repair_latest
from job.manifest.schema import FromW, from_w_of
from job.models.references import ModelRef
from job.monitor.callbacks import Stage, Track
from job.monitor.progress import ProgressReporter
from job.monitor.stages import StageTimer
from job.outcome import Outcome, Status, is_passed_over
from job.plan import plan_list, resolve_list, store_and_access
from job.report.model_page import model_page
from job.runs.agreement import share_of_run
from job.scratch import scratch_folder
from job.settings import Dedup, Settings
from job.store.artifacts import ArtifactFolder, publish_bytes
from job.store.store import Store
from job.tokens.naming import name_tokens

logger = logging.getLogger(__name__)

Stream = Callable[[NamedTensor, str], Iterator[bytes]]
"""``stream(tensor, label)``: the bytes a tensor is stored in, in order, shown under a label as they pass."""


def run(settings: Settings, progress: ProgressReporter) -> Iterator[Outcome]:
    """Survey every model, or this worker's share, in turn; one that fails does not keep the others from being surveyed.

    Raises:
        ConfigError, TransientError: the store cannot be written to, a query cannot be resolved, or the run's workers
            cannot agree on a list; no model was surveyed.
    """
    store, access = store_and_access(settings)
    store.check()
    if settings.run:
        refs = share_of_run(
            settings.run,
            settings.models,
            settings.worker,
            settings.workers,
            store,
            lambda: plan_list(settings, store, access),
        )
    else:
        refs = resolve_list(settings.models, access)
    progress.metrics.begin(len(refs))
    for number, ref in enumerate(refs, 1):
        logger.info("%s: model %d of %d", ref, number, len(refs), extra={"model": str(ref)})
        progress.metrics.begin_model(str(ref))
        timer = StageTimer(progress.metrics)
        try:
            outcome = survey_model(
                ref,
                store,
                access,
                progress,
                timer,
                tensors=settings.tensors,
                dedup=settings.dedup,
                scratch=settings.scratch,
                connections=settings.connections,
            )
        except SurveyError as error:
            outcome = failed(ref, error, timer.total)
        else:
            message = "%s: %s in %.1f s"
            logger.info(message, ref, outcome.status, outcome.seconds, extra={"model": str(ref)})
        progress.metrics.end_model(outcome)
        yield outcome


def failed(ref: ModelRef, error: SurveyError, seconds: float) -> Outcome:
    """What came of a model that cannot be surveyed, once it is logged."""
    passed_over = is_passed_over(ref, error)
    status: Status = "passed over" if passed_over else "failed"
    level = logging.WARNING if passed_over else logging.ERROR
    message = "%s: %s: %s: %s"
    logger.log(level, message, ref, status, type(error).__name__, error, extra={"model": str(ref)})
    return Outcome(ref, status, seconds, error=error.without_frames())


def survey_model(
    ref: ModelRef,
    store: Store,
    access: Access,
    progress: ProgressReporter,
    timer: StageTimer,
    *,
    tensors: frozenset[str],
    dedup: Dedup,
    scratch: Path,
    connections: int,
) -> Outcome:
    """Pin the model, find W, stream it through the measurements into the store, and publish its manifest last of all.

    Raises:
        SurveyError: the model cannot be surveyed. Nothing that was published of it counts without its manifest.
    """
    with scratch_folder(scratch) as workspace:
        with timer.stage("find"):
            located = locate(ref, access, store, tensors)
        progress.metrics.fetch_from(located.bytes_fetched)
        checkpoint, unembedding, published = located.checkpoint, located.unembedding, located.published
        log(ref, "find", "W is %s in %s: %s", unembedding.name, unembedding.location.file, unembedding.reason)
        if published.own and not located.missing:
            repair_latest(store, published.own)
            return Outcome(ref, located.status, timer.total, located.bytes_fetched(), published.own)
        store.discard_unfinished(f"{published.folder}/")

        track = partial(progress.track, str(ref))

        def stream(tensor: NamedTensor, label: str) -> Iterator[bytes]:
            return track(checkpoint.stream(tensor.location, connections), tensor.location.nbytes, label)

        from_w = results_of_w(located, store, stream, track, timer.stage, workspace, dedup)
        unembedding = settle_tie(located, from_w["w_sha256"], stream, timer.stage)
        with timer.stage("name tokens"):
            rows = (token["id"] for hole in from_w["black_holes"] for token in hole["tokens"])
            names = name_tokens(checkpoint, unembedding.vocabulary, rows, workspace)
        manifest = build_manifest(
            checkpoint,
            unembedding,
            from_w,
            names,
            chosen_by_user=ref.tensor is not None or ref.file is not None,
            note=ref.note,
            previous=compare_with_previous(published, from_w["black_holes"]),
            bytes_fetched=located.bytes_fetched(),
            seconds=dict(timer.stages),
        )
        page = publish_bytes(store, f"{published.folder}/report.md", model_page(manifest).encode())
        manifest["artifacts"]["report"] = artifact_entry(page)
        publish_manifest(store, published.folder, manifest)
    diff = survey_diff(published, manifest)
    return Outcome(ref, located.status, timer.total, located.bytes_fetched(), manifest, diff=diff)


def results_of_w(
    located: Located,
    store: Store,
    stream: Stream,
    track: Track,
    stage: Stage,
    workspace: Path,
    dedup: Dedup,
) -> FromW:
    """What follows from W's bytes: measured now, with the missing tensors published, or known from a published survey.

    Raises:
        CorruptCheckpoint: published tensors are of another W, although the file's identity is the same; or a local file
            changed while it was read.
    """
    checkpoint, unembedding, known = located.checkpoint, located.unembedding, located.published.same_w
    if known and not located.missing:
        return from_w_of(known)
    from job.passes import measure  # with torch, which a run in which all is published does without

    location = unembedding.location
    origin = {
        "model": checkpoint.repo_id,
        "commit": checkpoint.commit,
        "tensor": unembedding.name,
        "version": __version__,
    }
    output = ArtifactFolder(store, located.published.folder, located.missing, origin)
    chunks = stream(NamedTensor(unembedding.name, location), "W")
    local_file = checkpoint.local_paths.get(location.file)
    results = measure(location, chunks, local_file, workspace, output, dedup=dedup, track=track, stage=stage)
    if local_file:
        # A folder's files are checked against what they were when they were pinned whenever bytes are fetched.
        checkpoint.fetch(location.file, location.begin, location.begin + 1)
    if known is None:
        return results
    if results["w_sha256"] != known["w_sha256"]:
        raise CorruptCheckpoint(
            f"{checkpoint.source}: found W with the sha-256 {results['w_sha256']}, expected {known['w_sha256']}, which "
            "was published of the same unchanged file; give the file a new modification time if it did change"
        )
    return {**results, "artifacts": {**known["artifacts"], **results["artifacts"]}}


def settle_tie(located: Located, w_sha256: str, stream: Stream, stage: Stage) -> Unembedding:
    """W with the tie state that all bytes tell, where until now only some rows of the embedding were read.

    Reads the embedding once, unless a published survey of the same W tells of the same embedding.
    """
    unembedding, known = located.unembedding, located.published.same_w
    if unembedding.copy is None:
        return unembedding
    with stage("compare embedding"):
        embedding = unembedding.copy.embedding
        if known and known["tensor"].get("embedding") == embedding_entry(located.checkpoint, embedding):
            tie, evidence = known["tensor"]["tie"], known["tensor"]["tie_evidence"]
        else:
            head = NamedTensor(unembedding.name, unembedding.location)
            state = settle(unembedding.copy, head, w_sha256, lambda tensor: stream(tensor, tensor.name))
            tie, evidence = state.tie, state.evidence
        return replace(unembedding, tie=tie, tie_evidence=evidence)


def log(ref: ModelRef, stage: str, message: str, *values: object) -> None:
    """Log what a stage found, with the model's name in front and as fields for machines."""
    logger.info("%s: " + message, ref, *values, extra={"model": str(ref), "stage": stage})
