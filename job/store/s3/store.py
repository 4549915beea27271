"""Publishes into an S3 bucket, with boto3. It does not know what is published. boto3 finds the endpoint, the region and
the credentials (``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``, ``AWS_ACCESS_KEY_ID``, profiles, roles, …)."""

from __future__ import annotations

import io
import logging
import math
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from job.errors import ConfigError, TransientError, UploadLost
from job.s3.client import (
    CHECKSUM_SETTING,
    S3_ERRORS,
    WRITING,
    WRITING_WITHOUT_CHECKSUMS,
    checksum_setting,
    create_client,
    may_be_checksum,
    s3_failure,
)
from job.s3.retries import DEFAULT_RETRIES, S3Retries
from job.store.s3.content_digests import ContentDigest, Evidence, Written, encode_crc32, matching_evidence
from job.store.store import (
    LATE_SECONDS,
    PROBE_PREFIXES,
    RACERS,
    UNFINISHED_MIN_AGE,
    check_length,
    checked_key,
    is_own_upload,
    is_probe,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ResponseMetadataTypeDef

logger = logging.getLogger(__name__)

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
    max_pool_connections=max(PARTS_IN_FLIGHT + 1, RACERS),
)
WITHOUT_CHECKSUMS: Final = Config(request_checksum_calculation="when_required")

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
    return S3Store(client, bucket, f"{re.sub('/+', '/', prefix).strip('/')}/".lstrip("/"), retries=retries)


class _OtherContent(ConfigError):
    """A store gave back other bytes than it was given."""


