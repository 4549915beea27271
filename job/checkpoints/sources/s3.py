"""A checkpoint below a prefix of an S3 bucket. Of this room, the only module that knows boto3; boto3 finds its keys."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_range, derived_commit
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy, read_resuming, retry
from job.errors import (
    ConfigError,
    CorruptCheckpoint,
    ModelUnavailable,
    SurveyError,
    UnsupportedCheckpoint,
    without_credentials,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE_NBYTES = 1 << 18
_WRONG_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
}
_TRANSIENT = {
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "503",
    "500",
    "429",
}


def open_s3(url: str, *, read_timeout: float = 30.0, retry_policy: RetryPolicy = DEFAULT_RETRY) -> Checkpoint:
    """The checkpoint at ``s3://bucket/prefix``, pinned by its objects' names, sizes and ETags.

    Objects in hidden folders (``.git/…``, ``.cache/…``) are not part of it.

    Raises:
        ModelUnavailable: there is no such bucket, no object below the prefix, or they may not be read.
        ConfigError: the address is none, or the keys are missing or refused.
        TransientError: the store cannot be reached, or answers 5xx, for longer than the policy waits.
    """
    scheme, _, path = url.partition("://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"{url}: not the address of a checkpoint on S3, s3://bucket/prefix was expected; correct it")
    source = f"s3://{bucket}/{prefix}".rstrip("/")
    client = _client(url, read_timeout)
    below = f"{prefix}/" if prefix else ""
    files = retry(lambda: _list(client, bucket, below, source), retry_policy)
    if not files:
        raise ModelUnavailable(
            f"{source}: no object below it, config.json and weights were expected; check the address"
        )

    def fetch(file: str, begin: int, end: int) -> bytes:
        stored = check_range(files, source, file, begin, end)
        return read_resuming(
            lambda position, end: _read(client, bucket, below + file, stored, position, end),
            begin,
            end,
            where=f"{source}/{file}",
            policy=retry_policy,
        )

    return Checkpoint(
        repo_id=f"local/{source.rpartition('/')[2]}",
        revision=None,
        commit=derived_commit(files),
        source=source,
        files=files,
        fetch=fetch,
    )


def _client(url: str, read_timeout: float) -> "S3Client":
    config = Config(
        connect_timeout=read_timeout,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 1},  # the retries are ours: botocore's end where the body begins
        max_pool_connections=64,  # more than are ever in flight: what exceeds it is closed, with a warning
    )
    try:
        return boto3.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # a ValueError is how botocore refuses an endpoint's syntax
        raise ConfigError(
            f"{url}: {without_credentials(str(error))}; correct the AWS_… settings, or the profile they name"
        ) from error


def _list(client: "S3Client", bucket: str, below: str, source: str) -> dict[str, StoredFile]:
    """Every visible object below a prefix, by its name relative to it."""
    files = {}
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below):
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(below)
                folder_marker = name == "" or name.endswith("/")
                hidden = any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
                if not folder_marker and not hidden:
                    files[name] = StoredFile(item["Size"], item["ETag"].strip('"'))
    except (ClientError, BotoCoreError, HTTPError) as error:
        raise _failure(error, source) from error
    return files


def _read(
    client: "S3Client", bucket: str, key: str, stored: StoredFile, begin: int, end: int
) -> Generator[bytes, None, None]:
    """Bytes ``begin`` to ``end`` of an object that must still be the one that was listed, as far as one request goes.

    Raises:
        RetryableError: the request failed, or broke off, in a way that a later one may not.
        CorruptCheckpoint: the object changed.
        UnsupportedCheckpoint: the server gives another range than was asked for.
    """
    where = f"s3://{bucket}/{key}"
    asked = f"bytes={begin}-{end - 1}"
    try:
        answer = client.get_object(Bucket=bucket, Key=key, Range=asked, IfMatch=f'"{stored.content_id}"')
        body = answer["Body"]
        try:
            status, stated = answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ContentRange")
            if answer["ETag"].strip('"') != stored.content_id:  # a server that ignores IfMatch
                raise _changed(where)
            if status != 206 or stated != f"bytes {begin}-{end - 1}/{stored.size}":
                raise UnsupportedCheckpoint(
                    f"{where}: status {status} with Content-Range {stated!r}, 206 with {asked!r} of {stored.size} was "
                    "expected; the server does not give byte ranges: use another"
                )
            yield from body.iter_chunks(_PIECE_NBYTES)
        finally:
            body.close()
    except (ClientError, BotoCoreError, HTTPError) as error:
        raise _failure(error, where) from error


def _failure(error: ClientError | BotoCoreError | HTTPError, where: str) -> SurveyError | RetryableError:
    """What a failed request stands for. An answer's own words are left out but for its code."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return ConfigError(f"{where}: no S3 keys were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | HTTPError):
        return RetryableError(f"{where}: {type(error).__name__}")
    if not isinstance(error, ClientError):
        return ConfigError(f"{where}: {type(error).__name__}; check the AWS settings")
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code == "PreconditionFailed" or status == 412:
        return _changed(where)
    if code in _TRANSIENT or status >= 500 or status == 429:
        return RetryableError(f"{where}: {code} (status {status})")
    if code in _WRONG_KEYS:
        return ConfigError(f"{where}: the store refuses the S3 keys ({code}); check AWS_ACCESS_KEY_ID and its secret")
    if code == "InvalidRange" or status == 416:
        return _changed(where)
    advice = "these keys may not read it" if status == 403 else "check that it exists"
    return ModelUnavailable(f"{where}: {code} (status {status}), a readable object was expected; {advice}")


def _changed(where: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{where}: it changed while it was read; run again when nothing writes to it")
