"""Reads surveys from S3, by ranges. The only module that imports boto3, which itself finds endpoint and keys."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NoReturn

from black_hole_survey.errors import CorruptArtifact, MissingPackage, UnreadableStore
from black_hole_survey.manifest import checked_key
from black_hole_survey.store import Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

ADDRESS: Final = re.compile(r"s3://([^/]+)/?(.*?)/*")
MAX_RANGE_NBYTES: Final = 8 << 20
"""One connection to S3 gives about 90 MB/s, so a large tensor comes over several at once, in pieces of this size."""
MAX_GAP_NBYTES: Final = 1 << 19
"""Ranges that are no farther apart come by one request, and what lies between them is dropped: a request takes boto3
about 6 ms of processor time, in which one connection gives that much. 10,000 rows of 5 kB, scattered over 0.8 GB,
came in 4.5 s instead of 62 s; 2,000 in 4.6 s instead of 10 s."""
CONNECTIONS: Final = 16
ATTEMPTS: Final = 4
"""How often a range is asked for if its body breaks off; boto3 itself sends only failed requests again."""
CHUNK_NBYTES: Final = 1 << 20
MISSING: Final = ("NoSuchKey", "404")


@dataclass(frozen=True)
class S3Store:
    """A Store below ``prefix`` in a bucket. If boto3 finds no keys, requests are not signed, for public buckets."""

    bucket: str
    prefix: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._object(key)}"

    def list_keys(self, prefix: str = "") -> list[str]:
        begin = f"{self.prefix}/" if self.prefix else ""
        client = self._client  # before what follows, which needs boto3 to name its errors
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=begin + prefix)
            found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        except _s3_errors() as error:
            self._refuse(self.url(prefix), error)
        return sorted(key.removeprefix(begin) for key in found)

    def read(self, key: str) -> bytes | None:
        client = self._client
        try:
            return client.get_object(Bucket=self.bucket, Key=self._checked(key))["Body"].read()
        except _s3_errors() as error:
            if _code(error) in MISSING:
                return None
            self._refuse(self.url(key), error)

    def size(self, key: str) -> int | None:
        client = self._client
        try:
            return client.head_object(Bucket=self.bucket, Key=self._checked(key))["ContentLength"]
        except _s3_errors() as error:
            if _code(error) in MISSING:
                return None
            self._refuse(self.url(key), error)

    def load(self, key: str, nbytes: int) -> memoryview:
        content = memoryview(bytearray(nbytes))
        self.fill(key, nbytes, [Range(0, content)])
        return content

    def fill(self, key: str, nbytes: int, ranges: Sequence[Range]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        pieces = [
            Range(each.begin + begin, each.target[begin : begin + MAX_RANGE_NBYTES])
            for each in ranges
            for begin in range(0, len(each.target), MAX_RANGE_NBYTES)
        ]
        spans = list(_join_near(pieces))
        client = self._client  # now, because threads may not make it at once
        with ThreadPoolExecutor(min(CONNECTIONS, max(1, len(spans)))) as pool:
            futures = [pool.submit(self._fill_span, client, key, nbytes, span) for span in spans]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def chunks(self, key: str) -> Iterator[bytes]:
        client = self._client
        try:
            body = client.get_object(Bucket=self.bucket, Key=self._checked(key))["Body"]
            yield from body.iter_chunks(CHUNK_NBYTES)
        except _s3_errors() as error:
            self._refuse(self.url(key), error)

    @cached_property
    def _client(self) -> S3Client:
        try:
            import boto3
            from botocore import UNSIGNED
            from botocore.config import Config
        except ImportError as error:
            raise MissingPackage(f"s3://{self.bucket}: found no boto3, expected it; pip install boto3") from error
        config = Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, max_pool_connections=CONNECTIONS)
        setting_errors: tuple[type[Exception], ...] = (
            *_s3_errors(),
            ValueError,
        )  # botocore raises ValueError for an invalid endpoint
        try:
            session = boto3.Session()
            if session.get_credentials() is None:
                config = config.merge(Config(signature_version=UNSIGNED))
            return session.client("s3", config=config)
        except setting_errors as error:
            self._refuse(f"s3://{self.bucket}", error)

    def _fill_span(self, client: S3Client, key: str, nbytes: int, span: Sequence[Range]) -> None:
        """Read ranges that lie near each other by one request, in which what lies between them comes too."""
        if len(span) == 1:
            self._fill_piece(client, key, nbytes, span[0])
            return
        begin = span[0].begin
        content = memoryview(bytearray(_end(span[-1]) - begin))
        self._fill_piece(client, key, nbytes, Range(begin, content))
        for each in span:
            each.target[:] = content[each.begin - begin : _end(each) - begin]

    def _fill_piece(self, client: S3Client, key: str, nbytes: int, piece: Range) -> None:
        """Read one range. The answer has to say that it is this range of a file of this size."""
        last = piece.begin + len(piece.target) - 1
        expected = f"bytes {piece.begin}-{last}/{nbytes}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = client.get_object(
                    Bucket=self.bucket, Key=self._checked(key), Range=f"bytes={piece.begin}-{last}"
                )
                found = answer.get("ContentRange")
                with closing(answer["Body"]) as body:
                    if found != expected:
                        raise CorruptArtifact(
                            f"{self.url(key)}: found the range {found!r}, expected {expected!r}; publish the survey "
                            "again, or find out what stands between"
                        )
                    if _read_into(body, piece.target):
                        return
            except _s3_errors() as error:
                if _code(error) in (*MISSING, "InvalidRange", "416"):
                    raise CorruptArtifact(
                        f"{self.url(key)}: found {_code(error)}, expected a file of {nbytes:,} bytes; publish the "
                        "survey again"
                    ) from error
                if _code(error) or attempt == ATTEMPTS:  # a refusal, which boto3 has tried again already
                    self._refuse(self.url(key), error)
        raise UnreadableStore(
            f"{self.url(key)}: found {ATTEMPTS} answers cut short, expected {expected}; try again later"
        )

    def _object(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _checked(self, key: str) -> str:
        return self._object(checked_key(key, f"s3://{self.bucket}/{self.prefix}"))

    def _refuse(self, where: str, error: Exception) -> NoReturn:
        raise UnreadableStore(
            f"{where}: found {_code(error) or type(error).__name__} ({error}), expected to read it; check the address, "
            "AWS_ENDPOINT_URL, AWS_PROFILE and the keys"
        ) from error


def parse_address(address: str) -> S3Store:
    """The store that ``s3://bucket/prefix`` names. Sends no request."""
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise UnreadableStore(f"{address}: found no bucket in it, expected s3://bucket/prefix; correct it")
    return S3Store(parts[1], parts[2])


def _end(piece: Range) -> int:
    return piece.begin + len(piece.target)


def _join_near(pieces: Iterable[Range]) -> Iterator[list[Range]]:
    """Ascending ranges, those together that one request is to bring."""
    span: list[Range] = []
    for piece in pieces:
        is_near = span and piece.begin - _end(span[-1]) <= MAX_GAP_NBYTES
        if span and not (is_near and _end(piece) - span[0].begin <= MAX_RANGE_NBYTES):
            yield span
            span = []
        span.append(piece)
    if span:
        yield span


def _read_into(body: StreamingBody, target: memoryview) -> bool:
    """Read a body into a buffer. Returns whether it filled the buffer."""
    end = 0
    for chunk in body.iter_chunks(CHUNK_NBYTES):
        target[end : end + len(chunk)] = chunk
        end += len(chunk)
    return end == len(target)


def _s3_errors() -> tuple[type[Exception], ...]:
    """What a request can raise. urllib3's errors come from bodies."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, ClientError, HTTPError


def _code(error: Exception) -> str:
    """The code of a store's refusal; empty if it is none."""
    response: dict[str, dict[str, str]] = getattr(error, "response", {})
    return response.get("Error", {}).get("Code", "")
