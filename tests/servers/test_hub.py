"""The Hub's real client against a Hub on this machine: the right bytes or a typed error, whatever goes wrong."""

import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import shake_256
from pathlib import Path
from types import FrameType
from typing import Literal

import pytest

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head import architecture
from job.checkpoints.head.architecture import ask_model_class
from job.checkpoints.head.model_class import ModelClassUnusable
from job.checkpoints.sources.hub import open_hub
from job.checkpoints.transport.parallel import stream_range
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import (
    ConfigError,
    CorruptCheckpoint,
    ModelError,
    ModelUnavailable,
    SurveyError,
    Terminated,
    TransientError,
    UnsupportedCheckpoint,
)
from job.logs import set_levels
from tests.servers.hub_protocol import Json
from tests.servers.loopback_hub import Fault, LoopbackHub

CONTENT = shake_256(b"weights").digest(1_500_000)
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = "*/model.safetensors"
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=5.0)
BEGIN, END = 1_000, 1_201_000

Open = Callable[..., Checkpoint]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(CONTENT)
    return folder


@pytest.fixture
def commit(hub: LoopbackHub, folder: Path) -> str:
    """The commit of ``org/model``."""
    return hub.add("org/model", folder)


@pytest.fixture
def open_model(hub: LoopbackHub, commit: str) -> Open:  # noqa: ARG001 - the model must be there
    def open_model(
        repo_id: str = "org/model",
        revision: str | None = None,
        token: str | None = None,
        read_timeout: float = 5.0,
        retry_policy: RetryPolicy = IMPATIENT,
    ) -> Checkpoint:
        return open_hub(
            repo_id,
            revision,
            endpoint=hub.endpoint,
            token=token,
            read_timeout=read_timeout,
            retry_policy=retry_policy,
        )

    return open_model


def test_a_checkpoint_is_pinned_to_a_commit_with_sizes_and_object_ids(
    hub: LoopbackHub, commit: str, open_model: Open
) -> None:
    checkpoint = open_model()
    served = hub.repos["org/model"].commits[commit]
    assert (checkpoint.repo_id, checkpoint.revision, checkpoint.commit) == ("org/model", None, commit)
    assert checkpoint.files["model.safetensors"].content_id == served["model.safetensors"].sha256
    assert checkpoint.files["config.json"].content_id == served["config.json"].oid
    assert checkpoint.nbytes == len(CONTENT) + len(CONFIG)
    assert checkpoint.source == f"{hub.endpoint}/org/model/tree/{commit}"


def test_a_pinned_checkpoint_stays_at_its_commit_when_the_branch_moves_on(
    hub: LoopbackHub, commit: str, open_model: Open, tmp_path: Path
) -> None:
    checkpoint = open_model()
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "config.json").write_bytes(b"{}")
    hub.add("org/model", newer)
    assert checkpoint.read("config.json", 1_000) == CONFIG
    assert open_model().read("config.json", 1_000) == b"{}"
    assert open_model(revision=commit).read("config.json", 1_000) == CONFIG


@pytest.mark.parametrize(
    ("begin", "end"),
    [(0, 0), (7, 7), (len(CONTENT), len(CONTENT)), (0, 1), (BEGIN, END), (0, len(CONTENT))],
    ids=["empty", "empty-inside", "empty-at-the-end", "first-byte", "inside", "whole"],
)
def test_a_range_is_exactly_its_bytes_and_no_other_byte_is_sent(
    hub: LoopbackHub, open_model: Open, begin: int, end: int
) -> None:
    assert open_model().fetch("model.safetensors", begin, end) == CONTENT[begin:end]
    assert sum(request.nbytes for request in hub.log if request.host == "cdn") == end - begin
    # What is compressed on the way has no byte positions to speak of.
    assert {request.accept_encoding for request in hub.log if request.host == "cdn"} <= {"identity"}


