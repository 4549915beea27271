"""Looks at what a store made of what was written. An answer of 200 alone does not show that it is there."""

from __future__ import annotations

import zlib
from typing import Final

from job.errors import TransientError
from job.store.s3.bucket import Bucket
from job.store.s3.content_digests import Written, encode_crc32, matching_evidence
from job.store.store import look_again

READ_NBYTES: Final = 1 << 20


def verify_content(bucket: Bucket, key: str, written: Written) -> None:
    """Check that an object is what was written: by the answer to the write, if that shows it, else by a look at it.

    Raises:
        TransientError: there is no such object, or it has another size or content.
    """
    if bucket.shows(written):
        return
    found = look_again(lambda: difference(bucket, key, written), lambda found: found is None)
    if found is None:
        return
    if found == "other bytes" and _read_crc32(bucket, key) == written.crc32:
        # Some stores tell another CRC32 or ETag than they should. The bytes decide.
        message = "%s: found another %s than that of its bytes, which are right; from now on, sizes are compared"
        bucket.warn_once(bucket.evidence, message % (bucket.url(key), bucket.evidence))
        return
    raise TransientError(
        f"{bucket.url(key)}: found {found}, expected {written.nbytes:,} bytes with the CRC32 {written.crc32}, as "
        "written; the store lost or changed them: run again, and if that does not help, use another store"
    )


def difference(bucket: Bucket, key: str, written: Written) -> str | None:
    """What is found in place of what was written, or None if the store tells no difference."""
    head = bucket.head(key)
    if head is None:
        return "nothing"
    if head.get("ContentLength") != written.nbytes:
        return f"{head.get('ContentLength', 0):,} bytes"
    known = bucket.evidence != "size" and bucket.evidence not in bucket.warned
    return "other bytes" if known and bucket.evidence not in matching_evidence(head, written) else None


def _read_crc32(bucket: Bucket, key: str) -> str:
    """The CRC32 of an object's bytes, which are read again."""
    crc32 = 0
    with bucket.errors_translated("read", key):
        for chunk in bucket.client.get_object(**bucket.address(key))["Body"].iter_chunks(READ_NBYTES):
            crc32 = zlib.crc32(chunk, crc32)
    return encode_crc32(crc32)
