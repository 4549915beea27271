"""Tries what a bucket can do, before anything is read."""

from __future__ import annotations

import logging
import secrets
from contextlib import suppress
from dataclasses import replace

from job.errors import ConfigError, TransientError
from job.s3.client import checksum_setting
from job.s3.refusals import CHECKSUM_SETTING, S3_ERRORS, may_be_checksum
from job.store.s3.bucket import Bucket
from job.store.s3.content_digests import Evidence, matching_evidence
from job.store.s3.upload import PART_NBYTES, upload
from job.store.store import look_again

logger = logging.getLogger(__name__)


class _OtherContent(ConfigError):
    """A store gave back other bytes than it was given."""


def check_bucket(bucket: Bucket) -> Bucket:
    """Write a few bytes, read them back, compare and delete them.

    The bucket that is returned knows what an object's content is recognised by. If the check fails, and succeeds
    without checksums, it sends none, unless the environment demands them.

    Raises:
        ConfigError: the bucket refuses the settings, or does not keep what is written.
        TransientError: it fails, and a retry may succeed.
    """
    with bucket.errors_translated("list the bucket", ""):
        bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix, MaxKeys=1)
    try:
        return _try_writing(bucket)
    except (ConfigError, TransientError) as error:
        if not bucket.sends_checksums or not (isinstance(error, _OtherContent) or may_be_checksum(error.__cause__)):
            raise
        found, _, _ = str(error).partition(", expected ")
    without_checksums = _try_writing(bucket.without_checksums())
    if checksum_setting() is not None:
        raise ConfigError(
            f"{found}, and not so without checksums; {CHECKSUM_SETTING} is when_supported, expected when_required "
            "for this store; set that, or nothing"
        )
    message = "%s, and not so without checksums: they are not sent in this run, as if %s were when_required"
    logger.warning(message, found, CHECKSUM_SETTING)
    return without_checksums


def _try_writing(bucket: Bucket) -> Bucket:
    """Write an object at once and one in parts. Returns the bucket with what it tells of the content of both."""
    told = _try_object(bucket, None) & _try_object(bucket, PART_NBYTES)
    evidence: Evidence = "CRC32" if "CRC32" in told else "ETag" if "ETag" in told else "size"
    logger.info("%s: what is written is recognised by its %s", bucket.url(""), evidence)
    return replace(bucket, evidence=evidence)


def _try_object(bucket: Bucket, part_nbytes: int | None) -> frozenset[Evidence]:
    """Write an object, read it back, compare, list and delete it. Returns what the store tells of its content.

    Raises:
        TransientError: there is no such object, or it is not listed.
        ConfigError: its content is not what was written; or the store refuses a request.
    """
    key = f"write-check-{secrets.token_hex(8)}"
    url = bucket.url(key)
    content = url.encode()
    try:
        written = upload(bucket, key, [content], len(content), part_nbytes)
        found = look_again(lambda: bucket.read(key), lambda found: found is not None)
        if found is None:
            raise TransientError(
                f"{url}: found nothing, expected an object that was just written; check the store, then run again"
            )
        if found != content:
            raise _OtherContent(
                f"{url}: found {len(found):,} bytes that begin with {found[:24]!r}, expected the {len(content):,} "
                "bytes that were written; use another store, or correct what lies before it"
            )
        # A later run finds surveys by their listing.
        size = look_again(lambda: bucket.sizes(key).get(key), lambda size: size == len(content))
        if size != len(content):
            raise TransientError(
                f"{url}: found {'nothing' if size is None else f'{size:,} bytes'} in the listing, expected "
                f"{len(content):,} bytes that were just written; check the store"
            )
        head = bucket.head(key)
    except BaseException:
        with suppress(*S3_ERRORS):  # the first error counts
            bucket.client.delete_object(**bucket.address(key))
        raise
    with bucket.housekeeping("delete", key):
        bucket.delete(key)
    return frozenset() if head is None else matching_evidence(head, written)
