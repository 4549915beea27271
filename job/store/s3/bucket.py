"""A bucket below a prefix: the addresses of its keys, the requests that read, and what the errors of requests mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from job.errors import ConfigError, TransientError
from job.s3.client import create_client
from job.s3.refusals import S3_ERRORS, WRITING, WRITING_WITHOUT_CHECKSUMS, s3_failure, status_and_code
from job.s3.retries import DEFAULT_RETRIES, S3Retries
from job.store.s3.content_digests import Evidence, Written, digest_part, encode_crc32, written_at_once
from job.store.store import ListedObject, checked_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

S3_CONFIG: Final = Config(
    connect_timeout=10,
    # Long, because some stores send nothing while they assemble a multipart upload. A server that accepts connections
    # and never answers is given up after six attempts: about six minutes.
    read_timeout=60,
    max_pool_connections=64,  # more than are ever used, so that each is kept open
)

CHECKSUM_HEADER: Final = "x-amz-checksum-crc32"

BODY_ATTEMPTS: Final = 3
"""How often a small object is read whose body breaks off: botocore sends no request again once a body has begun."""


class ObjectAddress(TypedDict):
    """What names an object in a request."""

    Bucket: str
    Key: str


class _Range(TypedDict, total=False):
    Range: str


class Condition(TypedDict, total=False):
    """On what a write depends."""

    IfNoneMatch: str


class BodyChecksum(TypedDict, total=False):
    """The checksum of a request's body."""

    ChecksumCRC32: str


class WholeChecksum(TypedDict, total=False):
    """Asks for a CRC32 of each part, of which the store makes one of the whole object, checked by each download.
    boto3's default has none of the whole."""

    ChecksumAlgorithm: Literal["CRC32"]
    ChecksumType: Literal["FULL_OBJECT"]


class _Request(TypedDict):
    """What boto3 is about to send, as far as it matters here."""

    headers: dict[str, str]
    context: dict[str, object]


