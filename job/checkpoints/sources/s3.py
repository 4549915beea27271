"""A checkpoint below a prefix of an S3 bucket. The only module in checkpoints/ that knows boto3."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError

from job.checkpoints.checkpoint import Checkpoint, StoredFile, derived_commit, unusable_name
from job.checkpoints.sources.remote import resuming_fill
from job.checkpoints.transport.bodies import read_body
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy, retry
from job.errors import (
    ConfigError,
    CorruptCheckpoint,
    ModelUnavailable,
    SurveyError,
    TransientError,
    UnsupportedCheckpoint,
)
from job.s3.client import create_client
from job.s3.refusals import READING, S3_ERRORS, S3Error, s3_failure, status_and_code
from job.s3.retries import DEFAULT_RETRIES, S3Retries

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef


class _ListedObject(BaseModel):
    """An object in a listing, with S3's names."""

    Key: str
    Size: NonNegativeInt
    ETag: str = ""
    LastModified: datetime | None = None

    @property
    def content_id(self) -> str | None:
        """What identifies the content: the ETag, or else the date and the size, as on a web server without ETags."""
        if etag := _bare(self.ETag):
            return etag
        return f"{_seconds(self.LastModified)}, {self.Size} bytes" if self.LastModified else None

    def is_in(self, answer: "GetObjectOutputTypeDef") -> bool | None:
        """Whether an answer is of the object that was listed; None if the answer does not tell."""
        if _bare(self.ETag) and _bare(answer.get("ETag", "")):
            return _bare(self.ETag) == _bare(answer["ETag"])
        date = answer.get("LastModified")
        return _seconds(date) == _seconds(self.LastModified) if date and self.LastModified else None


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _seconds(date: datetime) -> str:
    """A date without the milliseconds, which listings have and headers do not."""
    return date.astimezone(UTC).isoformat(timespec="seconds")


_LISTED: Final = TypeAdapter(list[_ListedObject])


def open_s3(
    url: str,
    *,
    read_timeout: float = 30.0,
    retry_policy: RetryPolicy = DEFAULT_RETRY,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
    refusal_waits: tuple[float, ...] = DEFAULT_RETRIES.refusal_waits,
) -> Checkpoint:
    """The checkpoint at ``s3://bucket/prefix``, pinned by its objects' names, sizes and ETags (or dates).

    ``cooldown`` is shared with everyone who asks this store, ``deadline`` with everyone who reads for the model.
    Objects in hidden folders (``.git/…``, ``.cache/…``) are not part of it. ``refusal_waits`` is as in S3Retries.

    Raises:
        ModelUnavailable: the bucket does not exist, has no object below the prefix, or may not be read.
        ConfigError: the address is not an S3 address, or the keys are missing or refused.
        TransientError: the store cannot be reached, or answers 5xx, for longer than the policy waits.
    """
    scheme, _, path = url.partition("://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"{url}: not the address of a checkpoint on S3, expected s3://bucket/prefix; correct it")
    source = f"s3://{bucket}/{prefix}".rstrip("/")
    config = Config(
        connect_timeout=read_timeout,
        read_timeout=read_timeout,
        max_pool_connections=64,  # more than are ever used at once: botocore warns of any beyond
    )
    # After an outage, retry() and read_resuming() try again: botocore does not once a body has begun.
    client = create_client(config, url, S3Retries(outage_waits=(), refusal_waits=refusal_waits))
    below = f"{prefix}/" if prefix else ""
    cooldown, deadline = cooldown or Cooldown(), deadline or Deadline()
    unreachable, server = cooldown.unreachable, client.meta.endpoint_url

    def list_objects() -> dict[str, _ListedObject]:
        unreachable.check(server)
        return _list(client, bucket, below, source)

    def read(file: str, _stored: StoredFile, begin: int, buffer: memoryview) -> Generator[int, None, None]:
        unreachable.check(server)
        return _read(client, bucket, listed[file], begin, buffer, retry_policy, deadline)

    listed = retry(list_objects, retry_policy, cooldown, deadline)
    unreachable.remove(server)
    if not listed:
        raise ModelUnavailable(
            f"{source}: found no object below it, expected config.json and weights; check the address"
        )
    reasons = {name: unusable_name(name) for name in listed}
    files = {name: StoredFile(item.Size, str(item.content_id)) for name, item in listed.items() if not reasons[name]}

    return Checkpoint(
        repo_id=f"local/{source.rpartition('/')[2]}",
        revision=None,
        commit=derived_commit(files),
        source=source,
        files=files,
        fill=resuming_fill(
            read,
            files,
            source,
            retry_policy,
            cooldown,
            deadline,
        ),
        set_aside={name: reason for name, reason in reasons.items() if reason},
    )


def _list(client: "S3Client", bucket: str, below: str, source: str) -> dict[str, _ListedObject]:
    """Every visible object below a prefix, by its name relative to it. Each has a content id."""
    files = {}
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below):
            for item in _LISTED.validate_python(page.get("Contents", [])):
                name = item.Key.removeprefix(below)
                folder_marker = name == "" or name.endswith("/")
                hidden = any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
                if not folder_marker and not hidden:
                    if item.content_id is None:
                        raise UnsupportedCheckpoint(
                            f"{source}: found neither ETag nor LastModified of {name} in the listing, expected one to "
                            "tell whether it changes; use another server, or a copy in a local folder"
                        )
                    files[name] = item
    except (KeyError, ValueError) as error:  # of the check, or of botocore's own parsing
        found = error.errors()[0] if isinstance(error, ValidationError) else {"loc": type(error).__name__, "msg": error}
        raise UnsupportedCheckpoint(
            f"{source}: found a listing that is not S3's ({found['loc']}: {found['msg']}), expected a key and a "
            "size for each object; use another server"
        ) from error
    except S3_ERRORS as error:
        raise _failure(error, source, client.meta.endpoint_url) from error
    return files


