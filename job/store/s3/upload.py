"""Writes an object at once, or in parts of which several are sent at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import LifoQueue
from typing import IO, TYPE_CHECKING, Final, cast

from botocore.exceptions import ClientError

from job.errors import UploadLost
from job.s3.refusals import S3_ERRORS, status_and_code
from job.store.s3.bucket import Bucket
from job.store.s3.content_digests import PartDigest, Written, written_in_parts
from job.store.s3.part import Part
from job.store.s3.verify import difference
from job.store.store import Chunk, check_length

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB: Final = 1 << 20
PART_NBYTES: Final = 10 * MIB
"""Size of a part, at most. Over a connection with 20 MB/s and 50 ms, a part of 8 MiB takes 12 % longer than its bytes,
one of 10 MiB 9 %."""
MIN_PART_NBYTES: Final = 5 * MIB
MAX_PARTS: Final = 10_000
"""What S3 allows of an upload: the size of each part but the last one, and the number of parts
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""


def choose_part_nbytes(nbytes: int, parts_in_flight: int) -> int:
    """The size of an object's parts: as large as ``PART_NBYTES`` allows, and so that as many are in flight until the
    end. Larger ones only to stay within ``MAX_PARTS``."""
    rounds = math.ceil(nbytes / PART_NBYTES / parts_in_flight)
    return max(math.ceil(nbytes / rounds / parts_in_flight), MIN_PART_NBYTES, math.ceil(nbytes / MAX_PARTS))


def upload(bucket: Bucket, key: str, chunks: Iterable[Chunk], nbytes: int, part_nbytes: int | None) -> Written:
    """Write an object of ``nbytes`` bytes in parts of ``part_nbytes``; if that is None, at once, and it has fewer than
    ``PART_NBYTES``.

    The caller's thread pulls ``chunks``, so a signal interrupts them. Each is copied before the next is pulled, so its
    memory may be used again.

    Raises:
        UploadLost: somebody aborted the upload.
        ConfigError, TransientError, ValueError: as in ``Store``; and whatever ``chunks`` raises.
    """
    chunks = check_length(chunks, nbytes)
    if part_nbytes is None:
        content = b"".join(chunks)
        with bucket.errors_translated("write", key):
            return bucket.put(key, content)
    with bucket.errors_translated("write", key):
        answer = bucket.client.create_multipart_upload(**bucket.address(key), **bucket.whole_checksum)
        parts = _Upload(bucket, key, answer["UploadId"])
    try:
        parts.send(chunks, nbytes, part_nbytes)
        return parts.complete()
    except BaseException:
        with suppress(*S3_ERRORS):  # the error that ended the upload counts
            bucket.client.abort_multipart_upload(**bucket.address(key), UploadId=parts.upload_id)
        raise
    finally:
        parts.failures.clear()  # their frames know this upload, with all its memory


@dataclass(frozen=True)
class _Upload:
    """An upload in parts that was begun."""

    bucket: Bucket
    key: str
    upload_id: str
    completed: dict[int, tuple[CompletedPartTypeDef, PartDigest]] = field(default_factory=dict)
    """By number: what the store answered of a part, in the form in which it wants to be told, and the part's digest."""
    failures: list[BaseException] = field(default_factory=list)
    """Why it fails, the cause first."""

    def send(self, chunks: Iterable[Chunk], nbytes: int, part_nbytes: int) -> None:
        """Send the chunks in parts, several at a time."""
        # Larger parts take no more memory.
        in_flight = max(1, self.bucket.parts_in_flight * PART_NBYTES // max(PART_NBYTES, part_nbytes))
        # One more than are sent at a time, to fill meanwhile. The last one that was sent is the first to be used again.
        free = LifoQueue[Part | None]()
        for _ in range(in_flight + 1):
            free.put(None)
        sent: list[Future[None]] = []
        with ThreadPoolExecutor(in_flight, "upload") as pool:
            try:
                for number, part in enumerate(self._filled(free, chunks, nbytes, part_nbytes), 1):
                    sent.append(pool.submit(self._send_part, number, part))
                    sent[-1].add_done_callback(partial(self._ended, free, part))
                wait(sent)  # here, where an interrupt ends what is being sent
            except BaseException as error:
                self.failures.append(error)
                raise
        if self.failures:
            raise self.failures[0]

    def _filled(
        self, free: LifoQueue[Part | None], chunks: Iterable[Chunk], nbytes: int, part_nbytes: int
    ) -> Iterator[Part]:
        """Parts with the bytes of the chunks, each as soon as it has them: the last one too, however long the chunks
        take to end. Ends early if the upload has failed."""
        part: Part | None = None
        for chunk in chunks:
            rest = memoryview(chunk).cast("B")
            while rest and not self.failures:
                if part is None:
                    part = free.get() or Part(part_nbytes, self.failures)
                    part.clear(min(nbytes, part_nbytes))
                rest = part.add(rest)
                if part.is_full():
                    nbytes -= len(part)
                    yield part
                    part = None
            if self.failures:
                return

    def _send_part(self, number: int, part: Part) -> None:
        digest = part.digest(with_md5=self.bucket.evidence != "CRC32")
        with self._errors_translated():
            answer = self.bucket.client.upload_part(
                **self.bucket.address(self.key),
                UploadId=self.upload_id,
                PartNumber=number,
                Body=cast("IO[bytes]", part),
                **self.bucket.body_checksum(digest.crc32),
            )
            completed: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
            if "ChecksumCRC32" in answer:
                completed["ChecksumCRC32"] = answer["ChecksumCRC32"]
        self.completed[number] = completed, digest

    def _ended(self, free: LifoQueue[Part | None], part: Part, sent: Future[None]) -> None:
        if error := sent.exception():
            self.failures.append(error)
        free.put(part)

    def complete(self) -> Written:
        """Make one object of the parts. Returns what was written."""
        parts = [self.completed[number] for number in sorted(self.completed)]
        written = written_in_parts([digest for _, digest in parts])
        with self._errors_translated():
            try:
                answer = self.bucket.client.complete_multipart_upload(
                    **self.bucket.address(self.key),
                    UploadId=self.upload_id,
                    MultipartUpload={"Parts": [completed for completed, _ in parts]},
                )
            except ClientError as error:
                # A second attempt gets this, if the first one succeeded and its answer was lost.
                lost = status_and_code(error)[1] == "NoSuchUpload"
                if not lost or self.bucket.evidence == "size" or difference(self.bucket, self.key, written):
                    raise
                return written
        return written.answered(answer)

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        with self.bucket.errors_translated("write", self.key):
            try:
                yield
            except ClientError as error:
                if status_and_code(error)[1] != "NoSuchUpload":
                    raise
                raise UploadLost(
                    f"{self.bucket.url(self.key)}: the store no longer knows the upload, expected it until its end; "
                    "see which rule of the bucket or which other program aborts uploads, then run again"
                ) from error
