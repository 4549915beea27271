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
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Literal, TypedDict

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from job.errors import ConfigError, TransientError, UploadLost
from job.s3_client import S3_ERRORS, WRITING, create_client, s3_failure
from job.s3_retries import DEFAULT_RETRIES, S3Retries
from job.store.store import (
    PROBE_PREFIXES,
    UNFINISHED_MIN_AGE,
    check_length,
    checked_key,
    is_own_upload,
    is_probe,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ResponseMetadataTypeDef

MIB = 1 << 20
PART_NBYTES = 8 * MIB
"""Size of a part: boto3's default. S3 accepts no part below 5 MiB except the last."""
MAX_PARTS = 10_000
"""Parts that an upload can have (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
PARTS_IN_FLIGHT = 4
"""Parts uploaded at once. A part stays in memory until the store has it, so this bounds the memory too."""
PIPE_POLL_SECONDS = 0.1
"""How often a thread that waits for the other one looks whether the upload has ended."""

S3_CONFIG = Config(
    connect_timeout=10,
    # Long, because some stores send nothing while they assemble a multipart upload. A server that accepts connections
    # and never answers is given up after six attempts: about six minutes.
    read_timeout=60,
    max_pool_connections=PARTS_IN_FLIGHT + 1,
)

BODY_ATTEMPTS = 3
"""How often a small object is read whose body breaks off: botocore sends no request again once a body has begun."""

NO_CONDITIONS_CODES = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""The codes with which stores without If-None-Match refuse it, if they do not answer 501. Any other 400 may be damage
on the way; after that, a write without the condition could replace what is there."""


class _Object(TypedDict):
    Bucket: str
    Key: str


class _Checksums(TypedDict, total=False):
    ChecksumAlgorithm: Literal["CRC32"]
    ChecksumType: Literal["FULL_OBJECT"]


def open_s3_store(url: str, retries: S3Retries = DEFAULT_RETRIES) -> S3Store:
    """The store at ``s3://bucket/prefix``. No request is sent yet. ``retries``: how long to wait for each attempt.

    Raises:
        ConfigError: the address is not one of S3, or boto3 finds a setting that it cannot use.
    """
    scheme, _, path = url.partition("://")
    bucket, _, prefix = path.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"OUTPUT: found {url!r}, expected s3://bucket/prefix; correct it")
    client = create_client(S3_CONFIG, url, retries)
    return S3Store(client, bucket, f"{re.sub('/+', '/', prefix).strip('/')}/".lstrip("/"))


