"""What a store did with what it said it stored: no manifest names objects that are missing, short or damaged."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entrypoint import main
from job.errors import ConfigError, TransientError
from job.store.artifacts import check_stored
from job.store.folder import FolderStore
from job.store.s3.store import S3Store, open_s3_store
from job.store.s3.upload import PART_NBYTES
from tests.checkpoints import planted, write_checkpoint
from tests.servers.meddling_store import Asked, Damaging, Meddling, meddling_store
from tests.servers.plain_s3 import PlainS3, plain_s3
from tests.servers.seaweed import ADMIN, SeaweedServer
from tests.servers.short_waits import QUICK

NBYTES = 2 * PART_NBYTES + 11
OLD, NEW = b"\1" * NBYTES, b"\2" * NBYTES


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainS3]:
    """A store that looks at nothing, and boto3's environment set to reach it without checksums."""
    with plain_s3() as server:
        for name, value in SeaweedServer.environment_at(server.endpoint, ADMIN).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield server


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> str:
    """The address of OUTPUT on one of two stores: one that tells CRC32s, and one that tells MD5s as ETags."""
    if request.param == "CRC32":
        return f"s3://{request.getfixturevalue('s3_bucket')}/surveys"
    request.getfixturevalue("plain")
    return "s3://bucket/surveys"


def is_complete(asked: Asked) -> bool:
    return asked.method == "POST" and "uploadId=" in asked.query


def first(meddling: Meddling) -> Meddling:
    """The same, for the first request that it is for."""
    done = iter([False])
    return lambda asked: meddling(asked) if meddling(asked) is not None and not next(done, True) else None


COMPLETES: dict[str, Meddling] = {
    "swallowed": lambda asked: "swallowed" if is_complete(asked) else None,
    "an error in a 200": lambda asked: (200, "InternalError") if is_complete(asked) else None,
    "a foreign 200": lambda asked: (200, "") if is_complete(asked) else None,
}


@pytest.mark.parametrize("upstream", ["CRC32", "ETag"], indirect=True)
@pytest.mark.parametrize("meddles", COMPLETES.values(), ids=COMPLETES)
def test_an_upload_whose_end_is_not_stored_fails_although_an_old_object_of_its_size_is_there(
    upstream: str, monkeypatch: pytest.MonkeyPatch, meddles: Meddling
) -> None:
    store = open_s3_store(upstream).check()
    store.write_stream("org/W", iter([OLD]), NBYTES)
    with meddling_store(os.environ["AWS_ENDPOINT_URL"], meddles) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = S3Store(replace(open_s3_store(upstream, QUICK).bucket, evidence=store.bucket.evidence))
        with pytest.raises(TransientError, match="surveys/org/W"):
            store.write_stream("org/W", iter([NEW]), NBYTES)
        assert store.read("org/W") == OLD


