"""Publishes into an S3 bucket, with boto3. It does not know what is published. boto3 finds the endpoint, the region and
the credentials (``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``, ``AWS_ACCESS_KEY_ID``, profiles, roles, …)."""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Literal, TypedDict

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import ClientError

from job.errors import ConfigError, TransientError
from job.s3_client import S3_ERRORS, WRITING, create_client, redirect_loop, s3_failure
from job.store.store import checked_key, exactly

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
PART_NBYTES = 8 * MIB
"""Size of a part: boto3's default. S3 accepts no part below 5 MiB except the last."""
MAX_PARTS = 10_000
"""Parts that an upload can have (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
PARTS_IN_FLIGHT = 4
"""Parts uploaded at once. A part stays in memory until the store has it, so this bounds the memory too."""

S3_CONFIG = Config(
    # botocore retries after at most 1, 2, 4, 8 and 16 s, half of that on average. This bridges up to half a minute of
    # 5xx, SlowDown or refused connections, because after a failure the whole of W has to be read again. A server that
    # accepts connections and never answers is given up after six minutes. The read time-out is long because some
    # stores send nothing while they assemble a multipart upload.
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=PARTS_IN_FLIGHT + 1,
)

CONFLICT_ATTEMPTS = 3
"""How often a write is tried that conflicts with another write of the same key: Amazon S3 asks to send it again."""

NO_CONDITIONS_CODES = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""The codes with which stores without If-None-Match refuse it, if they do not answer 501. Any other 400 may be damage
on the way; after that, a write without the condition could replace what is there."""


_POLL_SECONDS = 0.2
"""How soon the two threads of an upload notice that the other one has ended."""


class _Object(TypedDict):
    Bucket: str
    Key: str


class _Checksums(TypedDict, total=False):
    ChecksumAlgorithm: Literal["CRC32"]
    ChecksumType: Literal["FULL_OBJECT"]


def open_s3_store(url: str) -> S3Store:
    """The store at ``s3://bucket/prefix``. No request is sent yet.

    Raises:
        ConfigError: the address is not one of S3, or boto3 finds a setting that it cannot use.
    """
    scheme, _, path = url.partition("://")
    bucket, _, prefix = path.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"OUTPUT: found {url!r}, expected s3://bucket/prefix; correct it")
    return S3Store(create_client(S3_CONFIG, url), bucket, f"{re.sub('/+', '/', prefix).strip('/')}/".lstrip("/"))