def test_many_connections_read_each_byte_once_and_resolve_the_file_once(hub: LoopbackHub, open_model: Open) -> None:
    hub.latency = 0.02
    checkpoint = open_model()
    fill = partial(checkpoint.fill, "model.safetensors")
    chunks = list(stream_range(fill, BEGIN, END, chunk_nbytes=100_000, connections=8))
    assert b"".join(chunks) == CONTENT[BEGIN:END]
    assert [request.path.rsplit("/", 1)[1] for request in hub.log if request.method == "HEAD"] == ["model.safetensors"]
    asked = [request.range for request in hub.log if request.host == "cdn"]
    assert sorted(map(str, asked)) == sorted(f"bytes={b}-{b + 99_999}" for b in range(BEGIN, END, 100_000))


def test_the_token_is_sent_to_the_hub_and_never_to_the_cdn(hub: LoopbackHub, folder: Path, open_model: Open) -> None:
    hub.add("org/gated", folder, access="gated")
    hub.tokens = {"hf_good": {"org/gated"}}
    checkpoint = open_model("org/gated", token="hf_good")
    assert checkpoint.fetch("model.safetensors", BEGIN, END) == CONTENT[BEGIN:END]
    assert checkpoint.read("config.json", 1_000) == CONFIG
    assert {(request.host, request.token) for request in hub.log} == {("hub", "hf_good"), ("cdn", None)}


RECOVERABLE = {
    "cut-before-the-first-byte": Fault(WEIGHTS, ending="cut"),
    "cut-mid-body": Fault(WEIGHTS, ending="cut", nbytes=500_000),
    "reset-mid-body": Fault(WEIGHTS, ending="reset", nbytes=500_000),
    "stall-mid-body": Fault(WEIGHTS, ending="stall", nbytes=500_000),
    "silent-cdn": Fault(WEIGHTS, ending="silent"),
    "503-from-the-cdn": Fault(WEIGHTS, status=503),
    "429-from-the-cdn": Fault(WEIGHTS, status=429, headers={"Retry-After": "0"}),
    "403-from-the-cdn": Fault(WEIGHTS, status=403),
    "404-from-the-cdn": Fault(WEIGHTS, status=404),
    "redirect-from-the-cdn": Fault(WEIGHTS, status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
    "503-on-resolve": Fault(WEIGHTS, host="hub", status=503),
    "429-on-resolve": Fault(WEIGHTS, host="hub", status=429, headers={"RateLimit": '"resolvers";r=0;t=0'}),
    "silent-on-resolve": Fault(WEIGHTS, host="hub", ending="silent"),
    "500-from-the-api": Fault("/api/models/*", host="hub", status=500),
    "429-from-the-api": Fault("/api/models/*", host="hub", status=429),
    "cut-api": Fault("/api/models/*", host="hub", ending="cut", nbytes=10),
    "reset-api": Fault("/api/models/*", host="hub", ending="reset"),
}


@pytest.mark.parametrize("fault", RECOVERABLE.values(), ids=RECOVERABLE.keys())
def test_the_bytes_are_right_after_a_passing_fault(hub: LoopbackHub, open_model: Open, fault: Fault) -> None:
    hub.faults = [Fault(**vars(fault))]
    checkpoint = open_model(read_timeout=0.5)
    assert checkpoint.fetch("model.safetensors", BEGIN, END) == CONTENT[BEGIN:END]
    assert hub.faults[0].times == 0, "the fault was not met"


REFUSALS = {
    "200-from-the-cdn": Fault(WEIGHTS, ranges="ignored"),
    "another-range": Fault(WEIGHTS, ranges="shifted"),
    "416-from-the-cdn": Fault(WEIGHTS, status=416, headers={"Content-Range": f"bytes */{len(CONTENT)}"}),
    "compressed-by-the-cdn": Fault(WEIGHTS, headers={"Content-Encoding": "gzip"}),
    "another-size-on-the-cdn": Fault(WEIGHTS, ranges="of another size"),
    "another-size-on-resolve": Fault(WEIGHTS, host="hub", ranges="of another size"),
    "another-commit-on-resolve": Fault(WEIGHTS, host="hub", headers={"X-Repo-Commit": "f" * 40}),
    "401-on-resolve": Fault(WEIGHTS, host="hub", status=401),
    "403-on-resolve": Fault(WEIGHTS, host="hub", status=403),
    "404-on-resolve": Fault(WEIGHTS, host="hub", status=404),
    "gated-on-resolve": Fault(WEIGHTS, host="hub", status=403, headers={"X-Error-Code": "GatedRepo"}),
    "redirect-without-a-location": Fault(WEIGHTS, host="hub", status=302),
    "redirect-to-itself": Fault(WEIGHTS, host="hub", status=302, headers={"Location": ""}, times=5),
    "401-from-the-api": Fault("/api/models/*", host="hub", status=401),
    "403-from-the-api": Fault("/api/models/*", host="hub", status=403),
    "404-from-the-api": Fault("/api/models/*", host="hub", status=404),
    "missing-from-the-api": Fault("/api/models/*", host="hub", status=404, headers={"X-Error-Code": "RepoNotFound"}),
    "half-an-answer-from-the-api": Fault("/api/models/*", host="hub", status=200, body=b'{"id": "org/mod'),
    "page-from-the-api": Fault("/api/models/*", host="hub", status=200, body=b"<html>"),
    "other-json-from-the-api": Fault("/api/models/*", host="hub", status=200, body=b'{"error": "busy"}'),
    "302-from-the-api": Fault("/api/models/*", host="hub", status=302),
}
"""Answers that are final when they stay."""


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS.keys())
def test_one_refusal_is_not_believed(hub: LoopbackHub, open_model: Open, fault: Fault) -> None:
    hub.faults = [Fault(**vars(fault))]
    assert open_model().fetch("model.safetensors", BEGIN, END) == CONTENT[BEGIN:END]
    assert hub.faults[0].times == 0, "the fault was not met"


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_that_stays_is_believed(hub: LoopbackHub, open_model: Open, fault: Fault) -> None:
    hub.faults = [Fault(**{**vars(fault), "times": None})]
    with pytest.raises(ModelError):
        open_model().fetch("model.safetensors", BEGIN, END)


