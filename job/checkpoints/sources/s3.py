"""A checkpoint below a prefix of an S3 bucket. The only module in checkpoints/ that knows boto3."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated, Final

from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import BaseModel, Field, NonNegativeInt, TypeAdapter, ValidationError

from job.checkpoints.checkpoint import Checkpoint, StoredFile, derived_commit, unusable_name
from job.checkpoints.sources.remote import resuming_fetch
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy, retry
from job.errors import (
    ConfigError,
    CorruptCheckpoint,
    ModelUnavailable,
    SurveyError,
    TransientError,
    UnsupportedCheckpoint,
)
from job.s3_client import READING, S3_ERRORS, S3Error, create_client, s3_failure
from job.s3_retries import DEFAULT_RETRIES, S3Retries

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE_NBYTES = 1 << 18


class _ListedObject(BaseModel):
    """An object in a listing, with S3's names."""

    Key: str
    Size: NonNegativeInt
    ETag: Annotated[str, Field(pattern='[^"]')]


_LISTED: Final = TypeAdapter(list[_ListedObject])


def open_s3(
    url: str,
    *,
    read_timeout: float = 30.0,
    retry_policy: RetryPolicy = DEFAULT_RETRY,
    refusal_waits: tuple[float, ...] = DEFAULT_RETRIES.refusal_waits,
) -> Checkpoint:
    """The checkpoint at ``s3://bucket/prefix``, pinned by its objects' names, sizes and ETags.

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
    listed = retry(lambda: _list(client, bucket, below, source), retry_policy)
    if not listed:
        raise ModelUnavailable(
            f"{source}: found no object below it, expected config.json and weights; check the address"
        )
    reasons = {name: unusable_name(name) for name in listed}
    files = {name: stored for name, stored in listed.items() if not reasons[name]}

    return Checkpoint(
        repo_id=f"local/{source.rpartition('/')[2]}",
        revision=None,
        commit=derived_commit(files),
        source=source,
        files=files,
        fetch=resuming_fetch(
            lambda file, stored, begin, end: _read(client, bucket, below + file, stored, begin, end),
            files,
            source,
            retry_policy,
        ),
        set_aside={name: reason for name, reason in reasons.items() if reason},
    )


def _list(client: "S3Client", bucket: str, below: str, source: str) -> dict[str, StoredFile]:
    """Every visible object below a prefix, by its name relative to it."""
    files = {}
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below):
            for item in _LISTED.validate_python(page.get("Contents", [])):
                name = item.Key.removeprefix(below)
                folder_marker = name == "" or name.endswith("/")
                hidden = any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
                if not folder_marker and not hidden:
                    files[name] = StoredFile(item.Size, item.ETag.strip('"'))
    except (KeyError, ValueError) as error:  # of the check, or of botocore's own parsing
        found = error.errors()[0] if isinstance(error, ValidationError) else {"loc": type(error).__name__, "msg": error}
        raise UnsupportedCheckpoint(
            f"{source}: found a listing that is not S3's ({found['loc']}: {found['msg']}), expected a key, size and "
            "ETag for each object; use another server"
        ) from error
    except S3_ERRORS as error:
        raise _failure(error, source) from error
    return files


def _read(
    client: "S3Client", bucket: str, key: str, stored: StoredFile, begin: int, end: int
) -> Generator[bytes, None, None]:
    """Bytes ``begin`` to ``end`` of an object in pieces, as many as one request brings.

    Raises:
        RetryableError: the request failed or broke off, but a later one may succeed.
        CorruptCheckpoint: the object changed since it was listed.
        UnsupportedCheckpoint: the server gives another range than was requested.
    """
    where = f"s3://{bucket}/{key}"
    try:
        answer = client.get_object(
            Bucket=bucket, Key=key, Range=f"bytes={begin}-{end - 1}", IfMatch=f'"{stored.content_id}"'
        )
        body = answer["Body"]
        try:
            status, content_range = answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ContentRange")
            expected = f"bytes {begin}-{end - 1}/{stored.size}"
            if answer.get("ETag", "").strip('"') != stored.content_id:  # a server that ignores IfMatch
                raise _changed(where)
            if status != 206 or content_range != expected:
                raise UnsupportedCheckpoint(
                    f"{where}: found status {status} with Content-Range {content_range!r}, expected 206 with "
                    f"{expected!r}; the server does not give byte ranges: use another server"
                )
            yield from body.iter_chunks(_PIECE_NBYTES)
        finally:
            body.close()
    except S3_ERRORS as error:
        raise _failure(error, where) from error


def _failure(error: S3Error, where: str) -> SurveyError | RetryableError:
    """The error for a failed request."""
    if isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] in (412, 416):
        return _changed(where)
    failure = s3_failure(error, where, READING)
    if failure.kind == "retryable":
        return TransientError(failure.message) if failure.tried_again else RetryableError(failure.found)
    return (ConfigError if failure.kind == "setting" else ModelUnavailable)(failure.message)


def _changed(where: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{where}: the object changed while it was read; run again when nothing writes to it")