@dataclass(frozen=True)
class S3Store:
    """A Store in ``bucket``, below ``prefix`` (empty, or ending in a slash)."""

    client: S3Client
    bucket: str
    prefix: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def check(self) -> None:
        with self._errors_translated("list what is there", self.prefix):
            try:
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            except RecursionError as error:
                raise redirect_loop(f"s3://{self.bucket}/{self.prefix}") from error
        # To begin an upload and abort it shows that writing is allowed. No reader ever sees it.
        key = f"{self.prefix}write-check"
        with self._errors_translated("write", key):
            upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def read(self, key: str) -> bytes | None:
        with self._errors_translated("read", self._key(key)):
            try:
                return self.client.get_object(**self._object(key))["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

    def write(self, key: str, content: bytes) -> None:
        with self._errors_translated("write", self._key(key)):
            self.client.put_object(**self._object(key), Body=content)

    def create(self, key: str, content: bytes) -> bool:
        with self._errors_translated("create", self._key(key)):
            for _ in range(CONFLICT_ATTEMPTS):
                try:
                    self.client.put_object(**self._object(key), Body=content, IfNoneMatch="*")
                except ClientError as error:
                    status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
                    if status == 412:
                        # botocore's second attempt also gets this, if the first succeeded and its answer was lost.
                        return self.read(key) == content
                    if status in (405, 501) or code in NO_CONDITIONS_CODES:
                        self.write(key, content)
                        return True
                    if status != 409:
                        raise
                    time.sleep(1)  # another worker is creating or deleting it now
                else:
                    return True
        return False

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """By boto3's transfer manager. The calling thread pulls ``chunks``, so that a signal ends the wait for one."""
        part_nbytes = part_nbytes_of(nbytes)
        config = TransferConfig(
            multipart_threshold=part_nbytes,
            multipart_chunksize=part_nbytes,
            max_concurrency=PARTS_IN_FLIGHT,
            # boto3 prefers the CRT client if it is installed, which ignores these settings.
            preferred_transfer_client="classic",
        )
        config.max_in_memory_upload_chunks = PARTS_IN_FLIGHT  # TransferConfig() has no argument for it
        pipe = _Pipe()
        with self._errors_translated("write", self._key(key)), create_transfer_manager(self.client, config) as manager:
            stream = io.BufferedReader(pipe)
            future = manager.upload(stream, self.bucket, self._key(key), extra_args=dict(self._checksums()))
            try:
                for chunk in exactly(chunks, nbytes):
                    if not pipe.put(chunk, future.done):
                        break
                pipe.end(future.done)
            except BaseException:
                pipe.close()
                with suppress(_UploadEnded):
                    future.result()  # by now, nothing of the upload is left
                raise
            future.result()

    def sizes(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._errors_translated("list what is there", self.prefix + prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                found |= {item["Key"].removeprefix(self.prefix): item["Size"] for item in page.get("Contents", [])}
        return dict(sorted(found.items()))

    def delete(self, key: str) -> None:
        with self._errors_translated("delete", self._key(key)):
            self.client.delete_object(**self._object(key))

    def discard_unfinished(self, prefix: str) -> None:
        with self._errors_translated("discard unfinished uploads", self.prefix + prefix):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            # The list is read to its end first, because an abort could shift the next pages.
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                with suppress(self.client.exceptions.NoSuchUpload):  # another worker aborted or finished it
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _key(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _object(self, key: str) -> _Object:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _checksums(self) -> _Checksums:
        """The checksums to send: a CRC of each part, which add up to one of the whole object, checked by each download.

        boto3's default has no CRC of the whole object. ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` turns both
        off, for stores that know neither.
        """
        # botocore-stubs do not have this setting.
        if self.client.meta.config.request_checksum_calculation == "when_supported":  # type: ignore[attr-defined]
            return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        return {}

    @contextmanager
    def _errors_translated(self, action: str, key: str) -> Iterator[None]:
        """Turn boto3's errors into those of the writing contract."""
        try:
            yield
        except S3_ERRORS as error:
            failure = s3_failure(error, f"s3://{self.bucket}/{key}: could not {action}", WRITING)
            raise (TransientError if failure.kind == "retryable" else ConfigError)(failure.message) from error


class _UploadEnded(Exception):
    """Ends s3transfer's thread when the chunks failed."""


class _Pipe(io.RawIOBase):
    """Hands chunks from the thread that pulls them to s3transfer's thread, which reads them as a file.

    Chunks are not pulled in s3transfer's thread: it would pull them to their end after its upload has failed, and an
    interrupt that is raised in it breaks off the cleanup.
    """

    def __init__(self) -> None:
        self._chunks: Queue[bytes | None] = Queue(maxsize=1)
        self._closed_early = self._is_at_end = False
        self._rest = memoryview(b"")

    def put(self, chunk: bytes | None, is_over: Callable[[], bool]) -> bool:
        """Hand over a chunk. Returns False once ``is_over()``, when nobody needs it any more."""
        while not is_over():
            with suppress(Full):
                self._chunks.put(chunk, timeout=_POLL_SECONDS)
                return True
        return False

    def end(self, is_over: Callable[[], bool]) -> None:
        """No more chunks come: let the reader end, or fail where its upload is over already."""
        if not self.put(None, is_over):
            self.close()

    def close(self) -> None:
        """Let the reader fail."""
        self._closed_early = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer`` as far as the current chunk goes. Returns the number of bytes; 0 after the last chunk."""
        while not self._rest:
            chunk = None if self._is_at_end else self._take()
            if chunk is None:
                self._is_at_end = True  # s3transfer reads once more
                return 0
            self._rest = memoryview(chunk)
        room = memoryview(buffer)
        nbytes = min(len(room), len(self._rest))
        room[:nbytes], self._rest = self._rest[:nbytes], self._rest[nbytes:]
        return nbytes

    def _take(self) -> bytes | None:
        while not self._closed_early:
            with suppress(Empty):
                return self._chunks.get(timeout=_POLL_SECONDS)
        raise _UploadEnded


def part_nbytes_of(nbytes: int) -> int:
    """The size of an object's parts: ``PART_NBYTES``, or as many MiB as it takes to stay within ``MAX_PARTS`` parts."""
    return max(PART_NBYTES, math.ceil(nbytes / MAX_PARTS / MIB) * MIB)