def test_a_refusal_with_a_reason_is_heard_twice_and_one_without_as_often_as_an_outage(
    hub: LoopbackHub, open_model: Open
) -> None:
    policy = RetryPolicy(attempts=6, first_wait=0.01, max_wait=0.01)
    for headers, n_requests in ({"X-Error-Code": "RepoNotFound"}, 2), ({}, 6):
        hub.log.clear()
        hub.faults = [Fault("/api/*", host="hub", status=404, headers=headers, times=None)]
        with pytest.raises(ModelUnavailable):
            open_model(retry_policy=policy)
        assert len(hub.log) == n_requests


@pytest.mark.parametrize(
    ("fault", "n_requests"),
    [
        (Fault(WEIGHTS, "hub", status=200, body=b"<html>Log in"), 6),
        (Fault(WEIGHTS, "hub", status=302), 6),
        (Fault(WEIGHTS, "hub", status=302, headers={"Location": ""}), 2 * 5),
        (REFUSALS["another-commit-on-resolve"], 2),
    ],
    ids=["page", "redirect-without-a-location", "circle", "another-commit"],
)
def test_an_answer_about_a_file_that_need_not_be_the_hubs_is_heard_as_often_as_an_outage(
    hub: LoopbackHub, open_model: Open, fault: Fault, n_requests: int
) -> None:
    checkpoint = open_model(retry_policy=RetryPolicy(attempts=6, first_wait=0.01, max_wait=0.01))
    hub.log.clear()
    hub.faults = [Fault(**{**vars(fault), "times": None})]
    with pytest.raises(ModelError):
        checkpoint.fetch("model.safetensors", BEGIN, END)
    assert len(hub.log) == n_requests


