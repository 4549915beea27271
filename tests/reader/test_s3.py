"""Reading from a real S3 server: requests counted by a proxy before it, refusals, and answers that break off."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from black_hole_survey import CorruptArtifact, MissingPackage, UnknownSurvey, UnreadableStore, open_surveys
from tests.checkpoints import planted
from tests.reader.conftest import GROUPS, IN_HOLES, Publish
from tests.servers.meddling_store import Asked, Meddling, What, meddling_store
from tests.servers.seaweed import SeaweedServer

N_ROWS, HIDDEN_SIZE = 1000, 1024


@pytest.fixture
def address(publish: Publish, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Surveys of a W of 2 MB, which comes in several ranges."""
    monkeypatch.setattr("black_hole_survey.s3.MAX_RANGE_NBYTES", 1 << 18)
    publish("model", planted(N_ROWS, HIDDEN_SIZE, GROUPS), output=(place := f"s3://{s3_bucket}/some/surveys"))
    return place


@contextmanager
def counted(
    server: SeaweedServer, monkeypatch: pytest.MonkeyPatch, meddles: Meddling = lambda _: None
) -> Iterator[list[str]]:
    """What the server is asked, as method, last part of the key, and range."""
    asked: list[str] = []

    def count(request: Asked) -> What:
        name = request.path.rpartition("/")[2] if request.path.count("/") > 1 else "listing"
        asked.append(" ".join(filter(None, [request.method, name, request.headers.get("Range", "")])))
        return meddles(request)

    with meddling_store(server.endpoint, count) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        yield asked


