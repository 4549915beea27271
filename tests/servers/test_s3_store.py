"""What only an S3 store can meet: refused keys, missing buckets, a server that fails, stops or disappears midway."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import pytest
from botocore.config import Config

from job.errors import ConfigError, SurveyError, TransientError, UploadLost
from job.store.s3.bucket import S3_CONFIG, Bucket
from job.store.s3.store import S3Store, open_s3_store
from job.store.s3.upload import MAX_PARTS, MIN_PART_NBYTES, PART_NBYTES, choose_part_nbytes
from job.store.store import RACERS, creates_once
from tests.servers.answering import server_that_answers
from tests.servers.meddling_store import Asked, Meddling, meddling_store
from tests.servers.plain_s3 import plain_s3
from tests.servers.seaweed import ADMIN, NOT_WRITERS, READ_ONLY, Identity, SeaweedServer, free_ports
from tests.servers.serving import wait_until
from tests.servers.short_waits import QUICK

MIB = 1 << 20
W = "org/name/0123abcd/W.safetensors"
HASTY = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=1, read_timeout=1)
"""Patience for tests that wait for it to end."""
POOL = Config(max_pool_connections=RACERS)


@pytest.fixture
def store(s3_bucket: str) -> S3Store:
    return open_s3_store(f"s3://{s3_bucket}/surveys")


def uploads(server: SeaweedServer, bucket: str) -> list[str]:
    return [upload["Key"] for upload in server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def set_identity(monkeypatch: pytest.MonkeyPatch, identity: Identity) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", identity.secret_key)


@pytest.mark.parametrize("output", ["s3://", "s3:///prefix", "bucket/prefix", "https://bucket/prefix", ""])
def test_an_address_that_is_not_a_bucket_is_refused(output: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        open_s3_store(output)


@pytest.mark.parametrize(
    ("output", "url"),
    [
        ("s3://bucket", "s3://bucket/a/b.json"),
        ("s3://bucket/", "s3://bucket/a/b.json"),
        ("s3://bucket/one/two", "s3://bucket/one/two/a/b.json"),
        ("s3://bucket/one/two/", "s3://bucket/one/two/a/b.json"),
    ],
)
def test_a_key_lies_below_the_prefix(output: str, url: str) -> None:
    assert open_s3_store(output).url("a/b.json") == url


@pytest.mark.parametrize("parts_in_flight", [1, 16, 32])
@pytest.mark.parametrize("nbytes", [PART_NBYTES, 80 * 10**9, 105 * 10**9, 5 * 2**40])
def test_no_object_has_more_or_smaller_parts_than_an_upload_may_have(nbytes: int, parts_in_flight: int) -> None:
    part = choose_part_nbytes(nbytes, parts_in_flight)
    assert part * MAX_PARTS >= nbytes
    assert MIN_PART_NBYTES <= part <= 5 << 30
    assert part <= PART_NBYTES or nbytes > MAX_PARTS * PART_NBYTES


@pytest.mark.parametrize("nbytes", [160 * MIB, 160 * MIB + 1, 10**9, 8 * 10**9])
def test_as_many_parts_are_in_flight_until_the_end(nbytes: int) -> None:
    n_parts = -(-nbytes // choose_part_nbytes(nbytes, 16))
    assert -n_parts % 16 <= 1


@pytest.mark.parametrize(
    ("identity", "advice"),
    NOT_WRITERS.values(),
    ids=NOT_WRITERS,
)
def test_a_key_that_may_not_write_is_refused_by_the_check(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, identity: Identity, advice: str
) -> None:
    set_identity(monkeypatch, identity)
    store = open_s3_store(f"s3://{s3_bucket}/surveys", QUICK)
    with pytest.raises(ConfigError, match=advice) as caught:
        store.check()
    assert identity.secret_key not in str(caught.value)
    assert f"s3://{s3_bucket}/surveys/" in str(caught.value)


def test_a_read_only_key_pulls_next_to_nothing_of_a_stream(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_identity(monkeypatch, READ_ONLY)
    store, pulled = open_s3_store(f"s3://{s3_bucket}/surveys", QUICK), 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        while True:
            pulled += MIB
            yield bytes(MIB)

    with pytest.raises(ConfigError, match="AccessDenied"):
        store.write_stream("org/W", chunks(), 10**10)
    assert pulled < 200 * MIB


def test_a_bucket_that_is_not_there_is_refused_and_not_made(s3_bucket: str, s3_server: SeaweedServer) -> None:
    store = open_s3_store(f"s3://{s3_bucket}-missing/surveys", QUICK)
    with pytest.raises(ConfigError, match=r"NoSuchBucket.*create it or correct OUTPUT"):
        store.check()
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        store.read("a.json")
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        store.write("a.json", b"{}")
    assert [bucket["Name"] for bucket in s3_server.client().list_buckets()["Buckets"]] == [s3_bucket]


def test_missing_credentials_are_refused(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="credentials"):
        open_s3_store(f"s3://{s3_bucket}/surveys", QUICK).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "localhost:9000 "), ("AWS_PROFILE", "nobodys"), ("AWS_DEFAULT_REGION", "a b")],
)
def test_a_setting_boto3_cannot_use_is_refused(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        open_s3_store(f"s3://{s3_bucket}/surveys").check()


def test_a_bucket_name_no_bucket_can_have_is_refused(s3_bucket: str) -> None:
    with pytest.raises(ConfigError, match="Invalid bucket name"):
        open_s3_store(f"s3://{s3_bucket} and more/surveys").check()


def test_a_server_that_is_not_there_is_a_passing_failure_and_its_password_stays_untold() -> None:
    endpoint = f"http://user:pass-word@127.0.0.1:{free_ports(1)[0]}"
    store = S3Store(Bucket(SeaweedServer.client_at(endpoint, ADMIN, HASTY), "bucket", "surveys/"))
    with pytest.raises(TransientError, match=r"s3://bucket/surveys/.*check AWS_ENDPOINT_URL") as caught:
        store.check()
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", TransientError),
        (503, "SlowDown", TransientError),
        (507, "XMinioStorageFull", TransientError),
        (429, "TooManyRequests", TransientError),
        (400, "RequestTimeout", TransientError),
        (400, "BadDigest", TransientError),
        (404, "NoSuchUpload", TransientError),
        (301, "PermanentRedirect", ConfigError),
        (400, "AuthorizationHeaderMalformed", ConfigError),
        (400, "ExpiredToken", TransientError),
        (400, "InvalidRequest", ConfigError),
        (403, "SomethingElse", ConfigError),
        (403, "RequestTimeTooSkewed", TransientError),
        (404, "NoSuchBucket", ConfigError),
        (501, "NotImplemented", ConfigError),
    ],
)
def test_an_answer_is_either_final_or_passing(status: int, code: str, kind: type[SurveyError]) -> None:
    with server_that_answers(status, code) as endpoint:
        store = S3Store(Bucket(SeaweedServer.client_at(endpoint, ADMIN, HASTY), "bucket", "surveys/"))
        with pytest.raises(kind, match=rf"s3://bucket/surveys/a\.json.*{status}.*{code}.*;"):
            store.write("a.json", b"{}")


def conditional(answer: int | Literal["lost"], times: int) -> Meddling:
    """What happens to so many writes that are to create something."""
    left = iter(range(times))
    return lambda asked: answer if "If-None-Match" in asked.headers and next(left, None) is not None else None


CREATIONS = {
    "its answer is lost, so that it is sent again and refused": (conditional("lost", 1), True, b"mine"),
    "somebody else was deleting it": (conditional(409, 1), True, b"mine"),
    "somebody else is creating it all the time": (conditional(409, 99), False, None),
    "the store knows no conditions": (conditional(501, 9), True, b"mine"),
    "the store takes conditions for a mistake": (conditional(400, 9), True, b"mine"),
    "the store forbids conditions": (conditional(405, 9), True, b"mine"),
}


@pytest.mark.parametrize(("meddling", "created", "content"), CREATIONS.values(), ids=CREATIONS)
def test_a_write_that_is_to_create_tells_whether_it_did(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    meddling: Meddling,
    created: bool,
    content: bytes | None,
) -> None:
    with meddling_store(s3_server.endpoint, meddling) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}/surveys", QUICK)
        assert store.create("runs/a/plan.json", b"mine") is created
        assert store.read("runs/a/plan.json") == content
        assert proxy.meddled


def test_a_store_that_knows_no_conditions_is_found_out(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with meddling_store(s3_server.endpoint, conditional(501, 99)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}/surveys", QUICK)
        assert not creates_once(store, "runs/a/")
        assert list(store.sizes("")) == []


def test_a_store_that_looks_before_it_writes_does_not_create_once() -> None:
    with plain_s3() as server:
        server.condition_gap = 0.05
        store = S3Store(
            Bucket(SeaweedServer.client_at(server.endpoint, ADMIN, HASTY.merge(POOL)), "bucket", "surveys/")
        )
        assert store.create("runs/a/plan.json", b"first")
        assert not store.create("runs/a/plan.json", b"second"), "one after another, it seems to work"
        assert not creates_once(store, "runs/a/")
        assert list(server.objects) == ["bucket/surveys/runs/a/plan.json"]


def test_the_memory_of_a_chunk_may_be_used_again(store: S3Store) -> None:
    content = bytes(range(256)) * (2 * PART_NBYTES // 256)

    def chunks() -> Iterator[memoryview]:
        memory = bytearray(MIB)
        for begin in range(0, len(content), MIB):
            memory[:] = content[begin : begin + MIB]
            yield memoryview(memory).cast("B", (1024, 1024))  # as the rows of a matrix

    store.write_stream("org/stream", chunks(), len(content))
    assert store.read("org/stream") == content


def test_a_store_that_goes_down_midway_fails_in_time_and_can_be_cleaned_when_it_is_back(
    s3_server: SeaweedServer, s3_bucket: str
) -> None:
    store = S3Store(Bucket(s3_server.client(config=HASTY), s3_bucket, "surveys/"))
    pulled = 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield bytes(MIB)
            if pulled == 20:
                s3_server.kill()

    begun = time.monotonic()
    try:
        with pytest.raises(TransientError, match=r"s3://.*could not write"):
            store.write_stream(W, chunks(), 10**10)
        assert time.monotonic() - begun < 30
        assert pulled < 200
    finally:
        s3_server.kill()
        s3_server.start()
    # The server answers before it has room for what is written; that is not what this is about.
    store = S3Store(Bucket(s3_server.client(config=S3_CONFIG), s3_bucket, "surveys/"))
    assert list(store.sizes("")) == []
    store.discard_unfinished(0.0)
    assert uploads(s3_server, s3_bucket) == []
    store.write_stream(W, iter([b"again"]), 5)
    assert store.read(W) == b"again"


def test_a_store_that_stops_answering_fails_in_time(s3_server: SeaweedServer, s3_bucket: str) -> None:
    store = S3Store(Bucket(s3_server.client(config=HASTY), s3_bucket, "surveys/"))
    s3_server.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(TransientError, match="timeout"):
            store.write_stream("org/W", (bytes(MIB) for _ in range(64)), 64 * MIB)
        assert time.monotonic() - begun < 30
    finally:
        s3_server.resume()


def test_a_store_that_hangs_for_a_while_is_waited_for(s3_server: SeaweedServer, store: S3Store) -> None:
    content = bytes(range(256)) * (24 * MIB // 256)

    def chunks() -> Iterator[bytes]:
        for begin in range(0, len(content), MIB):
            if begin == 20 * MIB:
                s3_server.pause()
                threading.Timer(2, s3_server.resume).start()
            yield content[begin : begin + MIB]

    store.write_stream("org/W", chunks(), len(content))
    assert store.read("org/W") == content


def test_an_interrupt_in_the_stream_while_a_part_is_being_sent_ends_the_upload(
    s3_server: SeaweedServer, s3_bucket: str, store: S3Store
) -> None:
    interrupt = KeyboardInterrupt()

    def chunks() -> Iterator[bytes]:
        yield from (bytes(MIB) for _ in range(9))
        while not uploads(s3_server, s3_bucket):
            time.sleep(0.02)
            yield bytes(MIB)
        s3_server.pause()
        threading.Timer(1, s3_server.resume).start()
        yield from (bytes(MIB) for _ in range(17))
        time.sleep(0.3)  # by now a part is being sent to a server that takes no more of it
        raise interrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        store.write_stream("org/W", chunks(), 10**10)
    assert caught.value is interrupt
    assert uploads(s3_server, s3_bucket) == []


def test_the_last_part_is_sent_before_the_stream_ends(s3_server: SeaweedServer, s3_bucket: str, store: S3Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(PART_NBYTES + 1)
        wait_until(lambda: len(part_ages(s3_server, s3_bucket)) == 3)

    store.write_stream("org/W", chunks(), PART_NBYTES + 1)
    assert store.sizes("") == {"org/W": PART_NBYTES + 1}


def test_an_interrupt_while_the_last_parts_are_being_sent_ends_the_upload(
    s3_server: SeaweedServer, s3_bucket: str, store: S3Store
) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(3 * PART_NBYTES)
        wait_until(lambda: len(part_ages(s3_server, s3_bucket)) == 3)
        s3_server.pause()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        threading.Timer(1.5, s3_server.resume).start()
        yield bytes(PART_NBYTES)

    with pytest.raises(KeyboardInterrupt):
        store.write_stream("org/W", chunks(), 4 * PART_NBYTES)
    assert uploads(s3_server, s3_bucket) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("upload")]


@pytest.mark.parametrize(
    ("calculation", "checksum_type"), [("when_supported", "FULL_OBJECT"), ("when_required", None)], ids=["on", "off"]
)
def test_a_large_object_carries_one_checksum_of_the_whole_unless_the_environment_says_otherwise(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    calculation: str,
    checksum_type: str | None,
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
    store = open_s3_store(f"s3://{s3_bucket}")
    store.write_stream("org/W", (bytes(MIB) for _ in range(20)), 20 * MIB)
    head = s3_server.client().head_object(Bucket=s3_bucket, Key="org/W", ChecksumMode="ENABLED")
    assert head["ETag"].strip('"').endswith("-4")
    assert head.get("ChecksumType") == checksum_type
    assert ("ChecksumCRC32" in head) == (checksum_type is not None)


def test_a_body_is_sent_without_waiting_for_an_answer_to_its_headers(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers: list[set[str]] = []

    def notes_headers(asked: Asked) -> None:
        if asked.method == "PUT":
            headers.append({name.lower() for name in asked.headers})

    with meddling_store(s3_server.endpoint, notes_headers) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}")
        store.write_stream("org/W", iter([bytes(PART_NBYTES)]), PART_NBYTES)
        store.write("org/small", b"content")
    assert len(headers) == 3
    assert not [names for names in headers if "expect" in names or "x-amz-checksum-crc32" not in names]


def test_a_thousand_keys_and_more_are_listed(store: S3Store) -> None:
    keys = [f"runs/{number:04d}.json" for number in range(1005)]
    for key in keys:
        store.write(key, b"")
    assert list(store.sizes("runs/")) == keys


def part_ages(server: SeaweedServer, bucket: str) -> list[float]:
    """The seconds since each part of the unfinished uploads arrived, by the server's clock."""
    client, ages = server.client(), []
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        answer = client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        ages += [(now - part["LastModified"]).total_seconds() for part in answer.get("Parts", [])]
    return ages