def test_a_refusal_at_the_end_of_an_outage_is_not_believed(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault("/api/*", host="hub", status=503, times=2), Fault("/api/*", host="hub", status=401)]
    with pytest.raises(TransientError, match="3 times in a row"):
        open_model()


def test_a_hub_that_redirects_for_ever_is_refused(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault("/api/*", host="hub", status=302, headers={"Location": "/api/models/org/model"}, times=None)]
    with pytest.raises(UnsupportedCheckpoint, match=r"not a Hub's .*check HF_ENDPOINT"):
        open_model()
    assert len(hub.log) == 2 * 21


@pytest.mark.parametrize("fault", RECOVERABLE.values(), ids=RECOVERABLE.keys())
def test_a_fault_that_stays_ends_in_a_transient_error(hub: LoopbackHub, open_model: Open, fault: Fault) -> None:
    began = time.monotonic()
    # After some bytes the fault must strike before the next one, or every attempt would make progress.
    hub.faults = [Fault(**{**vars(fault), "times": 1}), Fault(**{**vars(fault), "times": None, "nbytes": 0})]
    with pytest.raises(TransientError, match="times in a row; try again later"):
        open_model(read_timeout=0.3).fetch("model.safetensors", BEGIN, END)
    assert time.monotonic() - began < 3


def test_reading_resumes_at_the_exact_byte(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault(WEIGHTS, ending="cut", nbytes=123_457), Fault(WEIGHTS, ending="reset", nbytes=0)]
    assert open_model().fetch("model.safetensors", BEGIN, END) == CONTENT[BEGIN:END]
    resumed = f"bytes={BEGIN + 123_457}-{END - 1}"
    assert [request.range for request in hub.log if request.host == "cdn"] == [
        f"bytes={BEGIN}-{END - 1}",
        resumed,
        resumed,
    ]


def test_an_attempt_that_made_progress_does_not_use_up_the_retries(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault(WEIGHTS, ending="cut", nbytes=100_000, times=11)]
    assert open_model().fetch("model.safetensors", BEGIN, END) == CONTENT[BEGIN:END]
    assert len([request for request in hub.log if request.host == "cdn"]) == 12 > IMPATIENT.attempts


def test_attempts_without_progress_are_counted(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault(WEIGHTS, status=503, times=None)]
    with pytest.raises(TransientError, match=r"status 503, 3 times in a row"):
        open_model().fetch("model.safetensors", BEGIN, END)
    assert len([request for request in hub.log if request.host == "cdn"]) == IMPATIENT.attempts


def test_an_expired_address_is_resolved_again_once_for_all_connections(hub: LoopbackHub, open_model: Open) -> None:
    checkpoint = open_model()
    checkpoint.fetch("model.safetensors", 0, 10)
    hub.expire_signatures()
    hub.latency = 0.02
    with ThreadPoolExecutor(4) as pool:
        pieces = list(pool.map(lambda begin: checkpoint.fetch("model.safetensors", begin, begin + 5), range(0, 20, 5)))
    assert b"".join(pieces) == CONTENT[:20]
    assert len([request for request in hub.log if request.method == "HEAD"]) == 2


OTHER_IDS = {"other": f'"{"f" * 64}"', "weak": f'W/"{"f" * 64}"', "of another form": '"1-2"', "none": ""}


@pytest.mark.parametrize("etag", OTHER_IDS.values(), ids=OTHER_IDS)
def test_a_renewed_address_of_another_content_is_refused(hub: LoopbackHub, open_model: Open, etag: str) -> None:
    checkpoint = open_model()
    checkpoint.fetch("model.safetensors", 0, 10)
    hub.expire_signatures()
    hub.faults = [Fault(WEIGHTS, host="hub", headers={"X-Linked-ETag": etag}, times=None)]
    with pytest.raises(CorruptCheckpoint, match=r"changed while it was read: found .*, expected '[0-9a-f]{64}"):
        checkpoint.fetch("model.safetensors", 10, 20)