@pytest.mark.parametrize("upstream", ["CRC32", "ETag"], indirect=True)
def test_an_upload_whose_last_answer_is_lost_is_there(upstream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meddles = first(lambda asked: "lost" if is_complete(asked) else None)
    store = open_s3_store(upstream).check()
    with meddling_store(os.environ["AWS_ENDPOINT_URL"], meddles) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = S3Store(replace(open_s3_store(upstream, QUICK).bucket, evidence=store.bucket.evidence))
        store.write_stream("org/W", iter([NEW]), NBYTES)
        assert store.read("org/W") == NEW
        assert len(proxy.meddled) == 1


def damage(part: int) -> Damaging:
    return lambda query, body: body[:5] + b"?" + body[6:] if f"partNumber={part}" in query else body


@pytest.mark.parametrize("part", [1, 3])
def test_a_part_that_was_damaged_on_its_way_is_noticed_without_checksums(
    plain: PlainS3, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    evidence = open_s3_store("s3://bucket/surveys").check().bucket.evidence
    assert evidence == "ETag"
    with meddling_store(plain.endpoint, lambda _: None, damages=damage(part)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = S3Store(replace(open_s3_store("s3://bucket/surveys").bucket, evidence=evidence))
        with pytest.raises(TransientError, match=rf"surveys/org/W: found other bytes, expected {NBYTES:,} bytes"):
            store.write_stream("org/W", iter([NEW]), NBYTES)


@pytest.mark.parametrize("upstream", ["CRC32", "ETag"], indirect=True)
def test_what_the_answer_to_a_write_shows_is_not_asked_for(upstream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []
    with meddling_store(os.environ["AWS_ENDPOINT_URL"], lambda asked: asked_for.append(asked.method)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(upstream).check()
        asked_for.clear()
        store.write_stream("org/mu", iter([b"content"]), 7)
        store.write("org/manifest", b"content")
        assert asked_for == ["PUT", "PUT"]
        store.write_stream("org/W", iter([NEW]), NBYTES)
        assert store.read("org/W") == NEW


def test_an_etag_that_is_no_md5_is_not_taken_for_damage(plain: PlainS3, caplog: pytest.LogCaptureFixture) -> None:
    store = open_s3_store("s3://bucket/surveys").check()
    plain.etag_seed = b"of this store alone"
    store.write_stream("org/W", iter([NEW]), NBYTES)
    store.write_stream("org/W", iter([OLD]), NBYTES)
    assert ["ETag" in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [True]


@pytest.mark.parametrize("upstream", ["CRC32", "ETag"], indirect=True)
def test_a_small_object_that_is_swallowed_is_written_again_and_fails_if_it_never_arrives(
    upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallows: Meddling = lambda asked: "swallowed" if asked.method == "PUT" else None  # noqa: E731
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    with meddling_store(endpoint, first(swallows)) as once, meddling_store(endpoint, swallows) as always:
        monkeypatch.setenv("AWS_ENDPOINT_URL", once.endpoint)
        store = open_s3_store(upstream)
        store.write("org/manifest", b"content")
        assert store.read("org/manifest") == b"content"
        assert len(once.meddled) == 1
        monkeypatch.setenv("AWS_ENDPOINT_URL", always.endpoint)
        with pytest.raises(TransientError, match="surveys/org/other: found nothing, expected 7 bytes"):
            open_s3_store(upstream).write("org/other", b"content")
        with pytest.raises(TransientError, match="found nothing, expected an object that was just written"):
            open_s3_store(upstream).check()


def test_no_manifest_names_an_object_that_is_listed_with_another_size(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def rewrites(content: bytes) -> bytes:
        before, key, after = content.partition(b"mu.safetensors</Key>")
        return before + key + after.replace(b"<Size>", b"<Size>1", 1)

    checkpoint = write_checkpoint(tmp_path / "model", planted(100, 64, [[5, 7]]))
    with meddling_store(s3_server.endpoint, lambda _: None, rewrites) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert main([str(checkpoint), "--output", f"s3://{s3_bucket}"]) == 75
    keys = [item["Key"] for item in s3_server.client().list_objects_v2(Bucket=s3_bucket)["Contents"]]
    assert [key for key in keys if key.endswith(".safetensors")]
    assert not [key for key in keys if key.endswith(("/manifest.json", "/latest.json"))]


def test_a_file_that_is_cut_off_in_a_folder_is_not_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write("org/a/mu", b"content")
    store.write("org/b/W", b"content")
    check_stored(store, {"org/a/mu": 7, "org/b/W": 7})
    (tmp_path / "org/b/W").write_bytes(b"con")
    with pytest.raises(TransientError, match=r"org/b/W: 3 bytes \(7\), org/c: nothing \(9\); expected"):
        check_stored(store, {"org/a/mu": 7, "org/b/W": 7, "org/c": 9})


def uploads_refused(status: int) -> Meddling:
    return lambda asked: (status, "Refused") if asked.method == "GET" and "uploads" in asked.query else None


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_store_that_does_not_list_uploads_costs_one_warning(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    models = [str(write_checkpoint(tmp_path / name, planted(100, 64, [[5, 7]]))) for name in ("one", "two")]
    with meddling_store(s3_server.endpoint, uploads_refused(status)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert main([*models, "--output", f"s3://{s3_bucket}"]) == 0
        assert proxy.meddled
    warnings = [record.getMessage() for record in caplog.records if "the run goes on without" in record.getMessage()]
    assert ["ListMultipartUploads" in warning for warning in warnings] == [True]


def test_a_store_that_forbids_to_list_the_parts_of_an_upload_is_told_which_permission_it_takes(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forbids: Meddling = lambda asked: (403, "AccessDenied") if asked.operation == "GET uploadId" else None  # noqa: E731
    s3_server.client().create_multipart_upload(Bucket=s3_bucket, Key="org/name/0123abcd/W.safetensors")
    with meddling_store(s3_server.endpoint, forbids) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        open_s3_store(f"s3://{s3_bucket}", QUICK).discard_unfinished(0.0)
    (warning,) = [record.getMessage() for record in caplog.records if "the run goes on without" in record.getMessage()]
    assert "ListParts" in warning
    assert "s3:ListMultipartUploadParts" in warning


@pytest.mark.parametrize("meddles", [lambda asked: 405 if asked.method == "DELETE" else None], ids=["405"])
def test_a_store_that_does_not_abort_uploads_or_delete_costs_warnings(
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    meddles: Meddling,
) -> None:
    client = s3_server.client()
    upload = client.create_multipart_upload(Bucket=s3_bucket, Key="org/name/0123abcd/W.safetensors")
    with meddling_store(s3_server.endpoint, meddles) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_s3_store(f"s3://{s3_bucket}").check()
        store.discard_unfinished(0.0)
        store.discard_unfinished(0.0)
    client.abort_multipart_upload(Bucket=s3_bucket, Key="org/name/0123abcd/W.safetensors", UploadId=upload["UploadId"])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["DeleteObject" in warning for warning in warnings] == [True, False]


@pytest.mark.parametrize("field", [b"Key", b"Size"])
def test_a_listing_that_lacks_what_is_needed_is_refused(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, field: bytes
) -> None:
    with meddling_store(s3_server.endpoint, lambda _: None, lambda body: body.replace(field, b"Other")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(ConfigError, match=r"found a listing that is not S3's.*expected a key and a size"):
            open_s3_store(f"s3://{s3_bucket}").check()


def test_a_store_without_etags_is_written_to(plain: PlainS3) -> None:
    plain.has_etags = False
    store = open_s3_store("s3://bucket/surveys").check()
    store.write_stream("org/W", iter([NEW]), NBYTES)
    assert (store.bucket.evidence, store.read("org/W")) == ("size", NEW)


def test_a_store_that_names_no_etag_of_a_part_is_refused_at_the_start(plain: PlainS3) -> None:
    plain.has_part_etags = False
    with pytest.raises(ConfigError, match="found an answer without 'ETag', expected that of an S3 store"):
        open_s3_store("s3://bucket/surveys").check()
    assert (plain.objects, plain.uploads) == ({}, {})


def test_a_web_page_in_place_of_each_answer_is_refused(plain: PlainS3, monkeypatch: pytest.MonkeyPatch) -> None:
    with meddling_store(plain.endpoint, lambda _: None, lambda _: b"<html>Welcome</html>") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(ConfigError, match=r"found 20 bytes that begin with b'<html>"):
            open_s3_store("s3://bucket/surveys").check()


def test_a_store_that_gives_back_other_bytes_than_its_checksum_says_is_refused(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flips_last_bit(body: bytes) -> bytes:
        return body if body.startswith(b"<") or not body else body[:-1] + bytes([body[-1] ^ 1])

    with meddling_store(s3_server.endpoint, lambda _: None, flips_last_bit) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(ConfigError, match=r"write-check-\w+: found .* bytes that begin with b's3://"):
            open_s3_store(f"s3://{s3_bucket}").check()
