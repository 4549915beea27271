"""The sink of the benchmarks says the truth of what it was sent, although it forgets most of it."""

import base64
import secrets
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from benchmarks.sink.server import KEPT_NBYTES
from tests.documentation import ROOT
from tests.servers.seaweed import ADMIN, SeaweedServer, free_ports
from tests.servers.serving import wait_until

PART_NBYTES = 8 << 20


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[S3Client]:
    (port,), log = free_ports(1), tmp_path / "requests"
    with subprocess.Popen([sys.executable, "-m", "benchmarks.sink.server", str(port), str(log)], cwd=ROOT) as process:
        try:
            wait_until(log.exists)
            config = Config(retries={"total_max_attempts": 5})
            yield SeaweedServer.client_at(f"http://127.0.0.1:{port}", ADMIN, config)
        finally:
            process.terminate()


@pytest.mark.parametrize("nbytes", [0, 1, KEPT_NBYTES + 1, PART_NBYTES, 2 * PART_NBYTES + 12_345])
def test_an_object_has_the_size_and_the_crc32_of_its_bytes_and_begins_as_they_do(
    sink: S3Client, tmp_path: Path, nbytes: int
) -> None:
    content = secrets.token_bytes(nbytes)
    (tmp_path / "content").write_bytes(content)
    checksum = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
    in_parts = TransferConfig(multipart_threshold=PART_NBYTES, multipart_chunksize=PART_NBYTES)
    sink.upload_file(str(tmp_path / "content"), "any", "key", ExtraArgs=checksum, Config=in_parts)
    head = sink.head_object(Bucket="any", Key="key", ChecksumMode="ENABLED")
    assert head["ContentLength"] == nbytes
    assert base64.b64decode(head["ChecksumCRC32"]) == zlib.crc32(content).to_bytes(4)
    (listed,) = sink.list_objects_v2(Bucket="any", Prefix="k")["Contents"]
    assert (listed["Key"], listed["Size"]) == ("key", nbytes)
    if nbytes:
        begin = sink.get_object(Bucket="any", Key="key", Range="bytes=0-1023")["Body"].read()
        assert begin == content[:1024]


def test_what_was_forgotten_is_refused_and_not_made_up(sink: S3Client, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(bytes(3 * PART_NBYTES))
    sink.upload_file(str(tmp_path / "content"), "any", "key")
    with pytest.raises(ClientError, match="NotImplemented"):
        sink.get_object(Bucket="any", Key="key", Range=f"bytes=0-{PART_NBYTES}")


def test_a_key_is_created_once(sink: S3Client) -> None:
    sink.put_object(Bucket="any", Key="key", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        sink.put_object(Bucket="any", Key="key", Body=b"second", IfNoneMatch="*")
    assert sink.get_object(Bucket="any", Key="key")["Body"].read() == b"first"
    sink.delete_object(Bucket="any", Key="key")
    with pytest.raises(ClientError, match="NoSuchKey"):
        sink.get_object(Bucket="any", Key="key")


def test_an_upload_that_was_aborted_leaves_nothing(sink: S3Client) -> None:
    upload = sink.create_multipart_upload(Bucket="any", Key="key")["UploadId"]
    sink.upload_part(Bucket="any", Key="key", UploadId=upload, PartNumber=1, Body=bytes(PART_NBYTES))
    sink.abort_multipart_upload(Bucket="any", Key="key", UploadId=upload)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        sink.complete_multipart_upload(Bucket="any", Key="key", UploadId=upload, MultipartUpload={"Parts": []})
    assert "Contents" not in sink.list_objects_v2(Bucket="any")
