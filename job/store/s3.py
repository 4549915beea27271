"""Publishes into an S3 bucket, with boto3; knows nothing of what is published. Endpoint, region and credentials are
boto3's to find (``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``, ``AWS_ACCESS_KEY_ID``, profiles, roles, …)."""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
"""Size of a part, as boto3 has it: S3 takes no part below 5 MiB but the last."""
MAX_PARTS = 10_000
"""The most parts an upload can have (Amazon S3, "multipart upload limits")."""
PARTS_IN_FLIGHT = 4
"""Parts uploaded at once. A part is held in memory until the store has it, so this bounds the memory as well."""

S3_CONFIG = Config(
    # botocore's own retries, with pauses of at most 1, 2, 4, 8 and 16 s, half of that on average: up to half a minute
    # of 5xx, SlowDown or refused connections is sat out, because failing costs reading the whole of W again. A server
    # that accepts and never answers is given up after six minutes. A long read time-out, since some stores assemble a
    # multipart upload without a sign of life.
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=PARTS_IN_FLIGHT + 1,
)


CONFLICTS = 3
"""How often a write that meets another one of the same key is tried: Amazon S3 wants it sent again."""

WITHOUT_CONDITIONS = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""What stores that know no If-None-Match call a write with it, where they do not say 501. Any other 400 may be damage
on the way, after which a write without the condition could replace what is there."""


class _Object(TypedDict):
    Bucket: str
    Key: str


class _Checksums(TypedDict, total=False):
    ChecksumAlgorithm: Literal["CRC32"]
    ChecksumType: Literal["FULL_OBJECT"]


def open_s3_store(url: str) -> S3Store:
    """The store at ``s3://bucket/prefix``. Nothing is asked of it yet.

    Raises:
        ConfigError: the address, or something boto3 finds in its environment, cannot be one.
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
        with self._refusals("list what is there", self.prefix):
            try:
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            except RecursionError as error:
                raise redirect_loop(f"s3://{self.bucket}/{self.prefix}") from error
        # An upload that is begun and given up shows that writing is allowed, and is never visible to a reader.
        key = f"{self.prefix}write-check"
        with self._refusals("write", key):
            upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def read(self, key: str) -> bytes | None:
        with self._refusals("read", self._key(key)):
            try:
                return self.client.get_object(**self._object(key))["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

    def write(self, key: str, content: bytes) -> None:
        with self._refusals("write", self._key(key)):
            self.client.put_object(**self._object(key), Body=content)

    def create(self, key: str, content: bytes) -> bool:
        with self._refusals("create", self._key(key)):
            for _ in range(CONFLICTS):
                try:
                    self.client.put_object(**self._object(key), Body=content, IfNoneMatch="*")
                except ClientError as error:
                    status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
                    if status == 412:
                        # Also what a second attempt is told, whose first succeeded without its answer arriving.
                        return self.read(key) == content
                    if status in (405, 501) or code in WITHOUT_CONDITIONS:
                        self.write(key, content)
                        return True
                    if status != 409:
                        raise
                    time.sleep(1)  # somebody is creating or deleting it at this moment
                else:
                    return True
        return False

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """By boto3's transfer manager, whose submission thread pulls ``chunks`` while this one waits for the end."""
        part_nbytes = part_nbytes_of(nbytes)
        config = TransferConfig(
            multipart_threshold=part_nbytes,
            multipart_chunksize=part_nbytes,
            max_concurrency=PARTS_IN_FLIGHT,
            # The other client, which boto3 takes by itself where it finds it, is not bound by what is set here.
            preferred_transfer_client="classic",
        )
        config.max_in_memory_upload_chunks = PARTS_IN_FLIGHT  # boto3's constructor does not take s3transfer's setting
        pulled = _PulledElsewhere(exactly(chunks, nbytes))
        with self._refusals("write", self._key(key)), create_transfer_manager(self.client, config) as manager:
            stream = io.BufferedReader(_ChunkStream(pulled))
            future = manager.upload(stream, self.bucket, self._key(key), extra_args=dict(self._checksums()))
            pulled.is_over = future.done
            with suppress(_NothingMoreToPull):
                future.result()
        if pulled.failure is not None:
            raise pulled.failure

    def sizes(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._refusals("list what is there", self.prefix + prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                found |= {item["Key"].removeprefix(self.prefix): item["Size"] for item in page.get("Contents", [])}
        return dict(sorted(found.items()))

    def delete(self, key: str) -> None:
        with self._refusals("delete", self._key(key)):
            self.client.delete_object(**self._object(key))

    def discard_unfinished(self, prefix: str) -> None:
        with self._refusals("discard unfinished uploads", self.prefix + prefix):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            # Listed to the end first: aborting while paging could move the pages.
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                with suppress(self.client.exceptions.NoSuchUpload):  # somebody else did it, or finished it
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _key(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _object(self, key: str) -> _Object:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _checksums(self) -> _Checksums:
        """A CRC of each part and, made of them, one of the whole object, which every later download is checked with.

        boto3's own default but for the second half; ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` turns both off,
        for stores that know neither.
        """
        # botocore-stubs do not know this setting.
        if self.client.meta.config.request_checksum_calculation == "when_supported":  # type: ignore[attr-defined]
            return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        return {}

    @contextmanager
    def _refusals(self, action: str, key: str) -> Iterator[None]:
        """Turn what boto3 raises into the errors of the contract."""
        try:
            yield
        except S3_ERRORS as error:
            failure = s3_failure(error, f"s3://{self.bucket}/{key}: could not {action}", WRITING)
            raise (TransientError if failure.kind == "retryable" else ConfigError)(failure.message) from error


class _NothingMoreToPull(Exception):
    """What s3transfer's thread is told when the chunks failed or nobody waits for the upload any more."""


class _PulledElsewhere:
    """Chunks for s3transfer's submission thread, which needs two things said to it.

    An upload that has failed or was interrupted does not stop that thread: it would pull the stream to its end. And an
    exception that is not an ``Exception``, raised in it, reaches the threads that send parts and ends the cleanup half
    way, so that the caller waits for ever. So failures are kept here for the caller, and it gets a plain exception.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.failure: BaseException | None = None
        self.is_over: Callable[[], bool] = lambda: False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.is_over():
            raise _NothingMoreToPull
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise _NothingMoreToPull from error


class _ChunkStream(io.RawIOBase):
    """Chunks as a file that can be read once, from the beginning to the end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill as much of ``buffer`` as the current chunk can; 0 at the end of the last one."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        room = memoryview(buffer)
        nbytes = min(len(room), len(self._rest))
        room[:nbytes], self._rest = self._rest[:nbytes], self._rest[nbytes:]
        return nbytes


def part_nbytes_of(nbytes: int) -> int:
    """The size of the parts of an object: ``PART_NBYTES``, or as many MiB as keep their number within ``MAX_PARTS``."""
    return max(PART_NBYTES, math.ceil(nbytes / MAX_PARTS / MIB) * MIB)
