"""Publishes into an S3 bucket, with boto3. It does not know what is published. boto3 finds the endpoint, the region and
the credentials (``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``, ``AWS_ACCESS_KEY_ID``, profiles, roles, …)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from job.errors import TransientError
from job.s3.refusals import status_and_code
from job.s3.retries import DEFAULT_RETRIES, S3Retries
from job.store.s3.bucket import Bucket, open_bucket
from job.store.s3.check import check_bucket
from job.store.s3.leftovers import discard_unfinished
from job.store.s3.upload import PART_NBYTES, choose_part_nbytes, upload
from job.store.s3.verify import verify_content
from job.store.store import UNFINISHED_MIN_AGE, Chunk, ListedObject, checked_key, look_again

if TYPE_CHECKING:
    pass

NO_CONDITIONS_CODES = ("InvalidArgument", "InvalidRequest", "NotImplemented")
"""The codes with which stores without If-None-Match refuse it, if they do not answer 501. Any other 400 may be damage
on the way; after that, a write without the condition could replace what is there."""


def open_s3_store(url: str, retries: S3Retries = DEFAULT_RETRIES, parts_in_flight: int = 4) -> S3Store:
    """The store at ``s3://bucket/prefix``. No request is sent yet.

    Args:
        retries: how long to wait for each attempt.
        parts_in_flight: how many parts of an upload to send at a time.

    Raises:
        ConfigError: the address is not one of S3, or boto3 finds a setting that it cannot use.
    """
    return S3Store(open_bucket(url, retries, parts_in_flight))


@dataclass(frozen=True)
class S3Store:
    """A Store in a bucket."""

    bucket: Bucket

    @property
    def parts_in_flight(self) -> int:
        return self.bucket.parts_in_flight

    def url(self, key: str) -> str:
        return self.bucket.url(checked_key(key))

    def path(self, key: str) -> None:  # noqa: ARG002 - the contract's
        return None

    def check(self) -> S3Store:
        return S3Store(check_bucket(self.bucket))

    def read(self, key: str) -> bytes | None:
        return self.bucket.read(key)

    def read_begin(self, key: str, nbytes: int) -> bytes:
        return self.read_range(key, 0, nbytes)

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        return self.bucket.read(key, begin, end) or b""

    def write(self, key: str, content: bytes) -> None:
        def put() -> bytes | None:
            with self.bucket.errors_translated("write", key):
                written = self.bucket.put(key, content)
            return content if self.bucket.shows(written) else self.bucket.read(key)

        found = look_again(put, lambda found: found == content)
        if found != content:
            raise TransientError(
                f"{self.url(key)}: found {'nothing' if found is None else f'{len(found):,} other bytes'}, expected "
                f"{len(content):,} bytes, as written; the store lost or changed them: run again, and if that does not "
                "help, use another store"
            )

    def create(self, key: str, content: bytes) -> bool:
        with self.bucket.errors_translated("create", key):
            try:
                self.bucket.put(key, content, IfNoneMatch="*")
            except ClientError as error:
                status, code = status_and_code(error)
                if status == 412:
                    # A second attempt also gets this, if the first succeeded and its answer was lost.
                    return self.read(key) == content
                if status in (405, 501) or code in NO_CONDITIONS_CODES:
                    self.write(key, content)
                elif status == 409:  # others are creating or deleting it all the time
                    return False
                else:
                    raise
            return True

    def write_stream(self, key: str, chunks: Iterable[Chunk], nbytes: int) -> None:
        part_nbytes = None if nbytes < PART_NBYTES else choose_part_nbytes(nbytes, self.parts_in_flight)
        written = upload(self.bucket, key, chunks, nbytes, part_nbytes)
        verify_content(self.bucket, key, written)

    def listing(self, prefix: str) -> dict[str, ListedObject]:
        return self.bucket.listing(prefix)

    def sizes(self, prefix: str) -> dict[str, int]:
        return self.bucket.sizes(prefix)

    def delete(self, key: str) -> None:
        self.bucket.delete(key)

    def discard_unfinished(self, min_age: float = UNFINISHED_MIN_AGE) -> None:
        discard_unfinished(self.bucket, min_age)