def test_an_upload_that_was_begun_long_ago_is_alive_while_its_parts_arrive(
    s3_server: SeaweedServer, s3_bucket: str, store: S3Store
) -> None:
    min_age, part_nbytes = 4.0, MIN_PART_NBYTES

    def chunks() -> Iterator[bytes]:
        yield bytes(part_nbytes + 1)
        wait_until(lambda: min(part_ages(s3_server, s3_bucket), default=0) > min_age)
        yield bytes(part_nbytes)
        wait_until(lambda: len(part_ages(s3_server, s3_bucket)) == 2)
        store.discard_unfinished(min_age)
        yield b"end"

    store.write_stream(W, chunks(), 2 * part_nbytes + 4)
    assert store.sizes("") == {W: 2 * part_nbytes + 4}


def test_uploads_of_other_programs_in_the_bucket_are_left_alone(s3_server: SeaweedServer, s3_bucket: str) -> None:
    client = s3_server.client()
    for key in ("backup.tar", "org/name/data.safetensors", "org/name/0123abcd/data.parquet", W):
        client.create_multipart_upload(Bucket=s3_bucket, Key=key)
    open_s3_store(f"s3://{s3_bucket}").discard_unfinished(0.0)
    assert sorted(uploads(s3_server, s3_bucket)) == [
        "backup.tar",
        "org/name/0123abcd/data.parquet",
        "org/name/data.safetensors",
    ]