@dataclass(frozen=True)
class S3Store:
    """A Store in ``bucket``, below ``prefix`` (empty, or ending in a slash)."""

    client: S3Client
    bucket: str
    prefix: str
    evidence: Evidence = "size"
    """By what an object that was written is recognised. ``check`` finds it out."""
    retries: S3Retries = DEFAULT_RETRIES
    _warned: set[str] = field(default_factory=set, compare=False)
    """What was warned of already."""

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def check(self) -> S3Store:
        """Write a few bytes, read them back, compare and delete them.

        The store that is returned knows what an object's content is recognised by. If the check fails, and succeeds
        without checksums, it sends none, unless the environment demands them.
        """
        with self._errors_translated("list the bucket", self.prefix):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        try:
            return self._try_writing()
        except (ConfigError, TransientError) as error:
            if not self._sends_checksums or not (isinstance(error, _OtherContent) or may_be_checksum(error.__cause__)):
                raise
            found, _, _ = str(error).partition(", expected ")
        config, where = S3_CONFIG.merge(WITHOUT_CHECKSUMS), f"s3://{self.bucket}/{self.prefix}"
        without_checksums = create_client(config, where, self.retries)
        store = replace(self, client=without_checksums)._try_writing()
        if checksum_setting() is not None:
            raise ConfigError(
                f"{found}, and not so without checksums; {CHECKSUM_SETTING} is when_supported, expected when_required "
                "for this store; set that, or nothing"
            )
        message = "%s, and not so without checksums: they are not sent in this run, as if %s were when_required"
        logger.warning(message, found, CHECKSUM_SETTING)
        return store

    def _try_writing(self) -> S3Store:
        """Write an object at once and one in parts. Returns the store with what it tells of the content of both."""
        told = self._try_object(None) & self._try_object(PART_NBYTES)
        evidence: Evidence = "CRC32" if "CRC32" in told else "ETag" if "ETag" in told else "size"
        logger.info("s3://%s/%s: what is written is recognised by its %s", self.bucket, self.prefix, evidence)
        return replace(self, evidence=evidence)

    def _try_object(self, part_nbytes: int | None) -> set[Evidence]:
        """Write an object, read it back, compare, list and delete it. Returns what the store tells of its content.

        Raises:
            TransientError: there is no such object, or it is not listed.
            ConfigError: its content is not what was written; or the store refuses a request.
        """
        key = f"write-check-{secrets.token_hex(8)}"
        content = self.url(key).encode()
        try:
            written = self._upload(key, [content], part_nbytes)
            found = self._read_late(key)
            if found != content:
                raise _OtherContent(
                    f"{self.url(key)}: found {len(found):,} bytes that begin with {found[:24]!r}, expected the "
                    f"{len(content):,} bytes that were written; use another store, or correct what lies before it"
                )
            self._check_listed(key, len(content))
            head = self._head(key)
            told = set[Evidence]() if head is None else matching_evidence(head, written)
        except BaseException:
            with suppress(*S3_ERRORS):  # the first error counts
                self.client.delete_object(**self._object(key))
            raise
        with self._housekeeping("delete", self._key(key)):
            self.client.delete_object(**self._object(key))
        return told

    def _read_late(self, key: str) -> bytes:
        """The content of an object that was just written. Raises TransientError if there is none."""
        for seconds in (*LATE_SECONDS, 0.0):
            if (content := self.read(key)) is not None:
                return content
            time.sleep(seconds)
        raise TransientError(
            f"{self.url(key)}: found nothing, expected an object that was just written; check the store, then run again"
        )

    def _check_listed(self, key: str, nbytes: int) -> None:
        """Check that a listing shows an object with its size: a later run finds surveys by it."""
        for seconds in (*LATE_SECONDS, 0.0):
            size = self.sizes(key).get(key)
            if size == nbytes:
                return
            time.sleep(seconds)
        raise TransientError(
            f"{self.url(key)}: found {'nothing' if size is None else f'{size:,} bytes'} in the listing, expected "
            f"{nbytes:,} bytes that were just written; check the store"
        )

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
        for seconds in (*LATE_SECONDS, 0.0):
            with self._errors_translated("write", self._key(key)):
                self.client.put_object(**self._object(key), Body=content)
            found = self.read(key)
            if found == content:
                return
            # Written again after a while, which differs so that two workers do not replace each other's for ever.
            time.sleep(seconds * (0.5 + secrets.randbelow(100) / 100))
        raise TransientError(
            f"{self.url(key)}: found {'nothing' if found is None else f'{len(found):,} other bytes'}, expected "
            f"{len(content):,} bytes, as written; the store lost or changed them: run again, and if that does not "
            "help, use another store"
        )

    def create(self, key: str, content: bytes) -> bool:
        with self._errors_translated("create", self._key(key)):
            try:
                self.client.put_object(**self._object(key), Body=content, IfNoneMatch="*")
            except ClientError as error:
                status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"].get("Code")
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
        part_nbytes = None if nbytes < PART_NBYTES else choose_part_nbytes(nbytes)
        self._check_stored(key, self._upload(key, check_length(chunks, nbytes), part_nbytes))

    def _upload(self, key: str, chunks: Iterable[bytes], part_nbytes: int | None) -> Written:
        """Write an object in parts of ``part_nbytes``; if that is None, at once, and it has less than ``PART_NBYTES``.

        By boto3's transfer manager, whose submission thread reads what this thread pulls from ``chunks``.
        """
        config = TransferConfig(
            multipart_threshold=1 if part_nbytes else PART_NBYTES,
            multipart_chunksize=part_nbytes or PART_NBYTES,
            max_concurrency=PARTS_IN_FLIGHT,
            # boto3 prefers the CRT client if it is installed, which ignores these settings.
            preferred_transfer_client="classic",
        )
        config.max_in_memory_upload_chunks = PARTS_IN_FLIGHT  # TransferConfig() has no argument for it
        digest = ContentDigest(part_nbytes, with_etag=self.evidence != "CRC32")
        with create_transfer_manager(self.client, config) as manager:
            pipe = _ChunkPipe(digest)
            try:
                file = io.BufferedReader(pipe)
                future = manager.upload(file, self.bucket, self._key(key), extra_args=dict(self._checksums()))
                pipe.feed(chunks, future.done)
            except BaseException:
                pipe.stop()  # or the manager would wait for the submission thread
                raise
            with self._errors_translated("write", self._key(key)):
                try:
                    future.result()
                except ClientError as error:
                    # botocore's second attempt gets this, if the first one succeeded and its answer was lost.
                    if error.response["Error"].get("Code") != "NoSuchUpload":
                        raise
                    completed = error.operation_name == "CompleteMultipartUpload"
                    if not completed or self.evidence == "size" or self._difference(key, digest.written()):
                        raise UploadLost(
                            f"{self.url(key)}: the store no longer knows the upload, expected it until its end; see "
                            "which rule of the bucket or which other program aborts uploads, then run again"
                        ) from error
        return digest.written()

    def _check_stored(self, key: str, written: Written) -> None:
        """Check that an object is what was written. An answer of 200 alone does not show it.

        Raises:
            TransientError: there is no such object, or it has another size or content.
        """
        for seconds in (*LATE_SECONDS, 0.0):
            found = self._difference(key, written)
            if found is None:
                return
            time.sleep(seconds)
        if found == "other bytes" and self._read_crc32(key) == written.crc32:
            # Some stores tell another CRC32 or ETag than they should. The bytes decide.
            message = "%s: found another %s than that of its bytes, which are right; from now on, sizes are compared"
            self._warn_once(self.evidence, message % (self.url(key), self.evidence))
            return
        raise TransientError(
            f"{self.url(key)}: found {found}, expected {written.nbytes:,} bytes with the CRC32 {written.crc32}, as "
            "written; the store lost or changed them: run again, and if that does not help, use another store"
        )

    def _difference(self, key: str, written: Written) -> str | None:
        """What is found in place of what was written; None if the store tells no difference."""
        head = self._head(key)
        if head is None:
            return "nothing"
        if head.get("ContentLength") != written.nbytes:
            return f"{head.get('ContentLength', 0):,} bytes"
        known = self.evidence != "size" and self.evidence not in self._warned
        return "other bytes" if known and self.evidence not in matching_evidence(head, written) else None

    def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        """What the store tells of an object; None if there is none."""
        with self._errors_translated("look at what was written", self._key(key)):
            try:
                return self.client.head_object(**self._object(key), ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                return None

    def _read_crc32(self, key: str) -> str:
        """The CRC32 of an object's bytes, which are read again."""
        crc32 = 0
        with self._errors_translated("read", self._key(key)):
            for chunk in self.client.get_object(**self._object(key))["Body"].iter_chunks(MIB):
                crc32 = zlib.crc32(chunk, crc32)
        return encode_crc32(crc32)

    def sizes(self, prefix: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        where = self.prefix + prefix
        with self._errors_translated("list the bucket", where):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=where)
            try:
                for page in pages:
                    sizes |= {item["Key"].removeprefix(self.prefix): item["Size"] for item in page.get("Contents", [])}
            except (KeyError, ValueError) as error:  # of this, or of botocore's own parsing
                raise ConfigError(
                    f"s3://{self.bucket}/{where}: found a listing that is not S3's ({type(error).__name__}: {error}), "
                    "expected a key and a size for each object; use another store"
                ) from error
        return dict(sorted(sizes.items()))

    def delete(self, key: str) -> None:
        with self._errors_translated("delete", self._key(key)):
            self.client.delete_object(**self._object(key))

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        with self._housekeeping("discard unfinished uploads", self.prefix):
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

    def _key(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _object(self, key: str) -> _Object:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    @property
    def _sends_checksums(self) -> bool:
        # botocore-stubs do not have this setting.
        calculation: str = self.client.meta.config.request_checksum_calculation  # type: ignore[attr-defined]
        return calculation == "when_supported"

    def _checksums(self) -> _Checksums:
        """The checksums to send: a CRC of each part, which add up to one of the whole object, checked by each download.

        boto3's default has no CRC of the whole object. ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` turns both
        off, for stores that know neither.
        """
        return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._sends_checksums else {}

    @contextmanager
    def _errors_translated(self, action: str, key: str) -> Iterator[None]:
        """Turn boto3's errors into those of the writing contract."""
        where = f"s3://{self.bucket}/{key}: could not {action}"
        try:
            yield
        except S3_ERRORS as error:
            failure = s3_failure(error, where, WRITING if self._sends_checksums else WRITING_WITHOUT_CHECKSUMS)
            raise (TransientError if failure.kind == "retryable" else ConfigError)(failure.message) from error
        except KeyError as error:  # what boto3 needs of an answer, such as the ETag of a part
            raise ConfigError(
                f"{where}: found an answer without {error}, expected that of an S3 store; use another store"
            ) from error

    @contextmanager
    def _housekeeping(self, action: str, key: str) -> Iterator[None]:
        """Only warn, once, if the store does not know a request, or forbids it, on which no result hangs."""
        try:
            with self._errors_translated(action, key):
                yield
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, S3_ERRORS) and s3_failure(cause, action, WRITING).kind == "setting":
                raise
            self._warn_once(action, f"{error}; the run goes on without")

    def _warn_once(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("%s", message)


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

    def __init__(self, digest: ContentDigest) -> None:
        self._digest = digest
        self._queue: Queue[bytes | None] = Queue(maxsize=1)
        """The next chunk; None after the last one."""
        self._rest = memoryview(b"")
        self._at_end = self._stopped = False

    def feed(self, chunks: Iterable[bytes], upload_ended: Callable[[], bool]) -> None:
        """Pass on all chunks. Stops early if the upload has ended, that is, failed."""
        for chunk in chain(chunks, [None]):
            while not upload_ended():
                with suppress(Full):
                    self._queue.put(chunk, timeout=PIPE_POLL_SECONDS)
                    break
            else:
                self.stop()
                return

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
                self._digest.update(chunk or b"")
        room = memoryview(buffer)
        nbytes = min(len(room), len(self._rest))
        room[:nbytes], self._rest = self._rest[:nbytes], self._rest[nbytes:]
        return nbytes


def choose_part_nbytes(nbytes: int) -> int:
    """The size of an object's parts: ``PART_NBYTES``, or as many MiB as it takes to stay within ``MAX_PARTS`` parts."""
    return max(PART_NBYTES, math.ceil(nbytes / MAX_PARTS / MIB) * MIB)
