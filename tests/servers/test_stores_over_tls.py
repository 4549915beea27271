"""Stores over TLS, where boto3 by itself would send checksums after the body, which some stores refuse or store."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from safetensors.torch import load

from entrypoint import main
from job.errors import ConfigError, SurveyError, TransientError
from job.store.s3.store import open_s3_store
from job.store.s3.upload import PART_NBYTES
from tests.checkpoints import planted, write_checkpoint
from tests.servers.meddling_store import Asked, Refusal, meddling_store
from tests.servers.plain_s3 import PlainS3, plain_s3
from tests.servers.seaweed import ADMIN, NOT_WRITERS, Identity, SeaweedServer
from tests.servers.short_waits import QUICK

Tls = Callable[[str], AbstractContextManager[str]]
SETTING, HEADER = "AWS_REQUEST_CHECKSUM_CALCULATION", "x-amz-checksum-crc32"
CONTENT = bytes(range(256)) * (2 * PART_NBYTES // 256) + b"and a last part"


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, identity: Identity = ADMIN) -> None:
    for name, value in SeaweedServer.environment_at(endpoint, identity).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def plain() -> Iterator[PlainS3]:
    with plain_s3() as server:
        yield server


@pytest.fixture(params=["SeaweedFS", "rclone", "a store that keeps the framing"])
def output(
    request: pytest.FixtureRequest, behind_tls: Tls, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of an OUTPUT behind TLS."""
    if request.param == "SeaweedFS":
        endpoint, output = s3_server.endpoint, f"s3://{request.getfixturevalue('s3_bucket')}/surveys"
    elif request.param == "rclone":
        output, endpoint = request.getfixturevalue("weak_s3"), os.environ["AWS_ENDPOINT_URL"]
    else:
        endpoint, output = request.getfixturevalue("plain").endpoint, "s3://bucket/surveys"
    with behind_tls(endpoint) as address:
        use(monkeypatch, address)
        yield output


def test_what_is_published_over_tls_is_whole(output: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(3000, 2048, [[5, 700]]))
    assert main([str(checkpoint), "--output", output]) == 0
    store = open_s3_store(output)
    manifest = json.loads(store.read("local/model/latest.json") or b"")
    w = store.read(manifest["artifacts"]["W"]["key"])
    assert load(w or b"")["W"].equal(load((checkpoint / "model.safetensors").read_bytes())["lm_head.weight"])
    assert manifest["artifacts"]["W"]["size"] > PART_NBYTES
    assert not [key for key in store.sizes("") if "check" in key]


def test_every_store_takes_checksums_because_they_come_before_the_body(
    output: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_s3_store(output, QUICK).check()
    store.write_stream("org/W", iter([CONTENT]), len(CONTENT))
    store.write("org/small", b"content")
    assert store.create("org/new", b"created")
    assert store.read("org/W") == CONTENT
    assert store.read("org/small") == b"content"
    assert store.read("org/new") == b"created"
    assert list(store.sizes("")) == ["org/W", "org/new", "org/small"]
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []
    assert store.bucket.sends_checksums


def test_checksums_that_were_asked_for_are_not_given_up(plain: PlainS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "when_supported")
    with meddling_store(plain.endpoint, lambda asked: 501 if HEADER in asked.headers else None) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(ConfigError, match=rf"{SETTING}.*when_supported.*expected when_required"):
            open_s3_store("s3://bucket/surveys", QUICK).check()
    assert plain.objects == {}


@pytest.mark.parametrize(
    ("identity", "advice"),
    NOT_WRITERS.values(),
    ids=NOT_WRITERS,
)
def test_keys_that_may_not_write_are_refused_over_tls_too(
    behind_tls: Tls,
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    identity: Identity,
    advice: str,
) -> None:
    with behind_tls(s3_server.endpoint) as address:
        use(monkeypatch, address, identity)
        with pytest.raises(ConfigError, match=advice) as caught:
            open_s3_store(f"s3://{s3_bucket}/surveys", QUICK).check()
    assert SETTING not in f"{caught.value}{caplog.text}"


NOT_FOR_OUTAGES = replace(QUICK, outage_waits=(3600.0,))

REFUSALS: dict[str, Refusal | Literal["lost"]] = {
    "a closed connection": "lost",
    "411": 411,
    "501": 501,
    "a refused header": (400, "InvalidArgument"),
    "another hash of the body": (400, "XAmzContentSHA256Mismatch"),
    "another signature": (403, "SignatureDoesNotMatch"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_after_any_refusal_that_checksums_explain_they_are_not_sent(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, refusal: Refusal | Literal["lost"]
) -> None:
    def meddles(asked: Asked) -> Refusal | Literal["lost"] | None:
        return refusal if HEADER in asked.headers else None

    with meddling_store(s3_server.endpoint, meddles) as proxy:
        use(monkeypatch, proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}/surveys", NOT_FOR_OUTAGES).check()
        store.write("org/small", b"content")
        assert store.read("org/small") == b"content"
        assert len({request.partition("?")[0] for request in proxy.meddled}) == 1


OTHER_REFUSALS = {
    "another clock": ((403, "RequestTimeTooSkewed"), TransientError),
    "no bucket": ((404, "NoSuchBucket"), ConfigError),
    "no permission": ((403, "AccessDenied"), ConfigError),
}


@pytest.mark.parametrize(("refusal", "error"), OTHER_REFUSALS.values(), ids=OTHER_REFUSALS)
def test_a_refusal_with_another_reason_is_told_as_it_is(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[int, str],
    error: type[SurveyError],
) -> None:
    with meddling_store(s3_server.endpoint, lambda asked: refusal if asked.method == "PUT" else None) as proxy:
        use(monkeypatch, proxy.endpoint)
        with pytest.raises(error, match=refusal[1]) as caught:
            open_s3_store(f"s3://{s3_bucket}/surveys", QUICK).check()
        assert SETTING not in str(caught.value)
        assert len(proxy.meddled) == 6, "it was tried again, and not without checksums"
