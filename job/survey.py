"""THE STORY: how one model is surveyed, and how a run goes through its models. It alone knows every room."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import torch

from job.errors import CorruptCheckpoint, ModelError, SurveyError
from job.geometry.dedup import find_black_holes
from job.locate import Cooldowns, find, open_store, resolve_today
from job.manifest.build import describe, describe_statistics, list_black_holes
from job.manifest.comparison import news_of, since_previous
from job.manifest.filing import Manifest, publish_manifest, repair_latest
from job.models.references import ModelRef
from job.monitor.progress import ProgressReporter
from job.monitor.stages import StageTimer
from job.outcome import Outcome, Status, is_passed_over
from job.passes import first_pass, publish_small_tensors, second_pass
from job.report.model_page import model_page
from job.runs.agreement import share_of_run
from job.scratch import scratch_folder, write_scratch
from job.settings import Settings
from job.store.artifacts import publish_bytes
from job.store.store import Store
from job.subject import Subject
from job.tokens.gguf_tokens import from_vocabulary
from job.tokens.tokenizer import FILES, TokenizerUnusable, load_tokenizer
from job.tying import settle_tie

logger = logging.getLogger(__name__)

MEASURED: Final = ("w_sha256", "statistics", "black_holes", "artifacts")
"""The fields of a manifest that follow from W's bytes, and so hold for every commit that has them."""

TOKENIZER_FILE_LIMIT: Final = 256 << 20
"""Bytes; the largest tokenizer files today have about 40 MB."""


def run(settings: Settings, follow: ProgressReporter) -> Iterator[Outcome]:
    """Survey every model, or this worker's share, in turn; one that fails does not keep the others from being surveyed.

    Raises:
        ConfigError, TransientError: the store cannot be written to, a query cannot be resolved, or the run's workers
            cannot agree on a plan; no model was surveyed.
    """
    # Blocks are small: handing each to several threads takes longer than it takes one (benchmarks/speed.py), and the
    # other cores have the network and the store to serve.
    torch.set_num_threads(1)
    store, cooldowns = open_store(settings), Cooldowns()
    store.check()
    refs = (
        share_of_run(settings.run, settings, store, cooldowns) if settings.run else resolve_today(settings, cooldowns)
    )
    follow.metrics.begin(len(refs))
    for number, ref in enumerate(refs, 1):
        follow.metrics.begin_model(str(ref))
        extra = {"model": str(ref)}
        logger.info("%s: model %d of %d", ref, number, len(refs), extra=extra)
        clock = StageTimer(follow.metrics)
        try:
            outcome = survey_model(ref, settings, store, cooldowns, follow, clock)
        except SurveyError as error:
            passed_over = is_passed_over(ref, error)
            status: Status = "passed over" if passed_over else "failed"
            outcome = Outcome(ref, status, clock.total, error=error.without_frames())
            level = logging.WARNING if passed_over else logging.ERROR
            logger.log(level, "%s: %s: %s: %s", ref, outcome.status, type(error).__name__, error, extra=extra)
        else:
            logger.info("%s: %s in %.1f s", ref, outcome.status, outcome.seconds, extra=extra)
        follow.metrics.end_model(outcome)
        yield outcome


def survey_model(
    ref: ModelRef, settings: Settings, store: Store, cooldowns: Cooldowns, follow: ProgressReporter, clock: StageTimer
) -> Outcome:
    """Pin the model, find W, stream it through the measurements into the store, and last of all say what was learnt.

    Raises:
        SurveyError: the model cannot be surveyed. Nothing that was published of it counts without its manifest.
    """
    with scratch_folder(settings.scratch) as scratch:
        with clock.stage("find"):
            found = find(ref, settings, store, cooldowns)
        follow.metrics.fetch_from(found.bytes_fetched)
        unembedding, folder = found.unembedding, found.published.folder
        subject = Subject(ref, found.checkpoint, unembedding, settings, store, follow, clock, folder, scratch)
        subject.log("find", "W is %s in %s: %s", unembedding.name, unembedding.location.file, unembedding.reason)

        known, missing, status = found.published.known, found.missing, found.status
        if known and status == "already published":
            repair_latest(store, known)
            return Outcome(ref, status, clock.total, found.bytes_fetched(), known)
        store.discard_unfinished(subject.key(""))

        measured = measure(subject, missing) if missing or not known else {field: known[field] for field in MEASURED}
        if known:
            join(subject, measured, known)
        if unembedding.copy:
            with clock.stage("compare embedding"):
                subject = settle_tie(subject, measured["w_sha256"], known)
        with clock.stage("name tokens"):
            tokenizer = name_tokens(subject, measured["black_holes"])
        manifest = describe(subject, measured, tokenizer, found.bytes_fetched())
        manifest["previous"] = since_previous(found.published, manifest)
        page = publish_bytes(store, subject.key("report.md"), model_page(manifest).encode())
        manifest["artifacts"] |= {"report": asdict(page)}
        publish_manifest(store, subject.folder, manifest)
    news = news_of(found.published, manifest)
    return Outcome(ref, status, clock.total, found.bytes_fetched(), manifest, news=news)