def test_a_single_row_takes_two_requests(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(s3_server, monkeypatch) as asked:
        surveys = open_surveys(address)
        assert asked == []
        survey = surveys["local/model"]
        row = survey.rows([700])
    begin = survey.manifest["artifacts"]["W"]["size"] - (N_ROWS - 700) * HIDDEN_SIZE * 2
    assert asked == ["GET latest.json", f"GET W.safetensors bytes={begin}-{begin + HIDDEN_SIZE * 2 - 1}"]
    assert torch.equal(row, planted(N_ROWS, HIDDEN_SIZE, GROUPS)[[700]])


def test_rows_near_each_other_come_by_one_request(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [8, 5, 6, 20, 100, 700, 7, 8]
    with counted(s3_server, monkeypatch) as asked:
        rows = open_surveys(address)["local/model"].rows(ids)
    assert len([request for request in asked if "W.safetensors" in request]) == 2  # of 5 to 100, and of 700
    assert torch.equal(rows, planted(N_ROWS, HIDDEN_SIZE, GROUPS)[ids])


def test_rows_near_each_other_come_by_several_requests_where_one_would_be_too_large(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(range(0, N_ROWS, 2))
    with counted(s3_server, monkeypatch) as asked:
        rows = open_surveys(address)["local/model"].rows(ids)
    assert len([request for request in asked if "W.safetensors" in request]) == 8  # 2 MB in ranges of 256 kB
    assert torch.equal(rows, planted(N_ROWS, HIDDEN_SIZE, GROUPS)[ids])


def test_every_tensor_equals_what_was_published(address: str) -> None:
    survey = open_surveys(address)["local/model"]
    w = planted(N_ROWS, HIDDEN_SIZE, GROUPS)
    assert torch.equal(survey.W, w)
    assert torch.equal(survey.gamma_centered, w.float() - survey.mu)
    assert torch.equal(survey.rows(survey.black_hole_mask), w[IN_HOLES])
    assert torch.equal(survey.rows(IN_HOLES, of="gamma_centered"), survey.gamma_centered[IN_HOLES])
    assert survey.black_hole_id[IN_HOLES].tolist() == [1, 1, 2, 2, 1]


def test_the_small_tensors_of_one_file_take_one_request(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(s3_server, monkeypatch) as asked:
        survey = open_surveys(address)["local/model"]
        _ = survey.black_hole_mask, survey.black_hole_id, survey.black_hole_centroids, survey.black_hole_mask
    assert len(asked) == 2


def test_models_and_commits_are_found(publish: Publish, address: str) -> None:
    publish("another", output=address)
    surveys = open_surveys(f"{address}/")
    assert list(surveys) == ["local/another", "local/model"]
    commit = surveys["local/model"].manifest["commit"]
    for name in (commit, commit[:8]):
        assert surveys[f"local/model@{name}"].manifest == surveys["local/model"].manifest
    with pytest.raises(UnknownSurvey, match="expected one of local/another, local/model"):
        surveys["local/anotherr"]
    assert surveys.table()["model"].tolist() == ["local/another", "local/model"]


def test_exports_equal_those_from_a_folder(publish: Publish, address: str, tmp_path: Path) -> None:
    folder = publish("model", planted(N_ROWS, HIDDEN_SIZE, GROUPS))
    for layout in ("workshop", "azimuth"):
        written = [
            [path.read_bytes() for path in open_surveys(place)["local/model"].export(tmp_path / name, layout)]  # type: ignore[arg-type]
            for name, place in {"s3": address, "folder": folder}.items()
        ]
        assert written[0] == written[1]


def test_verify_finds_a_flipped_bit_and_a_missing_object(address: str, s3_server: SeaweedServer) -> None:
    survey = open_surveys(address)["local/model"]
    survey.verify()
    client, bucket = s3_server.client(), address.split("/")[2]
    key = f"some/surveys/{survey.manifest['artifacts']['mu']['key']}"
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[-1] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    with pytest.raises(CorruptArtifact, match=rf"^s3://{bucket}/{key}: found the SHA-256 \w+, expected \w+"):
        survey.verify()
    client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(CorruptArtifact, match=rf"^s3://{bucket}/{key}: found no file"):
        survey.verify()
    with pytest.raises(CorruptArtifact, match=rf"^s3://{bucket}/{key}: found NoSuchKey, expected a file of"):
        _ = survey.mu


def test_an_object_of_another_size_is_refused_also_for_a_single_row(address: str, s3_server: SeaweedServer) -> None:
    survey = open_surveys(address)["local/model"]
    client, bucket = s3_server.client(), address.split("/")[2]
    key = f"some/surveys/{survey.manifest['artifacts']['W']['key']}"
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content + b"\0")
    with pytest.raises(CorruptArtifact, match=rf"found the range 'bytes [0-9-]+/{len(content) + 1}', expected"):
        survey.rows([0])


@pytest.mark.parametrize("what", ["cut", "lost", 503])
def test_an_answer_that_breaks_off_is_asked_for_again(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch, what: What
) -> None:
    broken: list[str] = []

    def once(request: Asked) -> What:
        if not request.path.endswith("W.safetensors") or broken:
            return None
        broken.append(request.path)
        return what

    with counted(s3_server, monkeypatch, once):
        rows = open_surveys(address)["local/model"].rows(IN_HOLES)
    assert broken
    assert torch.equal(rows, planted(N_ROWS, HIDDEN_SIZE, GROUPS)[IN_HOLES])


def test_a_server_that_sends_the_whole_object_for_a_range_is_refused(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(request: Asked) -> What:
        return "whole" if request.path.endswith("W.safetensors") else None

    with (
        counted(s3_server, monkeypatch, whole),
        pytest.raises(CorruptArtifact, match=r"W\.safetensors: found the range None, expected 'bytes"),
    ):
        open_surveys(address)["local/model"].rows([7])


def test_a_wrong_key_and_a_missing_bucket_are_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableStore, match=r"s3://no-such-bucket.*NoSuchBucket.*check the address"):
        list(open_surveys("s3://no-such-bucket/surveys"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-0123456789")
    with pytest.raises(UnreadableStore, match=r"latest\.json: found SignatureDoesNotMatch") as refused:
        open_surveys(address)["local/model"]
    assert "wrong-secret" not in str(refused.value)


def test_requests_are_not_signed_where_there_are_no_keys(
    address: str, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: list[bool] = []

    def look(request: Asked) -> What:
        signed.append("Authorization" in request.headers)
        return None

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with counted(s3_server, monkeypatch, look), pytest.raises(UnreadableStore, match="AccessDenied"):
        open_surveys(address)["local/model"]
    assert signed == [False]


def test_without_boto3_it_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("boto3", "botocore", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, package, None)
    surveys = open_surveys("s3://bucket/surveys")
    for ask in (lambda: list(surveys), lambda: surveys["org/name"], lambda: surveys.table()):
        with pytest.raises(MissingPackage, match=r"^s3://bucket: found no boto3, expected it; pip install boto3$"):
            ask()


@pytest.mark.parametrize("address", ["s3://", "s3:///surveys"])
def test_an_address_without_a_bucket_is_refused(address: str) -> None:
    with pytest.raises(UnreadableStore, match="found no bucket in it, expected s3://bucket/prefix"):
        open_surveys(address)
