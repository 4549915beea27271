"""Checkpoints on a real S3 server: what is refused, what is tried again, and where reading goes on."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import shake_256
from itertools import pairwise
from threading import Thread

import pytest

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.sources.s3 import open_s3
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import (
    ConfigError,
    CorruptCheckpoint,
    ModelUnavailable,
    SurveyError,
    TransientError,
    UnsupportedCheckpoint,
)
from tests.servers.answering import server_that_lists
from tests.servers.meddling_store import meddling_store
from tests.servers.plain_s3 import DATE, PlainS3, plain_s3
from tests.servers.seaweed import ADMIN, Identity, SeaweedServer

CONTENT = shake_256(b"weights").digest(2_000_000)
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=1.0)


def open_impatient(url: str) -> Checkpoint:
    return open_s3(url, read_timeout=1.0, retry_policy=IMPATIENT, refusal_waits=(0.01,) * 5)


@pytest.fixture
def url(s3_server: SeaweedServer, s3_bucket: str) -> str:
    """The address of a checkpoint of one file."""
    s3_server.client().put_object(Bucket=s3_bucket, Key="team/model/model.safetensors", Body=CONTENT)
    return f"s3://{s3_bucket}/team/model"


class Forwarder:
    """Passes connections on to a server, and cuts each of the first ones after some bytes of the answer."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.cuts = cuts
        self.requests: list[bytes] = []
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "http://{}:{}".format(*self._listener.getsockname())

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = Thread(target=self._accept)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, socket.create_connection(self._target) as server:
                self._forward(connection, server)

    def _forward(self, connection: socket.socket, server: socket.socket) -> None:
        """One request and its answer; the connection ends with it, so the client's next request is the next call."""
        request = connection.recv(1 << 16)
        self.requests.append(request)
        server.sendall(request.replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1))
        left = self.cuts.pop(0) if self.cuts and b"range:" in request.lower() else 1 << 40
        while left and (piece := server.recv(min(left, 1 << 16))):
            connection.sendall(piece)
            left -= len(piece)


@pytest.mark.parametrize("name", ["onnx\\model.onnx", "a//b", "a/../b"])
def test_a_key_that_is_no_path_is_set_aside(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with server_that_lists("team/model/config.json", f"team/model/{name}") as endpoint:
        for name_of, value in (("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret")):
            monkeypatch.setenv(f"AWS_{name_of}", value)
        checkpoint = open_impatient("s3://bucket/team/model")
    assert list(checkpoint.files) == ["config.json"]
    assert list(checkpoint.set_aside) == [name]


def test_reading_resumes_at_the_exact_byte_after_the_body_breaks(
    s3_server: SeaweedServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder = Forwarder(s3_server.ports["s3.port"], cuts=[0, 700_000, 700_000])
    monkeypatch.setenv("AWS_ENDPOINT_URL", forwarder.endpoint)
    with forwarder.running():
        checkpoint = open_impatient(url)
        assert checkpoint.fetch("model.safetensors", 100, 1_900_100) == CONTENT[100:1_900_100]
    asked = [
        int(line.partition(b"=")[2].partition(b"-")[0])
        for request in forwarder.requests
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"range:")
    ]
    assert asked[:2] == [100, 100]
    assert len(asked) == 4
    for before, after in pairwise(asked[1:]):
        assert 600_000 < after - before < 700_000, "of 700,000 bytes all but the answer's head are content"


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(s3_server: SeaweedServer, url: str) -> None:
    client, bucket = s3_server.client(), url.split("/")[2]
    for key in ("team/model-2/other.json", "team/model/.cache/hidden", "team/model/folder/"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert set(open_impatient(url).files) == {"model.safetensors"}
    assert set(open_impatient(url + "/").files) == {"model.safetensors"}
    whole = open_impatient(f"s3://{bucket}")
    assert whole.repo_id == f"local/{bucket}"
    assert set(whole.files) == {"team/model-2/other.json", "team/model/model.safetensors"}


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (rb"<Size>\d+</Size>", b""),
        (rb"<Size>\d+</Size>", b"<Size>-5</Size>"),
        (rb"<Key>.*?</Key>", b""),
    ],
    ids=["no-size", "size-below-0", "no-key"],
)
def test_a_listing_that_does_not_describe_its_objects_fails_the_model(
    s3_server: SeaweedServer, url: str, monkeypatch: pytest.MonkeyPatch, pattern: bytes, replacement: bytes
) -> None:
    def rewrites(content: bytes) -> bytes:
        return re.sub(pattern, replacement, content)

    with meddling_store(s3_server.environment()["AWS_ENDPOINT_URL"], lambda _: None, rewrites) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        with pytest.raises(UnsupportedCheckpoint, match="expected a key and a size for each object"):
            open_impatient(url)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainS3]:
    """A plain store with a checkpoint, and boto3's environment set to reach it."""
    with plain_s3() as server:
        for name, value in SeaweedServer.environment_at(server.endpoint, ADMIN).items():
            monkeypatch.setenv(name, value)
        server.objects["bucket/model/model.safetensors"] = CONTENT
        yield server


