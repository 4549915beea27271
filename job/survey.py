"""THE STORY: ``survey_model`` surveys one model, and ``run`` all models of a run. Uses all packages of the job."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from job import __version__
from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.tie import NamedTensor
from job.checkpoints.head.unembedding import Unembedding
from job.checkpoints.sources.access import Access
from job.checkpoints.transport.parallel import call_beside
from job.compare import publish_changes
from job.errors import CorruptCheckpoint, SurveyError, UploadLost, shortages_translated
from job.geometry.methods import Dedup
from job.limits.need import refuse_what_does_not_fit
from job.locate import Located, locate, published_meanwhile
from job.manifest.build import artifact_entry, build_manifest, embedding_entry, token_counts_entry
from job.manifest.comparison import compare_with_previous, survey_changes
from job.manifest.filing import (
    examined,
    page_key,
    publish_page,
    publish_survey,
    replace_manifest,
    update_latest,
    with_html,
)
from job.manifest.schema import Manifest, ResultsOfW, TokenCounts, results_of_w
from job.models.lists import warn_of_shared_names
from job.models.references import ModelRef
from job.monitor.model_monitor import ModelMonitor
from job.monitor.progress import ProgressReporter
from job.outcome import Outcome, Status, is_passed_over, is_unreached
from job.plan import need_of, plan_list, resolve_list, store_and_access
from job.report.model_page import model_page
from job.report.pages.publish import keep_page, make_page
from job.runs.agreement import share_of_run
from job.scratch import remove_abandoned, scratch_folder
from job.settings import Settings
from job.store.artifacts import TOKEN_ARTIFACTS, Artifact, ArtifactFolder, check_stored
from job.store.stopwatch import Stopwatch
from job.store.store import Chunk, Store
from job.tokens.files import fetch_tokenizer
from job.tokens.naming import TokenNames, name_tokens

if TYPE_CHECKING:
    from job.tokens.table import RowNumbers

logger = logging.getLogger(__name__)


def open_output(settings: Settings) -> tuple[Store, Access]:
    """The store to publish to, which keeps what is written to it, and the access to checkpoints. Removes what killed
    runs left.

    Raises:
        ConfigError, TransientError: the store cannot be written to.
    """
    store, access = store_and_access(settings)
    store = store.check()
    try:
        store.discard_unfinished()
    except SurveyError as error:  # only space is lost; whether the store can be used, the survey finds out
        logger.warning("leftovers of earlier runs stay: %s", error)
    remove_abandoned(settings.scratch)
    return store, access


def run(settings: Settings, store: Store, access: Access, progress: ProgressReporter) -> Iterator[Outcome]:
    """Survey all models, or this worker's share, one after another. If a model fails, the run goes on with the next.

    Raises:
        ConfigError, TransientError: a query cannot be resolved, or the run has no pinned list; no model was surveyed.
    """
    warn_of_shared_names(settings.models)
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
        refs = resolve_list(settings.models, access, settings.model_deadline)
    yield from survey_models(refs, settings, store, access, progress)


def survey_models(
    refs: Sequence[ModelRef], settings: Settings, store: Store, access: Access, progress: ProgressReporter
) -> Iterator[Outcome]:
    """Survey these models, one after another. Those whose server cannot be reached are tried once more at the end."""
    progress.metrics.begin(len(refs))
    unreached: list[ModelRef] = []
    for number, ref in enumerate(refs, 1):
        logger.info("%s: model %d of %d", ref, number, len(refs), extra={"model": str(ref)})
        outcome = survey_or_fail(ref, settings, store, access, progress)
        if outcome.error and is_unreached(outcome.error):
            unreached.append(ref)
            logger.warning("%s: %s; tried again at the end of the list", ref, outcome.error, extra={"model": str(ref)})
        else:
            yield finished(outcome, progress)
    access.cooldowns.unreachable.ask_again()
    for ref in unreached:
        logger.info("%s: tried again", ref, extra={"model": str(ref)})
        yield finished(survey_or_fail(ref, settings, store, access, progress), progress)


def survey_or_fail(
    ref: ModelRef, settings: Settings, store: Store, access: Access, progress: ProgressReporter
) -> Outcome:
    """The outcome of one model, also if it fails. What still reads for it then ends."""
    progress.metrics.begin_model(str(ref))
    monitor = ModelMonitor(str(ref), progress, settings.model_deadline)
    try:
        with shortages_translated(str(ref)):
            return survey_model(
                ref,
                store,
                replace(access, deadline=monitor.deadline),
                monitor,
                tensors=settings.tensors,
                dedup=settings.dedup,
                scratch=settings.scratch,
                connections=settings.connections,
                scratch_limit=settings.scratch_limit,
            )
    except SurveyError as error:
        status: Status = "passed over" if is_passed_over(ref, error) else "failed"
        return Outcome(ref, status, monitor.total_seconds, error=error.without_frames())
    finally:
        monitor.deadline.end()


def finished(outcome: Outcome, progress: ProgressReporter) -> Outcome:
    """The same outcome, logged and counted."""
    ref, error, extra = outcome.ref, outcome.error, {"model": str(outcome.ref)}
    if error:
        level = logging.WARNING if outcome.status == "passed over" else logging.ERROR
        logger.log(level, "%s: %s: %s: %s", ref, outcome.status, type(error).__name__, error, extra=extra)
    else:
        logger.info("%s: %s in %.1f s", ref, outcome.status, outcome.seconds, extra=extra)
    progress.metrics.end_model(outcome)
    return outcome


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
    scratch_limit: int | None = None,
) -> Outcome:
    """Pin the model, find W, stream it through the measurements into the store, and publish the manifest last.

    What else is needed of the checkpoint is fetched before W, so that its failure costs little.

    Raises:
        SurveyError: the model cannot be surveyed. Files that were published before do not count without a manifest.
    """
    with monitor.stage("find"), monitor.stopwatch.during("source"):
        located = locate(ref, access, store, tensors)
    checkpoint, w, published = located.checkpoint, located.unembedding, located.published
    monitor.count_fetched(located.bytes_fetched)
    monitor.log("find", "W is %s in %s: %s", w.name, w.location.file, w.reason)
    if published.this_survey and located.status == "already published":
        manifest = published.this_survey
        new = manifest if checkpoint.local_paths else examined(manifest)
        if keep_page(store, published.folder, manifest, published.listing):
            new = with_html(new, published.folder)
        manifest = replace_manifest(store, published.folder, manifest, new)
        # The page comes last: a latest.json of an earlier version vouches for the one before.
        update_latest(store, published.folder, manifest, published.listing)
        publish_page(store, published.folder, model_page(manifest), published.listing)
        return Outcome(ref, located.status, monitor.total_seconds, located.bytes_fetched(), manifest)

    with scratch_folder(scratch) as workspace, monitor.stopwatch.during("computing"):
        need = need_of(located, dedup, connections, store.parts_in_flight)
        refuse_what_does_not_fit(need, checkpoint.source, scratch, scratch_limit)
        try:
            manifest = survey_located(ref, located, store, workspace, monitor, dedup, connections)
        except UploadLost:
            other = published_meanwhile(located, store)
            if other is None or not tensors <= other["artifacts"].keys():
                raise
            return Outcome(ref, "already published", monitor.total_seconds, located.bytes_fetched(), other)
    changes = survey_changes(published, manifest, store.url)
    return Outcome(ref, located.status, monitor.total_seconds, located.bytes_fetched(), manifest, changes=changes)


def survey_located(
    ref: ModelRef,
    located: Located,
    store: Store,
    workspace: Path,
    monitor: ModelMonitor,
    dedup: Dedup,
    connections: int,
) -> Manifest:
    """Fetch the tokenizer, measure W, and publish the tensors, the page and the manifest. Returns the manifest.

    Raises:
        UploadLost: somebody removed or replaced what was written.
        SurveyError: the model cannot be surveyed.
    """
    checkpoint, w, published = located.checkpoint, located.unembedding, located.published
    with monitor.stage("fetch tokenizer"), monitor.stopwatch.during("source"):
        tokenizer = fetch_tokenizer(
            checkpoint, w.location.file, w.vocabulary, workspace, rows_are_not_tokens=w.rows_are_not_tokens
        )
    # The tokenizer has a process of its own, so W is read meanwhile.
    # Which tokens can be reached takes the longest to tell, and is of use in the table alone.
    naming = call_beside(
        partial(name_tokens, tokenizer, workspace, n_rows=w.location.shape[0], with_claims=located.publishes_tokens)
    )
    embedding_sha256 = digest_embedding(located, monitor, connections)
    output = artifact_folder(located, store, monitor.stopwatch)
    results, numbers, stored_sha256 = measure_or_reuse(located, output, workspace, monitor, dedup, connections)
    w = settle_tie(located, embedding_sha256, stored_sha256, monitor, connections)
    with monitor.stage("name tokens"):
        names = naming.result()
    token_counts = None
    if located.publishes_tokens:
        with monitor.stage("publish tokens"):
            token_counts = add_tokens(located, output, names, results, numbers, workspace)
    check_stored(store, {entry["key"]: entry["size"] for entry in results["artifacts"].values()})
    # This manifest takes the place of one that another run may have published meanwhile, and names its tensors too.
    other = published_meanwhile(located, store)
    others, last_sequence = (other["artifacts"], other.get("sequence", 0)) if other else ({}, 0)
    own = output.check_own(others)
    results["artifacts"] |= {name: entry for name, entry in others.items() if name not in own}
    add_explained_variance(results, published.same_w, other)
    manifest = build_manifest(
        checkpoint,
        w,
        results,
        names,
        token_counts=published_token_counts(results, published.tokens_survey, other) or token_counts,
        chosen_by_user=ref.tensor is not None or ref.file is not None,
        note=ref.note,
        page=page_key(published.folder),
        sequence=max(published.last_sequence, last_sequence) + 1,
        previous=compare_with_previous(published, results, store.read),
        bytes_fetched=located.bytes_fetched(),
        seconds={**monitor.seconds, **{name: round(seconds, 3) for name, seconds in names.seconds.items()}},
        activity_seconds=monitor.activity_seconds,
    )
    manifest = publish_changes(store, published, manifest)
    if make_page(store, published.folder, manifest):
        manifest = with_html(manifest, published.folder)
    publish_survey(store, published.folder, manifest, model_page(manifest))
    return manifest


def artifact_folder(located: Located, store: Store, stopwatch: Stopwatch) -> ArtifactFolder:
    """Where the tensors of a survey are published."""
    checkpoint = located.checkpoint
    origin = {
        "model": checkpoint.repo_id,
        "commit": checkpoint.commit,
        "tensor": located.unembedding.name,
        "version": __version__,
    }

    def find_artifact(name: str) -> Artifact | None:
        manifest = published_meanwhile(located, store)
        entry = manifest["artifacts"].get(name) if manifest else None
        return Artifact(**entry) if entry else None

    to_publish = located.tensors_to_publish - {"tokens"} | (set(TOKEN_ARTIFACTS) if located.publishes_tokens else set())
    return ArtifactFolder(store, located.published.folder, to_publish, origin, find_artifact, stopwatch)


def digest_embedding(located: Located, monitor: ModelMonitor, connections: int) -> str | None:
    """The sha-256 of the input embedding's stored bytes, if all of them are to be compared with W's.

    None if W is no copy of an embedding as far as is known, or if a published survey compared the same two.
    """
    checkpoint, copy, same_w = located.checkpoint, located.unembedding.copy, located.published.same_w
    if copy is None:
        return None
    # The id of a local file may follow from samples alone, and to read it again costs little.
    is_local = copy.embedding.location.file in checkpoint.local_paths
    if same_w and not is_local and same_w["tensor"].get("embedding") == embedding_entry(checkpoint, copy.embedding):
        return None
    with monitor.stage("compare embedding"):
        return digest_stored(checkpoint, copy.embedding, monitor, connections)


def measure_or_reuse(
    located: Located,
    output: ArtifactFolder,
    workspace: Path,
    monitor: ModelMonitor,
    dedup: Dedup,
    connections: int,
) -> tuple[ResultsOfW, "RowNumbers | None", str | None]:
    """The results that follow from W's bytes; what was measured of each row, if W was measured now; and the sha-256 of
    the bytes in which W is stored, if it is known.

    Measures W and publishes the tensors that are not published yet. If all are published, takes the results from a
    published survey of the same W.

    Raises:
        CorruptCheckpoint: the tensors published for the same file are of another W, or a local file changed while it
            was read.
    """
    checkpoint, w, same_w = located.checkpoint, located.unembedding, located.published.same_w
    location = w.location
    if same_w and not located.tensors_to_publish:
        monitor.log("find", "this W is published as %s: its tensors are not stored again", same_w["commit"])
        results = results_of_w(same_w)
        results["artifacts"] = dict(located.published.artifacts)
        return results, None, None if location.strides else results["w_sha256"]
    from job.measuring.passes import measure  # imports gguf, which is not needed if everything is published

    stored = hashlib.sha256()
    stored_chunks = monitor.stopwatch.iterate("source", checkpoint.stream(location, connections))
    chunks = monitor.track(stored_chunks, location.nbytes, "W")
    if location.strides and w.copy:  # by columns, W's own digest is of its rows, and not of what is stored
        chunks = digested(chunks, stored)
    local_file = checkpoint.local_paths.get(location.file)
    results, numbers = measure(
        location,
        chunks,
        local_file,
        workspace,
        output,
        dedup=dedup,
        track=monitor.track,
        stage=monitor.stage,
        first_reading=located.first_reading,
    )
    if checkpoint.local_paths or checkpoint.repo_id.startswith("local/"):
        # Fetching a byte checks that the file is still the one that was pinned: it may have been written to within the
        # last range. The Hub's files never change.
        checkpoint.fetch(location.file, location.begin, location.begin + 1)
    statistics = results["statistics"]
    counts = (statistics["black_holes"], statistics["black_hole_tokens"], location.shape[0])
    monitor.log("find black holes", "black holes: %d, with %d of %d rows", *counts)
    if same_w and results["w_sha256"] != same_w["w_sha256"]:
        raise CorruptCheckpoint(
            f"{checkpoint.source}: found a W with the sha-256 {results['w_sha256']}, expected {same_w['w_sha256']}, as "
            "it was published for the same file; the file changed: run again when nothing writes to it"
        )
    results["artifacts"] = {**located.published.artifacts, **results["artifacts"]}
    if location.strides is None:
        return results, numbers, results["w_sha256"]
    return results, numbers, stored.hexdigest() if w.copy else None


def add_tokens(
    located: Located,
    output: ArtifactFolder,
    names: TokenNames,
    results: ResultsOfW,
    numbers: "RowNumbers | None",
    workspace: Path,
) -> TokenCounts:
    """Publish what the rows stand for, add it to the artifacts of ``results``, and return its counts.

    ``numbers``: what was measured of each row; None if W was not measured now. Then they are taken from the table that
    is published with the tokens of another tokenizer.

    Raises:
        TransientError, ConfigError: that table is damaged, or the store or the disk fails.
    """
    from job.tokens.publish import publish_tokens, published_numbers  # imports numpy

    if numbers is None:
        if located.published.other_tokens is None:
            raise ValueError("tokens are to be published of a W that nobody measured")
        numbers = published_numbers(output.store, Artifact(**located.published.other_tokens))
    output = output.with_metadata(w_sha256=results["w_sha256"])
    artifacts, summary = publish_tokens(output, names, numbers, workspace)
    results["artifacts"] |= {name: artifact_entry(artifact) for name, artifact in artifacts.items()}
    return token_counts_entry(summary)


def published_token_counts(results: ResultsOfW, *surveys: Manifest | None) -> TokenCounts | None:
    """What one of these surveys counts, if it published the lists of dead tokens that ``results`` names."""
    named = results["artifacts"].get("dead_tokens")
    counts = (
        survey.get("token_counts") for survey in surveys if survey and survey["artifacts"].get("dead_tokens") == named
    )
    return next(filter(None, counts), None) if named else None


def add_explained_variance(results: ResultsOfW, *surveys: Manifest | None) -> None:
    """Add to the statistics what the published projection explains, if it was computed by one of these surveys."""
    named, statistics = results["artifacts"].get("projection"), results["statistics"]
    for survey in filter(None, surveys):
        if named and survey["artifacts"].get("projection") == named:
            statistics["projection"] = statistics.get("projection") or survey["statistics"].get("projection")


def settle_tie(
    located: Located, embedding_sha256: str | None, stored_sha256: str | None, monitor: ModelMonitor, connections: int
) -> Unembedding:
    """W with its final tie to the embedding, by the digests of the bytes in which the two are stored."""
    checkpoint, w, same_w = located.checkpoint, located.unembedding, located.published.same_w
    if w.copy is None:
        return w
    if embedding_sha256 is None and same_w:
        return replace(w, tie=same_w["tensor"]["tie"], tie_evidence=same_w["tensor"]["tie_evidence"])
    if stored_sha256 is None:
        stored_sha256 = digest_stored(checkpoint, NamedTensor(w.name, w.location), monitor, connections)
    state = w.copy.settled(w.name, is_equal=embedding_sha256 == stored_sha256)
    monitor.log("compare embedding", "%s: %s", state.tie, state.evidence)
    return replace(w, tie=state.tie, tie_evidence=state.evidence)


def digest_stored(checkpoint: Checkpoint, tensor: NamedTensor, monitor: ModelMonitor, connections: int) -> str:
    """The sha-256 of the bytes in which a tensor is stored."""
    digest = hashlib.sha256()
    chunks = monitor.stopwatch.iterate("source", checkpoint.stream(tensor.location, connections))
    for _ in digested(monitor.track(chunks, tensor.location.nbytes, tensor.name), digest):
        pass
    return digest.hexdigest()


def digested(chunks: Iterable[Chunk], digest: "hashlib._Hash") -> Iterator[Chunk]:
    """The same chunks, which update ``digest`` as they pass."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