@dataclass(frozen=True)
class Bucket:
    """The bucket ``name`` below ``prefix`` (empty, or ending in a slash).

    Every method but ``put`` raises what those of ``Store`` raise.
    """

    client: S3Client
    name: str
    prefix: str
    parts_in_flight: int = 4
    """How many parts of an upload are sent at a time. A part stays in memory until the store has it."""
    evidence: Evidence = "size"
    """By what an object that was written is recognised. ``check_bucket`` finds it out."""
    retries: S3Retries = DEFAULT_RETRIES
    """Those of ``client``."""
    warned: set[str] = field(default_factory=set, compare=False)
    """What was warned of already. Evidence that is among it is believed no more."""

    def url(self, key: str) -> str:
        """The address of a key, or of a prefix, for people."""
        return f"s3://{self.name}/{self.prefix}{key}"

    def address(self, key: str) -> ObjectAddress:
        """What names a key's object in a request."""
        return {"Bucket": self.name, "Key": self.prefix + checked_key(key)}

    @property
    def sends_checksums(self) -> bool:
        """Whether boto3 sends a checksum with each body."""
        # botocore-stubs do not have this setting.
        calculation: str = self.client.meta.config.request_checksum_calculation  # type: ignore[attr-defined]
        return calculation == "when_supported"

    def body_checksum(self, crc32: int) -> BodyChecksum:
        """What tells the store the checksum of a body, if any is sent."""
        return {"ChecksumCRC32": encode_crc32(crc32)} if self.sends_checksums else {}

    @property
    def whole_checksum(self) -> WholeChecksum:
        """What else to pass to the first request of an upload in parts."""
        return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self.sends_checksums else {}

    def without_checksums(self) -> Bucket:
        """The same bucket, to which boto3 sends none."""
        config = S3_CONFIG.merge(Config(request_checksum_calculation="when_required"))
        return replace(self, client=_create_client(config, self.url(""), self.retries))

    def read(self, key: str, begin: int = 0, end: int | None = None) -> bytes | None:
        """The content of a small object, or the bytes from ``begin`` to ``end`` that any has; None if it does not
        exist."""
        options: _Range = {} if end is None else {"Range": f"bytes={begin}-{end - 1}"}
        with self.errors_translated("read", key):
            for attempt in range(BODY_ATTEMPTS):
                try:
                    answer = self.client.get_object(**self.address(key), **options)
                except self.client.exceptions.NoSuchKey:
                    return None
                except ClientError as error:
                    if end is not None and status_and_code(error)[0] == 416:  # it ends before the range begins
                        return b""
                    raise
                body = answer["Body"]
                try:
                    with closing(body):
                        if end is None:
                            return body.read()
                        # A store that ignores a range sends all from the object's begin.
                        is_range = answer.get("ContentRange", "").startswith(f"bytes {begin}-")
                        skipped = 0 if is_range else len(body.read(begin)) if begin else 0
                        return body.read(end - begin) if is_range or skipped == begin else b""
                except (BotoCoreError, HTTPError):
                    if attempt == BODY_ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def head(self, key: str) -> HeadObjectOutputTypeDef | None:
        """What the store tells of an object, or None if it does not exist."""
        with self.errors_translated("look at what was written", key):
            try:
                return self.client.head_object(**self.address(key), ChecksumMode="ENABLED")
            except ClientError as error:
                if status_and_code(error)[0] != 404:
                    raise
                return None

    def listing(self, prefix: str) -> dict[str, ListedObject]:
        """All keys that start with ``prefix``, in alphabetical order, with what is listed of their objects."""
        listing: dict[str, ListedObject] = {}
        with self.errors_translated("list the bucket", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix + prefix)
            try:
                for page in pages:
                    for item in page.get("Contents", []):
                        etag = item.get("ETag", "").strip('"') or None
                        modified = item["LastModified"].timestamp() if "LastModified" in item else None
                        listing[item["Key"].removeprefix(self.prefix)] = ListedObject(item["Size"], etag, modified)
            except (KeyError, ValueError) as error:  # of this, or of botocore's own parsing
                raise ConfigError(
                    f"{self.url(prefix)}: found a listing that is not S3's ({type(error).__name__}: {error}), "
                    "expected a key and a size for each object; use another store"
                ) from error
        return dict(sorted(listing.items()))

    def sizes(self, prefix: str) -> dict[str, int]:
        """The same keys, with the sizes of their objects in bytes."""
        return {key: listed.size for key, listed in self.listing(prefix).items()}

    def put(self, key: str, content: bytes, **condition: Unpack[Condition]) -> Written:
        """Write a small object. Returns what was written. Raises boto3's errors."""
        digest = digest_part(content, with_md5=self.evidence != "CRC32")
        checksum = self.body_checksum(digest.crc32)
        answer = self.client.put_object(**self.address(key), Body=content, **checksum, **condition)
        return written_at_once(digest).answered(answer)

    def shows(self, written: Written) -> bool:
        """Whether the answer to a write showed that the store has what was written."""
        return self.evidence in written.shown_by and self.evidence not in self.warned

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""
        with self.errors_translated("delete", key):
            self.client.delete_object(**self.address(key))

    @contextmanager
    def errors_translated(self, action: str, key: str) -> Iterator[None]:
        """Raise boto3's errors as those of the contract. ``key`` may also be a prefix."""
        where = f"{self.url(key)}: could not {action}"
        try:
            yield
        except S3_ERRORS as error:
            failure = s3_failure(error, where, WRITING if self.sends_checksums else WRITING_WITHOUT_CHECKSUMS)
            raise (TransientError if failure.kind == "retryable" else ConfigError)(failure.message) from error
        except KeyError as error:  # what boto3 needs of an answer, such as the ETag of a part
            raise ConfigError(
                f"{where}: found an answer without {error}, expected that of an S3 store; use another store"
            ) from error

    @contextmanager
    def housekeeping(self, action: str, key: str) -> Iterator[None]:
        """Only warn, once, if the store does not know a request, or forbids it, on which no result hangs."""
        try:
            with self.errors_translated(action, key):
                yield
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, S3_ERRORS) and s3_failure(cause, action, WRITING).kind == "setting":
                raise
            self.warn_once(action, f"{error}; the run goes on without")

    def warn_once(self, what: str, message: str) -> None:
        """Warn, unless it was warned of ``what`` before."""
        if what not in self.warned:
            self.warned.add(what)
            logger.warning("%s", message)


def open_bucket(url: str, retries: S3Retries, parts_in_flight: int) -> Bucket:
    """The bucket and prefix at ``s3://bucket/prefix``. No request is sent yet.

    Raises:
        ConfigError: the address is not one of S3, or boto3 finds a setting that it cannot use.
    """
    scheme, _, path = url.partition("://")
    name, _, prefix = path.partition("/")
    if scheme != "s3" or not name:
        raise ConfigError(f"OUTPUT: found {url!r}, expected s3://bucket/prefix; correct it")
    prefix = f"{re.sub('/+', '/', prefix).strip('/')}/".lstrip("/")
    return Bucket(_create_client(S3_CONFIG, url, retries), name, prefix, parts_in_flight, retries=retries)


def _create_client(config: Config, url: str, retries: S3Retries) -> S3Client:
    client = create_client(config, url, retries)
    client.meta.events.register("before-call.s3", _send_body_as_it_is)
    return client


def _send_body_as_it_is(params: _Request, **_: object) -> None:
    """Let boto3 send a checksum in a header, and the body at once and unchanged.

    Over https, boto3 would send the checksum after the body, in a framing that copies each byte several times, and
    that some stores refuse or store. That is for bodies that can be read only once. Before the body of a file, it would
    ask the store whether to send it, and wait for the answer.
    """
    if CHECKSUM_HEADER in params["headers"]:
        # As boto3 says it of checksums that it computes itself. Over https, the body is then signed by this alone.
        algorithm = {"algorithm": "crc32", "in": "header", "name": CHECKSUM_HEADER}
        params["context"]["checksum"] = {"request_algorithm": algorithm}
    params["headers"].pop("Expect", None)
