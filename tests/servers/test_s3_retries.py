"""Passing refusals of an S3 store, one for each operation: they cost an attempt, and nothing is read twice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from entrypoint import main
from job.checkpoints.sources.s3 import open_s3
from job.errors import ConfigError, CorruptCheckpoint, TransientError, UnsupportedCheckpoint
from job.store.s3.store import S3Store, open_s3_store
from job.store.s3.upload import PART_NBYTES
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.meddling_store import Meddling, MeddlingStore, meddling_store, once_each
from tests.servers.seaweed import SeaweedServer
from tests.servers.short_waits import ONE_ATTEMPT, QUICK
from tests.servers.test_s3_refusals import ANSWERS
from tests.servers.test_store_contract import noise

FINAL = ("NoSuchKey", "NoSuchUpload", "MethodNotAllowed", "NotImplemented")
PASSING = [(status, code) for status, code, _ in ANSWERS if code not in FINAL]
PASSING += [(400, "InvalidRequest"), (401, "Unauthorized"), (302, "Found"), (307, "TemporaryRedirect")]
OF_PARTS = [
    (400, "InvalidPart"),
    (400, "BadDigest"),
    (400, "XAmzContentSHA256Mismatch"),
    (401, "Unauthorized"),
    (403, "AccessDenied"),
    (409, "OperationAborted"),
    (307, "TemporaryRedirect"),
    (400, "ExpiredToken"),
]


def passing_ids(answers: list[tuple[int, str]]) -> list[str]:
    return [f"{status}-{code}" for status, code in answers]


def store_at(proxy: MeddlingStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return open_s3_store(f"s3://{bucket}/surveys", QUICK)


@pytest.mark.parametrize(("status", "code"), PASSING, ids=passing_ids(PASSING))
def test_every_operation_goes_on_after_one_refusal(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    content = noise(1000)
    with meddling_store(s3_server.endpoint, once_each((status, code))) as proxy:
        store = store_at(proxy, s3_bucket, monkeypatch)
        store.write("team/model/W", content)
        assert store.read("team/model/W") == content
        assert list(store.sizes("")) == ["team/model/W"]
        checkpoint = open_s3(f"s3://{s3_bucket}/surveys/team/model", refusal_waits=QUICK.refusal_waits)
        assert checkpoint.fetch("W", 5, 10) == content[5:10]
        store.delete("team/model/W")
        assert len(proxy.meddled) >= 4


@pytest.mark.parametrize("meddling", ["half", "cut", "lost"])
def test_every_operation_goes_on_after_an_answer_that_is_cut_or_lost(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    meddling: Literal["half", "cut", "lost"],
) -> None:
    content = noise(PART_NBYTES + 1)
    with meddling_store(s3_server.endpoint, once_each(meddling)) as proxy:
        store = store_at(proxy, s3_bucket, monkeypatch)
        store.write("runs/a/plan.json", b"{}")
        store.write_stream("org/W", iter([content]), len(content))
        assert list(store.sizes("")) == ["org/W", "runs/a/plan.json"]
        assert store.create("runs/b/plan.json", b"{}")
        assert store.read("runs/a/plan.json") == b"{}"
        checkpoint = open_s3(f"s3://{s3_bucket}/surveys/org", refusal_waits=QUICK.refusal_waits)
        assert checkpoint.fetch("W", 5, 10) == content[5:10]
    assert s3_server.client().get_object(Bucket=s3_bucket, Key="surveys/org/W")["Body"].read() == content


FINAL_ANSWERS = [(405, "MethodNotAllowed"), (411, "MissingContentLength"), (501, "NotImplemented")]


@pytest.mark.parametrize("answer", FINAL_ANSWERS, ids=passing_ids(FINAL_ANSWERS))
def test_an_answer_that_another_request_cannot_change_is_final(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str]
) -> None:
    with meddling_store(s3_server.endpoint, always(answer)) as proxy:
        with pytest.raises(ConfigError, match=answer[1]):
            store_at(proxy, s3_bucket, monkeypatch).write("a.json", b"{}")
        assert len(proxy.meddled) == 1


def test_a_connection_that_is_closed_on_a_body_is_an_outage_only_of_a_store_that_takes_bodies(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Literal["lost"]] = ["lost"] * 3
    with meddling_store(
        s3_server.endpoint, lambda asked: left.pop() if asked.method == "PUT" and left else None
    ) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}", replace(QUICK, refusal_waits=()))
        with pytest.raises(TransientError, match="Connection was closed"):
            store.write("a.json", b"{}")
        assert len(proxy.meddled) == 1
        left.clear()
        store.write("a.json", b"{}")
        left += ["lost"] * 3
        store.write("b.json", b"{}")
        assert len(proxy.meddled) == 4


def part(number: int, answer: tuple[int, str]) -> Meddling:
    """One part of an upload is refused once."""
    left = [answer]
    return lambda asked: left.pop() if f"partNumber={number}&" in f"{asked.query}&" and left else None


@pytest.mark.parametrize(("status", "code"), OF_PARTS, ids=passing_ids(OF_PARTS))
def test_a_refused_part_is_sent_again_and_the_stream_is_pulled_once(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    content, pulled = noise(2 * PART_NBYTES + 1), 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        for begin in range(0, len(content), 1 << 20):
            pulled += 1
            yield content[begin : begin + (1 << 20)]

    with meddling_store(s3_server.endpoint, part(2, (status, code))) as proxy:
        store = store_at(proxy, s3_bucket, monkeypatch)
        store.write_stream("org/W", chunks(), len(content))
        assert len(proxy.meddled) == 1
    assert pulled == len(content) // (1 << 20) + 1
    assert s3_server.client().get_object(Bucket=s3_bucket, Key="surveys/org/W")["Body"].read() == content


@pytest.mark.parametrize(("status", "code"), OF_PARTS, ids=passing_ids(OF_PARTS))
def test_a_run_in_which_each_operation_is_refused_once_ends_with_0_and_reads_w_once(
    hub: LoopbackHub,
    s3_server: SeaweedServer,
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
) -> None:
    hub.add("org/model", write_checkpoint(tmp_path / "model", planted(5000, 1024, [[5, 700]])))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    with meddling_store(s3_server.endpoint, once_each((status, code))) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert main(["org/model", "--output", f"s3://{s3_bucket}/surveys"]) == 0
        assert any("partNumber" in request for request in proxy.meddled)
    fetched = sum(
        request.nbytes for request in hub.log if request.path.endswith(".safetensors") and request.method == "GET"
    )
    assert 5000 * 1024 * 2 <= fetched < 1.1 * 5000 * 1024 * 2
    latest = s3_server.client().get_object(Bucket=s3_bucket, Key="surveys/org/model/latest.json")["Body"].read()
    assert json.loads(latest)["model"] == "org/model"


def of_range(answer: int | tuple[int, str], times: int) -> Meddling:
    """So many requests for a range get another answer."""
    left = [answer] * times
    return lambda asked: left.pop() if "Range" in asked.headers and left else None


def whole(times: int) -> Meddling:
    left = iter(range(times))
    return lambda asked: "whole" if "Range" in asked.headers and next(left, None) is not None else None


@pytest.mark.parametrize(
    ("once", "ever", "error"),
    [
        (whole(1), whole(99), UnsupportedCheckpoint),
        (of_range((416, "InvalidRange"), 1), of_range((416, "InvalidRange"), 99), CorruptCheckpoint),
        (of_range((403, "AccessDenied"), 1), of_range((403, "InvalidAccessKeyId"), 99), ConfigError),
        (of_range((400, "ExpiredToken"), 1), of_range((400, "ExpiredToken"), 99), TransientError),
    ],
    ids=["200 for a range", "416", "403", "expired"],
)
def test_a_range_is_refused_for_good_only_if_the_refusal_is_repeated(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    once: Meddling,
    ever: Meddling,
    error: type[Exception],
) -> None:
    content = noise(100_000)
    s3_server.client().put_object(Bucket=s3_bucket, Key="model/W", Body=content)
    for meddling, attempts in ((once, 1), (ever, 6)):
        with meddling_store(s3_server.endpoint, meddling) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            checkpoint = open_s3(f"s3://{s3_bucket}/model", retry_policy=ONE_ATTEMPT, refusal_waits=QUICK.refusal_waits)
            if attempts == 1:
                assert checkpoint.fetch("W", 5, 50_000) == content[5:50_000]
            else:
                with pytest.raises(error):
                    checkpoint.fetch("W", 5, 50_000)
            assert len(proxy.meddled) == attempts


def always(answer: tuple[int, str]) -> Meddling:
    return lambda _: answer


def test_a_refusal_that_is_repeated_six_times_is_final(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, code, error in [(403, "SignatureDoesNotMatch", ConfigError), (503, "SlowDown", TransientError)]:
        with meddling_store(s3_server.endpoint, always((status, code))) as proxy:
            with pytest.raises(error, match=code):
                store_at(proxy, s3_bucket, monkeypatch).write("a.json", b"{}")
            assert len(proxy.meddled) == 6