@dataclass(frozen=True)
class _Body:
    """The body of an answer, as ``read_body`` reads it."""

    streaming: "StreamingBody"

    def readinto(self, buffer: memoryview, /) -> int:
        return self.streaming.readinto(buffer)  # type: ignore[arg-type]  # boto3-stubs take it for a file

    def shutdown(self) -> None:
        response = self.streaming.__enter__()  # urllib3's; boto3-stubs take it for the body
        response.shutdown()  # type: ignore[attr-defined]


def _read(
    client: "S3Client",
    bucket: str,
    listed: _ListedObject,
    begin: int,
    buffer: memoryview,
    policy: RetryPolicy,
    deadline: Deadline,
) -> Generator[int, None, None]:
    """Read an object's bytes from ``begin`` on into a buffer, as many as one request brings. Yields each piece's size.

    Raises:
        RetryableError: the request failed or broke off, but a later one may succeed.
        CorruptCheckpoint: the object changed since it was listed.
        UnsupportedCheckpoint: the server gives another range than was requested.
    """
    where, end = f"s3://{bucket}/{listed.Key}", begin + len(buffer)
    wanted = f"bytes={begin}-{end - 1}"
    try:
        # A weak ETag matches nothing, and without an ETag there is no condition to make.
        if _bare(listed.ETag) and not listed.ETag.startswith("W/"):
            etag = f'"{_bare(listed.ETag)}"'
            answer = client.get_object(Bucket=bucket, Key=listed.Key, Range=wanted, IfMatch=etag)
        else:
            answer = client.get_object(Bucket=bucket, Key=listed.Key, Range=wanted)
        with closing(answer["Body"]) as body:
            status, content_range = answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ContentRange")
            expected = f"bytes {begin}-{end - 1}/{listed.Size}"
            is_listed = listed.is_in(answer)
            if is_listed is None:
                raise UnsupportedCheckpoint(
                    f"{where}: found neither the ETag nor the date of the listing in an answer, expected one to tell "
                    "whether the object changed; use another server, or a copy in a local folder"
                )
            if not is_listed:  # a server that ignores IfMatch
                raise _changed(where)
            if status != 206 or content_range != expected:
                refusal = UnsupportedCheckpoint(
                    f"{where}: found status {status} with Content-Range {content_range!r}, expected 206 with "
                    f"{expected!r}; the server does not give byte ranges: use another server"
                )
                raise RetryableError.unless_repeated(refusal, explained=False)
            yield from read_body(_Body(body), buffer, where, policy, deadline)
    except S3_ERRORS as error:
        raise _failure(error, where, client.meta.endpoint_url) from error


def _failure(error: S3Error, where: str, server: str) -> SurveyError | RetryableError:
    """The error for a failed request."""
    if isinstance(error, ClientError) and status_and_code(error)[0] in (412, 416):
        return _changed(where)
    failure = s3_failure(error, where, READING)
    if failure.kind == "retryable":
        if failure.tried_again:
            return TransientError(failure.message)
        return RetryableError(failure.found, server=server if isinstance(error, BotoConnectionError) else None)
    return (ConfigError if failure.kind == "setting" else ModelUnavailable)(failure.message)


def _changed(where: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{where}: the object changed while it was read; run again when nothing writes to it")