def test_a_first_address_of_another_content_than_listed_is_refused(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault(WEIGHTS, host="hub", headers={"X-Linked-ETag": f'"{"f" * 64}"'}, times=None)]
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        open_model().fetch("model.safetensors", 0, 10)


def test_connections_that_wait_for_one_address_share_its_failure(hub: LoopbackHub, open_model: Open) -> None:
    """Else each would wait for the silent Hub after the other."""
    hub.faults = [Fault(WEIGHTS, host="hub", ending="silent", times=None)]
    checkpoint = open_model(read_timeout=0.5)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        fetches = [pool.submit(checkpoint.fetch, "model.safetensors", begin, begin + 5) for begin in range(8)]
    assert all(isinstance(fetch.exception(), TransientError) for fetch in fetches)
    assert time.monotonic() - began < 8 * IMPATIENT.attempts * 0.5 / 2


UNBELIEVABLE = {
    "range-ignored": (Fault(WEIGHTS, ranges="ignored", times=None), UnsupportedCheckpoint),
    "status-200-with-the-right-range": (Fault(WEIGHTS, ranges="with status 200", times=None), UnsupportedCheckpoint),
    "another-range": (Fault(WEIGHTS, ranges="shifted", times=None), UnsupportedCheckpoint),
    "no-content-range": (Fault(WEIGHTS, headers={"Content-Range": ""}, times=None), UnsupportedCheckpoint),
    "unknown-total": (
        Fault(WEIGHTS, headers={"Content-Range": f"bytes {BEGIN}-{END - 1}/*"}, times=None),
        UnsupportedCheckpoint,
    ),
    "compressed": (Fault(WEIGHTS, headers={"Content-Encoding": "gzip"}, times=None), UnsupportedCheckpoint),
    "size-changed-on-the-cdn": (Fault(WEIGHTS, ranges="of another size", times=None), CorruptCheckpoint),
    "size-changed-on-the-hub": (Fault(WEIGHTS, host="hub", ranges="of another size", times=None), CorruptCheckpoint),
    "another-commit": (Fault(WEIGHTS, host="hub", headers={"X-Repo-Commit": "f" * 40}, times=None), CorruptCheckpoint),
    "no-address": (Fault(WEIGHTS, host="hub", headers={"Location": "http://[cdn/"}, times=None), UnsupportedCheckpoint),
    "416": (
        Fault(WEIGHTS, status=416, headers={"Content-Range": "bytes */5"}, times=None),
        CorruptCheckpoint,
    ),
    "redirect-without-a-location": (Fault(WEIGHTS, host="hub", status=302, times=None), UnsupportedCheckpoint),
}


@pytest.mark.parametrize(("fault", "error"), UNBELIEVABLE.values(), ids=UNBELIEVABLE.keys())
def test_an_answer_that_is_not_the_range_asked_for_is_not_believed(
    hub: LoopbackHub, open_model: Open, fault: Fault, error: type[SurveyError]
) -> None:
    hub.faults = [Fault(**vars(fault))]
    with pytest.raises(error, match="expected"):
        open_model().fetch("model.safetensors", BEGIN, END)


def test_a_server_that_ignores_ranges_is_hung_up_on_and_not_read(
    hub: LoopbackHub, open_model: Open, tmp_path: Path
) -> None:
    nbytes = 200_000_000
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "model.safetensors").open("wb") as stream:
        stream.truncate(nbytes)
    hub.add("org/large", tmp_path / "large")
    hub.faults = [Fault(WEIGHTS, ranges="ignored", times=None)]
    with pytest.raises(UnsupportedCheckpoint, match="does not give byte ranges"):
        open_model("org/large").fetch("model.safetensors", BEGIN, END)
    sent = [request.nbytes for request in hub.log if request.host == "cdn"]
    assert len(sent) == IMPATIENT.attempts
    assert max(sent) < nbytes / 10  # what the sockets' buffers on the way hold