@dataclass(frozen=True)
class S3Store:
    """A Store in ``bucket``, below ``prefix`` (empty, or ending in a slash)."""

    client: S3Client
    bucket: str
    prefix: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def check(self) -> None:
        with self._errors_translated("list the bucket", self.prefix):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        # To begin an upload and abort it shows that writing is allowed. No reader ever sees it.
        key = f"{self.prefix}write-check"
        with self._errors_translated("write", key):
            upload = self.client.create_multipart_upload(Bucket=self.bucket, Key=key)
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def read(self, key: str) -> bytes | None:
        with self._errors_translated("read", self._key(key)):
            for attempt in range(BODY_ATTEMPTS):
                try:
                    body = self.client.get_object(**self._object(key))["Body"]
                except self.client.exceptions.NoSuchKey:
                    return None
                try:
                    return body.read()
                except (BotoCoreError, HTTPError):
                    if attempt == BODY_ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def write(self, key: str, content: bytes) -> None:
        with self._errors_translated("write", self._key(key)):
            self.client.put_object(**self._object(key), Body=content)

    def create(self, key: str, content: bytes) -> bool:
        with self._errors_translated("create", self._key(key)):
            try:
                self.client.put_object(**self._object(key), Body=content, IfNoneMatch="*")
            except ClientError as error:
                status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
                if status == 412:
                    # botocore's second attempt also gets this, if the first succeeded and its answer was lost.
                    return self.read(key) == content
                if status in (405, 501) or code in NO_CONDITIONS_CODES:
                    self.write(key, content)
                elif status == 409:  # others are creating or deleting it all the time
                    return False
                else:
                    raise
            return True

    def write_stream(self, key: str, chunks: Iterable[bytes], nbytes: int) -> None:
        """By boto3's transfer manager, whose submission thread reads what this thread pulls from ``chunks``."""
        part_nbytes = choose_part_nbytes(nbytes)
        config = TransferConfig(
            multipart_threshold=part_nbytes,
            multipart_chunksize=part_nbytes,
            max_concurrency=PARTS_IN_FLIGHT,
            # boto3 prefers the CRT client if it is installed, which ignores these settings.
            preferred_transfer_client="classic",
        )
        begun = time.monotonic()
        config.max_in_memory_upload_chunks = PARTS_IN_FLIGHT  # TransferConfig() has no argument for it
        with create_transfer_manager(self.client, config) as manager:
            pipe = _ChunkPipe()
            try:
                file = io.BufferedReader(pipe)
                future = manager.upload(file, self.bucket, self._key(key), extra_args=dict(self._checksums()))
                pulled_all = pipe.feed(check_length(chunks, nbytes), future.done)
            except BaseException:
                pipe.stop()  # or the manager would wait for the submission thread
                raise
            with self._errors_translated("write", self._key(key)):
                try:
                    future.result()
                except self.client.exceptions.NoSuchUpload as error:
                    if not (pulled_all and self._is_stored(key, nbytes, time.monotonic() - begun)):
                        raise UploadLost(
                            f"s3://{self.bucket}/{self._key(key)}: the store no longer knows the upload, expected it "
                            "until its end; see which rule of the bucket or which other program aborts uploads, then "
                            "run again"
                        ) from error

    def sizes(self, prefix: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        with self._errors_translated("list the bucket", self.prefix + prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                sizes |= {item["Key"].removeprefix(self.prefix): item["Size"] for item in page.get("Contents", [])}
        return dict(sorted(sizes.items()))

    def delete(self, key: str) -> None:
        with self._errors_translated("delete", self._key(key)):
            self.client.delete_object(**self._object(key))

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        with self._errors_translated("discard unfinished uploads", self.prefix):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self.prefix)
            # The list is read to its end first, because an abort could shift the next pages.
            old = [
                upload
                for page in pages
                for upload in page.get("Uploads", [])
                if is_own_upload(upload["Key"].removeprefix(self.prefix))
                and _age(upload.get("Initiated"), page["ResponseMetadata"]) >= min_age
            ]
            for upload in old:
                with suppress(self.client.exceptions.NoSuchUpload):  # another worker aborted or finished it
                    self._abort_if_idle(upload["Key"], upload["UploadId"], min_age)
            for key in [key for prefix in PROBE_PREFIXES for key in self._old_probes(prefix, min_age)]:
                self.delete(key)

    def _old_probes(self, prefix: str, min_age: float) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        for page in pages:
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self.prefix)
                if is_probe(key) and _age(item.get("LastModified"), page["ResponseMetadata"]) >= min_age:
                    yield key

    def _abort_if_idle(self, key: str, upload_id: str, min_age: float) -> None:
        """Abort an upload if none of its parts arrived within the last ``min_age`` seconds."""
        pages = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
        ages = [
            _age(part.get("LastModified"), page["ResponseMetadata"]) for page in pages for part in page.get("Parts", [])
        ]
        if min(ages, default=min_age) >= min_age:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)

    def _is_stored(self, key: str, nbytes: int, seconds: float) -> bool:
        """Whether an object of this size was stored within the last ``seconds``: the end of an upload whose answer got
        lost is refused when it is sent again."""
        try:
            head = self.client.head_object(**self._object(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        # A store tells times in whole seconds.
        return (
            head["ContentLength"] == nbytes and _age(head.get("LastModified"), head["ResponseMetadata"]) <= seconds + 1
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


def _age(time_of_store: datetime | None, answer: ResponseMetadataTypeDef) -> float:
    """Seconds from a time that the store told to the time of its answer: both by its own clock, not by this machine's.
    0 if it does not say either."""
    now = answer["HTTPHeaders"].get("date")
    return (parsedate_to_datetime(now) - time_of_store).total_seconds() if now and time_of_store else 0.0


class _UploadStopped(Exception):
    """Raised in s3transfer's thread to end the upload."""


class _ChunkPipe(io.RawIOBase):
    """A file that s3transfer's submission thread reads, of chunks that the caller's thread pulls.

    If the submission thread pulled the chunks itself, a signal could not end an upload that waits for the network:
    signals interrupt only the main thread.
    """

    def __init__(self) -> None:
        self._queue: Queue[bytes | None] = Queue(maxsize=1)
        """The next chunk; None after the last one."""
        self._rest = memoryview(b"")
        self._at_end = self._stopped = False

    def feed(self, chunks: Iterable[bytes], upload_ended: Callable[[], bool]) -> bool:
        """Pass on all chunks. Stops early if the upload has ended, that is, failed. Returns whether all were pulled."""
        for chunk in chain(chunks, [None]):
            while not upload_ended():
                with suppress(Full):
                    self._queue.put(chunk, timeout=PIPE_POLL_SECONDS)
                    break
            else:
                self.stop()
                return chunk is None
        return True

    def stop(self) -> None:
        """Raise an exception in the thread that reads the chunks."""
        self._stopped = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Copy bytes of the current chunk into ``buffer``. Returns their number; 0 at the end of the last chunk."""
        while not self._rest and not self._at_end:
            if self._stopped:
                raise _UploadStopped
            with suppress(Empty):
                chunk = self._queue.get(timeout=PIPE_POLL_SECONDS)
                self._rest, self._at_end = memoryview(chunk or b""), chunk is None
        room = memoryview(buffer)
        nbytes = min(len(room), len(self._rest))
        room[:nbytes], self._rest = self._rest[:nbytes], self._rest[nbytes:]
        return nbytes


def choose_part_nbytes(nbytes: int) -> int:
    """The size of an object's parts: ``PART_NBYTES``, or as many MiB as it takes to stay within ``MAX_PARTS`` parts."""
    return max(PART_NBYTES, math.ceil(nbytes / MAX_PARTS / MIB) * MIB)