@pytest.mark.parametrize("element", [rb"<Initiated>.*?</Initiated>", rb"<LastModified>.*?</LastModified>"])
def test_an_upload_of_which_the_store_tells_no_time_is_left_alone(
    s3_server: SeaweedServer, s3_bucket: str, element: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_server.client()
    upload = client.create_multipart_upload(Bucket=s3_bucket, Key=W)
    client.upload_part(Bucket=s3_bucket, Key=W, UploadId=upload["UploadId"], PartNumber=1, Body=b"half")
    client.put_object(Bucket=s3_bucket, Key="write-check")
    with meddling_store(s3_server.endpoint, lambda _: None, lambda content: re.sub(element, b"", content)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        open_s3_store(f"s3://{s3_bucket}").discard_unfinished(0.001)
    assert uploads(s3_server, s3_bucket) == [W]


def test_an_upload_that_somebody_aborted_is_lost_and_pulls_no_more(
    s3_server: SeaweedServer, s3_bucket: str, store: S3Store
) -> None:
    pulled = 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        for pulled in range(200):
            if pulled == 20:
                wait_until(lambda: len(part_ages(s3_server, s3_bucket)) == 2)
                store.discard_unfinished(0.0)
            yield bytes(MIB)

    with pytest.raises(UploadLost, match="no longer knows the upload"):
        store.write_stream(W, chunks(), 200 * MIB)
    assert pulled < 100
    assert store.sizes("") == {}


def test_a_listing_proves_what_was_written_at_once_where_etags_are_md5s(store: S3Store) -> None:
    store.write("org/a.json", b"{}")
    assert store.listing("org/")["org/a.json"].holds(b"{}")
    with plain_s3() as plain:
        plain.objects["bucket/a.json"] = b"{}"
        bucket = Bucket(SeaweedServer.client_at(plain.endpoint, ADMIN, None), "bucket", "")
        assert bucket.listing("")["a.json"].holds(b"{}")
        plain.etag_prefix = "of another kind"
        assert not bucket.listing("")["a.json"].holds(b"{}")
        plain.has_etags = False
        assert bucket.listing("")["a.json"].size == 2
        assert not bucket.listing("")["a.json"].holds(b"{}")


def test_an_upload_whose_end_was_not_heard_is_not_lost(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loses_the_end(asked: Asked) -> Literal["lost"] | tuple[int, str] | None:
        if asked.operation != "POST uploadId" or not asked.path.endswith(W):
            return None
        ends.append(asked)
        return "lost" if len(ends) == 1 else (404, "NoSuchUpload")  # as MinIO says

    ends: list[Asked] = []
    content = bytes(range(256)) * (PART_NBYTES // 128)
    with meddling_store(s3_server.endpoint, loses_the_end) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}/surveys", QUICK).check()
        store.write_stream(W, iter([content]), len(content))
        assert len(ends) == 2
        assert store.read(W) == content


def test_a_store_takes_the_lifecycle_rule_of_the_documentation(s3_server: SeaweedServer, s3_bucket: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    (rule,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    s3_server.client().put_bucket_lifecycle_configuration(Bucket=s3_bucket, LifecycleConfiguration=json.loads(rule))