def test_a_body_longer_than_the_range_is_refused(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [
        Fault(
            WEIGHTS,
            ranges="ignored",
            status=206,
            headers={"Content-Range": f"bytes 5-6/{len(CONTENT)}"},
        )
    ]
    with pytest.raises(UnsupportedCheckpoint, match="found more bytes than the 2 requested"):
        open_model().fetch("model.safetensors", 5, 7)


def damaged(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def damage(path: str, content: bytes, times: int | None, host: Literal["hub", "cdn"] = "hub") -> Fault:
    """A flipped bit in a whole file on its way."""
    whole = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    return Fault(path, host, method="GET", times=times, status=206, headers=whole, body=damaged(content))


SMALL = b'{"truncation": null, "added_tokens": []}'
SMALL_FILES: dict[str, tuple[bytes, Literal["hub", "cdn"], str]] = {
    "tokenizer.json": (SMALL, "hub", "git id"),
    "config.json": (CONFIG, "hub", "git id"),
    "vocab.txt": ("Straße\r\n\0".encode(), "hub", "git id"),
    "model.safetensors": (CONTENT, "cdn", "SHA-256"),
}


@pytest.mark.parametrize("file", SMALL_FILES)
def test_a_whole_file_that_was_damaged_on_its_way_is_fetched_again(hub: LoopbackHub, folder: Path, file: str) -> None:
    content, host, digest = SMALL_FILES[file]
    (folder / file).write_bytes(content)
    hub.add("org/model", folder)

    def read() -> bytes:
        opened = open_hub("org/model", None, endpoint=hub.endpoint, token=None, read_timeout=5, retry_policy=IMPATIENT)
        return opened.read(file, 10**7)

    hub.faults = [damage(f"*/{file}", content, 1, host)]
    assert read() == content
    hub.faults = [damage(f"*/{file}", content, None, host)]
    with pytest.raises(TransientError, match=f"{file}: found content that differs from its {digest}, expected "):
        read()


REFUSED = {
    "missing": ({"repo_id": "org/none"}, ModelUnavailable, "no such repository.* set HF_TOKEN"),
    "missing-with-token": ({"repo_id": "org/none", "token": "hf_good"}, ModelUnavailable, "no such repository"),
    "missing-revision": ({"revision": "v9"}, ModelUnavailable, "@v9: no such revision"),
    "private": ({"repo_id": "org/private"}, ModelUnavailable, "private one that is hidden without a token"),
    "disabled": ({"repo_id": "org/disabled"}, ModelUnavailable, "disabled"),
    "no-name": ({"repo_id": "org/model/extra"}, ModelUnavailable, "expected org/name"),
    "wrong-token": ({"token": "hf_wrong"}, ConfigError, "refuses HF_TOKEN .* replace it"),
    "gated": ({"repo_id": "org/gated"}, ModelUnavailable, "accept the licence at .*/org/gated and set HF_TOKEN"),
    "gated-for-this-token": (
        {"repo_id": "org/gated", "token": "hf_good"},
        ModelUnavailable,
        "accept the licence at .*/org/gated and use the token of an account that has it",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_checkpoint_that_cannot_be_read_says_why_and_what_to_do(
    hub: LoopbackHub,
    folder: Path,
    open_model: Open,
    arguments: dict[str, str],
    error: type[SurveyError],
    message: str,
) -> None:
    hub.add("org/gated", folder, access="gated")
    hub.add("org/private", folder, access="private")
    hub.add("org/disabled", folder, access="disabled")
    hub.tokens = {"hf_good": set()}
    with pytest.raises(error, match=message) as raised:
        open_model(**arguments).fetch("model.safetensors", 0, 1)
    assert "hf_" not in str(raised.value)
    assert not any(request.status >= 500 for request in hub.log)


def test_a_private_model_opens_with_the_right_token(hub: LoopbackHub, folder: Path, open_model: Open) -> None:
    hub.add("org/private", folder, access="private")
    hub.tokens = {"hf_good": {"org/private"}}
    checkpoint = open_model("org/private", token="hf_good")
    assert checkpoint.read("config.json", 1_000) == CONFIG
    assert checkpoint.fetch("model.safetensors", 3, 9) == CONTENT[3:9]


def test_a_file_that_is_listed_but_gone_is_unavailable(hub: LoopbackHub, commit: str, open_model: Open) -> None:
    checkpoint = open_model()
    del hub.repos["org/model"].commits[commit]["config.json"]
    with pytest.raises(ModelUnavailable, match="listed but not there"):
        checkpoint.read("config.json", 1_000)


@pytest.mark.parametrize(
    "answer",
    [{"sha": "main"}, {"siblings": [{}]}, {"id": "../../etc"}],
    ids=["no-commit", "no-names", "not-a-name"],
)
def test_a_server_that_does_not_describe_models_as_the_hub_does_is_refused(
    hub: LoopbackHub, open_model: Open, answer: dict[str, str]
) -> None:
    hub.repos["org/model"].about.update(answer)
    with pytest.raises((UnsupportedCheckpoint, ModelUnavailable), match="expected"):
        open_model()


ODD_ANSWERS: dict[str, dict[str, Json]] = {
    "null-name": {"siblings": [{"rfilename": None, "size": 1, "blobId": "0" * 40}]},
    "number-as-commit": {"sha": 7},
    "null-commit": {"sha": None},
    "null-files": {"siblings": None},
    "text-as-files": {"siblings": "none"},
    "text-as-a-file": {"siblings": ["config.json"]},
    "text-as-lfs": {"siblings": [{"rfilename": "a", "size": 1, "blobId": "0" * 40, "lfs": "yes"}]},
    "lfs-without-a-size": {"siblings": [{"rfilename": "a", "size": 1, "blobId": "0" * 40, "lfs": {"sha256": "0"}}]},
    "text-as-size": {"siblings": [{"rfilename": "a", "size": "1", "blobId": "0" * 40}]},
    "size-below-0": {"siblings": [{"rfilename": "a", "size": -1, "blobId": "0" * 40}]},
    "number-as-object-id": {"siblings": [{"rfilename": "a", "size": 1, "blobId": 12}]},
    "null-id": {"id": None},
    "number-as-id": {"id": 5},
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_value_in_an_answer_fails_its_model_alone(
    hub: LoopbackHub, folder: Path, open_model: Open, answer: dict[str, Json]
) -> None:
    hub.add("org/sound", folder)
    hub.repos["org/model"].about.update(answer)
    with pytest.raises(UnsupportedCheckpoint, match=r"expected .*; (check HF_ENDPOINT|use a server)"):
        open_model()
    assert open_model("org/sound").read("config.json", 1_000) == CONFIG


@pytest.mark.parametrize(
    "about", [{"tags": None}, {"gated": "auto"}, {"createdAt": 5}, {"lastModified": "x"}, {"config": 1}]
)
def test_what_a_survey_does_not_use_may_be_anything(hub: LoopbackHub, open_model: Open, about: dict[str, Json]) -> None:
    hub.repos["org/model"].about.update(about)
    assert open_model().read("config.json", 1_000) == CONFIG


def test_a_page_of_a_proxy_instead_of_the_api_is_refused(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault("/api/*", host="hub", status=200, times=None)]
    with pytest.raises(UnsupportedCheckpoint, match=r"not a Hub's .*check HF_ENDPOINT"):
        open_model()


def test_a_listed_name_with_a_backslash_is_set_aside(folder: Path, hub: LoopbackHub, open_model: Open) -> None:
    (folder / "onnx\\model.onnx").write_bytes(b"x")
    hub.add("org/model", folder)
    checkpoint = open_model()
    assert set(checkpoint.files) == {"config.json", "model.safetensors"}
    assert checkpoint.set_aside == {"onnx\\model.onnx": "its name holds a backslash"}


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "a\\..\\b", "a//b"])
def test_a_listed_name_that_leaves_the_checkpoint_is_refused(hub: LoopbackHub, open_model: Open, name: str) -> None:
    hub.repos["org/model"].about["siblings"] = [{"rfilename": name, "size": 1, "blobId": "0" * 40}]
    with pytest.raises(CorruptCheckpoint, match="expected a path inside the checkpoint"):
        open_model()


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1"},
        {"RateLimit": '"resolvers";r=0;t=1', "RateLimit-Policy": '"fixed";"resolvers";q=3000;w=300'},
    ],
    ids=["retry-after", "rate-limit"],
)
@pytest.mark.parametrize("path", ["/api/models/*", WEIGHTS], ids=["api", "resolve"])
def test_the_wait_that_the_server_demands_is_kept(
    hub: LoopbackHub, open_model: Open, headers: dict[str, str], path: str
) -> None:
    hub.faults = [Fault(path, host="hub", status=429, headers=headers)]
    began = time.monotonic()
    assert open_model().fetch("model.safetensors", 0, 10) == CONTENT[:10]
    assert 1 <= time.monotonic() - began < 2


def test_a_demanded_wait_that_is_too_long_ends_the_attempt_at_once(hub: LoopbackHub, open_model: Open) -> None:
    hub.faults = [Fault("/api/*", host="hub", status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(TransientError, match=r"demands a wait of 3,600 s, expected at most 5 s"):
        open_model()


def test_a_signal_ends_the_wait_between_attempts(hub: LoopbackHub, open_model: Open) -> None:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    hub.faults = [Fault("/api/*", host="hub", status=503, times=None)]
    previous = signal.signal(signal.SIGALRM, terminate)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    try:
        with pytest.raises(Terminated):
            open_model(retry_policy=RetryPolicy(attempts=5, first_wait=60.0, max_wait=60.0))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - began < 2


def test_neither_log_nor_errors_hold_the_token_or_a_signature(
    hub: LoopbackHub, open_model: Open, caplog: pytest.LogCaptureFixture
) -> None:
    set_levels()
    caplog.set_level(logging.DEBUG)
    hub.tokens = {"hf_good": set()}
    hub.faults = [
        Fault(WEIGHTS, ending="cut", nbytes=5),
        Fault(WEIGHTS, ending="reset"),
        Fault(WEIGHTS, status=403),
        Fault(WEIGHTS, ranges="ignored", times=None),
    ]
    with pytest.raises(UnsupportedCheckpoint) as raised:
        open_model(token="hf_good", retry_policy=RetryPolicy(9, 0.01, 0.01)).fetch("model.safetensors", BEGIN, END)
    told = caplog.text + str(raised.value)
    assert told.count(f"{hub.cdn}/blobs/") >= 4
    assert not any(secret in told for secret in ("hf_good", "Signature", "Expires"))


def test_a_password_in_the_endpoint_is_sent_and_not_shown(hub: LoopbackHub, commit: str) -> None:
    hub.tokens = {"Basic cmVhZGVyOnNlY3JldA==": set()}  # reader:secret
    endpoint = hub.endpoint.replace("http://", "http://reader:secret@")
    checkpoint = open_hub("org/model", None, endpoint=endpoint, token=None, read_timeout=5.0, retry_policy=IMPATIENT)
    assert checkpoint.commit == commit
    assert checkpoint.source == f"{hub.endpoint}/org/model/tree/{commit}"
    hub.faults = [Fault("*", host="hub", status=503, times=None)]
    with pytest.raises(TransientError) as raised:
        checkpoint.read("config.json", 1_000)
    assert "secret" not in str(raised.value)


def test_a_config_cannot_make_the_model_class_ask_a_server(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("evil/backbone", folder)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    architecture._SERVER.close()  # one that runs has another environment
    config = {"architectures": ["DetrForObjectDetection"], "model_type": "detr", "use_timm_backbone": False}
    with pytest.raises(ModelClassUnusable, match="offline mode is enabled"):
        ask_model_class(config | {"backbone": "evil/backbone"}, [])
    architecture._SERVER.close()
    assert hub.log == []
