"""THE STORY: how one model is surveyed, and how a run goes through its models. It alone knows every room."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from job import __version__
from job.checkpoints.head.tie import NamedTensor, settle
from job.checkpoints.head.unembedding import Unembedding
from job.checkpoints.sources.open import Access
from job.errors import CorruptCheckpoint, SurveyError
from job.geometry.methods import Dedup
from job.locate import Located, locate
from job.manifest.build import artifact_entry, build_manifest, embedding_entry
from job.manifest.comparison import compare_with_previous, survey_diff
from job.manifest.filing import publish_manifest, repair_latest
from job.manifest.schema import FromW, from_w_of
from job.models.references import ModelRef
from job.monitor.model_monitor import ModelMonitor
from job.monitor.progress import ProgressReporter
from job.outcome import Outcome, Status, is_passed_over
from job.plan import plan_list, resolve_list, store_and_access
from job.report.model_page import model_page
from job.runs.agreement import share_of_run
from job.scratch import scratch_folder
from job.settings import Settings
from job.store.artifacts import ArtifactFolder, publish_bytes
from job.store.store import Store
from job.tokens.naming import name_tokens

logger = logging.getLogger(__name__)


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
        monitor = ModelMonitor(str(ref), progress)
        try:
            outcome = survey_model(
                ref,
                store,
                access,
                monitor,
                tensors=settings.tensors,
                dedup=settings.dedup,
                scratch=settings.scratch,
                connections=settings.connections,
            )
        except SurveyError as error:
            outcome = failed(ref, error, monitor.total_seconds)
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
    monitor: ModelMonitor,
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
        with monitor.stage("find"):
            located = locate(ref, access, store, tensors)
        checkpoint, w, published = located.checkpoint, located.unembedding, located.published
        monitor.count_fetched(located.bytes_fetched)
        monitor.log("find", "W is %s in %s: %s", w.name, w.location.file, w.reason)
        if published.own and not located.missing:
            repair_latest(store, published.own)
            return Outcome(ref, located.status, monitor.total_seconds, located.bytes_fetched(), published.own)

        store.discard_unfinished(f"{published.folder}/")
        from_w = results_of_w(located, store, workspace, monitor, dedup, connections)
        w = settle_tie(located, from_w["w_sha256"], monitor, connections)
        with monitor.stage("name tokens"):
            rows = (token["id"] for hole in from_w["black_holes"] for token in hole["tokens"])
            names = name_tokens(checkpoint, w.vocabulary, rows, workspace)
        manifest = build_manifest(
            checkpoint,
            w,
            from_w,
            names,
            chosen_by_user=ref.tensor is not None or ref.file is not None,
            note=ref.note,
            previous=compare_with_previous(published, from_w["black_holes"]),
            bytes_fetched=located.bytes_fetched(),
            seconds=monitor.seconds,
        )
        page = publish_bytes(store, f"{published.folder}/report.md", model_page(manifest).encode())
        manifest["artifacts"]["report"] = artifact_entry(page)
        publish_manifest(store, published.folder, manifest)
    diff = survey_diff(published, manifest)
    return Outcome(ref, located.status, monitor.total_seconds, located.bytes_fetched(), manifest, diff=diff)


def results_of_w(
    located: Located, store: Store, workspace: Path, monitor: ModelMonitor, dedup: Dedup, connections: int
) -> FromW:
    """What follows from W's bytes: measured now, with the missing tensors published, or known from a published survey.

    Raises:
        CorruptCheckpoint: published tensors are of another W, although the file's identity is the same; or a local file
            changed while it was read.
    """
    checkpoint, w, known = located.checkpoint, located.unembedding, located.published.same_w
    if known and not located.missing:
        return from_w_of(known)
    from job.passes import measure  # with torch, which a run in which all is published does without

    location = w.location
    origin = {
        "model": checkpoint.repo_id,
        "commit": checkpoint.commit,
        "tensor": w.name,
        "version": __version__,
    }
    output = ArtifactFolder(store, located.published.folder, located.missing, origin)
    chunks = monitor.track(checkpoint.stream(location, connections), location.nbytes, "W")
    local_file = checkpoint.local_paths.get(location.file)
    results = measure(
        location, chunks, local_file, workspace, output, dedup=dedup, track=monitor.track, stage=monitor.stage
    )
    if local_file:
        # A folder's files are checked against what they were when they were pinned whenever bytes are fetched.
        checkpoint.fetch(location.file, location.begin, location.begin + 1)
    counts = results["statistics"]
    found = (counts["black_holes"], counts["black_hole_tokens"], location.shape[0])
    monitor.log("find black holes", "black holes: %d, with %d of %d rows", *found)
    if known is None:
        return results
    if results["w_sha256"] != known["w_sha256"]:
        raise CorruptCheckpoint(
            f"{checkpoint.source}: found W with the sha-256 {results['w_sha256']}, expected {known['w_sha256']}, which "
            "was published of the same unchanged file; give the file a new modification time if it did change"
        )
    return {**results, "artifacts": {**known["artifacts"], **results["artifacts"]}}


def settle_tie(located: Located, w_sha256: str, monitor: ModelMonitor, connections: int) -> Unembedding:
    """W with the tie state that all bytes tell, where until now only some rows of the embedding were read.

    Reads the embedding once, unless a published survey of the same W tells of the same embedding.
    """
    checkpoint, w, known = located.checkpoint, located.unembedding, located.published.same_w
    if w.copy is None:
        return w

    def read(tensor: NamedTensor) -> Iterator[bytes]:
        chunks = checkpoint.stream(tensor.location, connections)
        return monitor.track(chunks, tensor.location.nbytes, tensor.name)

    with monitor.stage("compare embedding"):
        if known and known["tensor"].get("embedding") == embedding_entry(checkpoint, w.copy.embedding):
            return replace(w, tie=known["tensor"]["tie"], tie_evidence=known["tensor"]["tie_evidence"])
        state = settle(w.copy, NamedTensor(w.name, w.location), w_sha256, read)
        monitor.log("compare embedding", "%s: %s", state.tie, state.evidence)
        return replace(w, tie=state.tie, tie_evidence=state.evidence)