def test_a_store_without_etags_is_read_by_dates_and_sizes(plain: PlainS3) -> None:
    plain.has_etags = False
    first, again = open_impatient("s3://bucket/model"), open_impatient("s3://bucket/model")
    assert first.fetch("model.safetensors", 5, 500_000) == CONTENT[5:500_000]
    assert first.commit == again.commit
    plain.dates["bucket/model/model.safetensors"] = DATE + 1
    assert open_impatient("s3://bucket/model").commit != first.commit
    with pytest.raises(CorruptCheckpoint, match="the object changed while it was read"):
        first.fetch("model.safetensors", 5, 500_000)


@pytest.mark.parametrize("etag", [b"", b"<ETag></ETag>", b'<ETag>""</ETag>', b"<ETag>W/&quot;&quot;</ETag>"])
def test_an_etag_that_is_empty_is_none(plain: PlainS3, monkeypatch: pytest.MonkeyPatch, etag: bytes) -> None:
    with meddling_store(plain.endpoint, lambda _: None, lambda body: re.sub(rb"<ETag>.*?</ETag>", etag, body)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        checkpoint = open_impatient("s3://bucket/model")
    assert [file.content_id for file in checkpoint.files.values()] == ["2026-09-21T14:13:20+00:00, 2000000 bytes"]


def test_a_weak_etag_identifies_an_object(plain: PlainS3) -> None:
    plain.etag_prefix = "W/"
    checkpoint = open_impatient("s3://bucket/model")
    assert checkpoint.fetch("model.safetensors", 5, 500_000) == CONTENT[5:500_000]
    plain.objects["bucket/model/model.safetensors"] = CONTENT[::-1]
    with pytest.raises(CorruptCheckpoint, match="the object changed while it was read"):
        checkpoint.fetch("model.safetensors", 5, 500_000)


def test_a_store_that_does_not_tell_whether_an_object_changes_is_refused(plain: PlainS3) -> None:
    checkpoint = open_impatient("s3://bucket/model")
    plain.has_etags = plain.has_dates = False
    with pytest.raises(UnsupportedCheckpoint, match="found neither the ETag nor the date of the listing in an answer"):
        checkpoint.fetch("model.safetensors", 5, 500_000)
    with pytest.raises(
        UnsupportedCheckpoint, match=r"neither ETag nor LastModified of model\.safetensors in the listing"
    ):
        open_impatient("s3://bucket/model")


@pytest.mark.parametrize("url", ["s3://", "s3:///model", "https://bucket/model", "bucket/model"])
def test_what_is_no_address_of_a_checkpoint_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        open_impatient(url)


@pytest.mark.parametrize("address", ["s3://{bucket}/nothing", "s3://no-such-bucket-anywhere/model"])
def test_a_missing_prefix_or_bucket_is_unavailable(s3_bucket: str, address: str) -> None:
    with pytest.raises(ModelUnavailable, match="expected"):
        open_impatient(address.format(bucket=s3_bucket))


def test_an_object_that_was_deleted_is_unavailable(s3_server: SeaweedServer, url: str) -> None:
    checkpoint = open_impatient(url)
    s3_server.client().delete_object(Bucket=url.split("/")[2], Key="team/model/model.safetensors")
    with pytest.raises(ModelUnavailable, match="NoSuchKey"):
        checkpoint.fetch("model.safetensors", 0, 1)


def expect(error: type[SurveyError], message: str, url: str) -> None:
    with pytest.raises(error, match=message) as raised:
        open_impatient(url)
    assert "wrong-secret" not in str(raised.value)


def test_wrong_keys_are_a_wrong_setting(s3_server: SeaweedServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for identity in (Identity("admin-access-key", "wrong-secret"), Identity("nobody", "wrong-secret")):
        for name, value in s3_server.environment(identity).items():
            monkeypatch.setenv(name, value)
        refusal = "SignatureDoesNotMatch.* correct AWS_SECRET_ACCESS_KEY|InvalidAccessKeyId.* correct AWS_ACCESS_KEY_ID"
        expect(ConfigError, refusal, url)


def test_no_keys_are_a_wrong_setting(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    expect(ConfigError, "Unable to locate credentials, expected S3 keys; set AWS_ACCESS_KEY_ID", url)


def test_an_unreachable_store_is_transient(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    expect(TransientError, "3 times in a row", url)


def test_a_store_that_hangs_is_given_up_in_bounded_time(s3_server: SeaweedServer, url: str) -> None:
    checkpoint = open_impatient(url)
    s3_server.pause()
    began = time.monotonic()
    try:
        with pytest.raises(TransientError, match="3 times in a row"):
            checkpoint.fetch("model.safetensors", 0, 100)
    finally:
        s3_server.resume()
    assert time.monotonic() - began < 10
    assert checkpoint.fetch("model.safetensors", 0, 100) == CONTENT[:100]
