"""Writes an object by boto3's transfer manager, at once or in parts."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError

from job.errors import UploadLost
from job.s3.refusals import status_and_code
from job.store.s3.bucket import PARTS_IN_FLIGHT, Bucket
from job.store.s3.content_digests import ContentDigest, Written
from job.store.s3.verify import difference
from job.store.store import Chunk

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB: Final = 1 << 20
PART_NBYTES: Final = 8 * MIB
"""Size of a part: boto3's default. S3 accepts no part below 5 MiB except the last."""
MAX_PARTS: Final = 10_000
"""Parts that an upload can have (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
PIPE_POLL_SECONDS: Final = 0.1
"""How often a thread that waits for the other one looks whether the upload has ended."""

WHOLE_CHECKSUM: Final = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
"""Asks for a CRC of each part, which add up to one of the whole object, checked by each download. boto3's default has
no CRC of the whole object."""


def choose_part_nbytes(nbytes: int) -> int:
    """The size of an object's parts: ``PART_NBYTES``, or as many MiB as it takes to stay within ``MAX_PARTS`` parts."""
    return max(PART_NBYTES, math.ceil(nbytes / MAX_PARTS / MIB) * MIB)


def upload(bucket: Bucket, key: str, chunks: Iterable[Chunk], part_nbytes: int | None) -> Written:
    """Write an object in parts of ``part_nbytes``; if that is None, at once, and it has less than ``PART_NBYTES``.

    By boto3's transfer manager, whose submission thread reads what this thread pulls from ``chunks``.

    Raises:
        UploadLost: somebody aborted the upload.
        ConfigError, TransientError: as in ``Store``; and whatever ``chunks`` raises.
    """
    config = TransferConfig(
        multipart_threshold=1 if part_nbytes else PART_NBYTES,
        multipart_chunksize=part_nbytes or PART_NBYTES,
        max_concurrency=PARTS_IN_FLIGHT,
        # boto3 prefers the CRT client if it is installed, which ignores these settings.
        preferred_transfer_client="classic",
    )
    config.max_in_memory_upload_chunks = PARTS_IN_FLIGHT  # TransferConfig() has no argument for it
    digest = ContentDigest(part_nbytes, with_etag=bucket.evidence != "CRC32")
    with create_transfer_manager(bucket.client, config) as manager:
        pipe = _ChunkPipe(digest)
        try:
            checksums = dict(WHOLE_CHECKSUM) if bucket.sends_checksums else {}
            full_key = bucket.address(key)["Key"]
            future = manager.upload(io.BufferedReader(pipe), bucket.name, full_key, extra_args=checksums)
            pipe.feed(chunks, future.done)
        except BaseException:
            pipe.stop()  # or the manager would wait for the submission thread
            raise
        with bucket.errors_translated("write", key):
            try:
                future.result()
            except ClientError as error:
                if status_and_code(error)[1] != "NoSuchUpload":
                    raise
                # A second attempt to complete it gets this, if the first one succeeded and its answer was lost.
                completed = error.operation_name == "CompleteMultipartUpload"
                if not completed or bucket.evidence == "size" or difference(bucket, key, digest.written()):
                    raise UploadLost(
                        f"{bucket.url(key)}: the store no longer knows the upload, expected it until its end; see "
                        "which rule of the bucket or which other program aborts uploads, then run again"
                    ) from error
    return digest.written()


class _UploadStopped(Exception):
    """Raised in s3transfer's thread to end the upload."""


class _ChunkPipe(io.RawIOBase):
    """A file that s3transfer's submission thread reads, of chunks that the caller's thread pulls.

    If the submission thread pulled the chunks itself, a signal could not end an upload that waits for the network:
    signals interrupt only the main thread.
    """

    def __init__(self, digest: ContentDigest) -> None:
        self._digest = digest
        self._queue: Queue[Chunk | None] = Queue(maxsize=1)
        """The next chunk; None after the last one."""
        self._rest = memoryview(b"")
        self._at_end = self._stopped = False

    def feed(self, chunks: Iterable[Chunk], upload_ended: Callable[[], bool]) -> None:
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