def join(subject: Subject, measured: dict[str, Any], known: Manifest) -> None:
    """Add to what was measured the artifacts that are published already.

    Raises:
        CorruptCheckpoint: they are of another W, although the file's identity is the same.
    """
    if measured["w_sha256"] != known["w_sha256"]:
        raise CorruptCheckpoint(
            f"{subject.checkpoint.source}: W's bytes have the sha-256 {measured['w_sha256']}, {known['w_sha256']} was "
            f"published of the same unchanged file; give the file a new modification time if it did change"
        )
    measured["artifacts"] = known["artifacts"] | measured["artifacts"]


def measure(subject: Subject, missing: frozenset[str]) -> dict[str, Any]:
    """Measure W and publish its ``missing`` tensors; returns what follows from W's bytes, as fields of the manifest."""
    clock = subject.clock
    with clock.stage("stream W"):
        measurement, rows = first_pass(subject, publish="W" in missing)
    with clock.stage("find black holes"):
        holes, by_value = find_black_holes(measurement, rows.read, rows.row_nbytes, subject.settings.dedup)
    subject.log("find black holes", "black holes: %d, with %d of %d rows", holes.n_holes, holes.n_tokens, rows.n_rows)
    with clock.stage("publish small tensors"):
        artifacts = publish_small_tensors(subject, measurement, rows, holes, missing)
    with clock.stage("centre"):
        gamma_norms, large = second_pass(subject, measurement, rows, publish="gamma_centered" in missing)
    return {
        "w_sha256": measurement.sha256.hexdigest(),
        "statistics": describe_statistics(measurement, holes, by_value, gamma_norms),
        "black_holes": list_black_holes(measurement, holes),
        "artifacts": {name: asdict(artifact) for name, artifact in (artifacts | large).items() if name in missing},
    }


def name_tokens(subject: Subject, black_holes: list[dict[str, Any]]) -> dict[str, object]:
    """Add to each hole's rows what they stand for; returns what is to be said of the tokenizer."""
    checkpoint, vocabulary = subject.checkpoint, subject.unembedding.vocabulary
    files = {name: checkpoint.files[name].content_id for name in FILES if name in checkpoint.files}
    for hole in black_holes:  # what an earlier commit's tokenizer said of them does not hold for this one
        hole["tokens"] = [{"id": token["id"], "piece": None, "text": None} for token in hole["tokens"]]
    try:
        if vocabulary and "tokenizer.json" not in files:
            files = {vocabulary.file: checkpoint.files[vocabulary.file].content_id}
            tokenizer = from_vocabulary(vocabulary.model, vocabulary.tokens)
        elif files.keys() - {"config.json"}:
            for name in files:
                write_scratch(subject.scratch / name, checkpoint.read(name, TOKENIZER_FILE_LIMIT))
            tokenizer = load_tokenizer(subject.scratch)
        else:
            return {"files": {}, "unusable": "the checkpoint has no tokenizer"}
        named = [tokenizer.tokens(token["id"] for token in hole["tokens"]) for hole in black_holes]
    except (TokenizerUnusable, ModelError) as error:
        subject.log("name tokens", "rows are not decoded: %s", error)
        return {"files": files, "unusable": str(error)}
    for hole, tokens in zip(black_holes, named, strict=True):
        hole["tokens"] = tokens
    n_rows = subject.unembedding.location.shape[0]
    return {
        "files": files,
        "kind": tokenizer.kind,
        "n_tokens": tokenizer.n_tokens,
        "rows_beyond": max(0, n_rows - tokenizer.n_tokens),
    }
