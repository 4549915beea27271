"""Removes what killed runs left in a bucket: unfinished uploads, and probes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from job.store.s3.bucket import Bucket
from job.store.store import PROBE_PREFIXES, is_own_upload, is_probe

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ResponseMetadataTypeDef


def discard_unfinished(bucket: Bucket, min_age: float) -> None:
    """Remove unfinished uploads and probes that got no byte for ``min_age`` seconds, by the store's own clock."""
    with bucket.housekeeping("discard unfinished uploads", ""):
        pages = bucket.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=bucket.prefix)
        # The list is read to its end first, because an abort could shift the next pages.
        old = [
            upload
            for page in pages
            for upload in page.get("Uploads", [])
            if is_own_upload(upload["Key"].removeprefix(bucket.prefix))
            and _age(upload.get("Initiated"), page["ResponseMetadata"]) >= min_age
        ]
        for upload in old:
            with suppress(bucket.client.exceptions.NoSuchUpload):  # another worker aborted or finished it
                _abort_if_idle(bucket, upload["Key"], upload["UploadId"], min_age)
        for key in [key for prefix in PROBE_PREFIXES for key in _old_probes(bucket, prefix, min_age)]:
            bucket.delete(key)


def _abort_if_idle(bucket: Bucket, full_key: str, upload_id: str, min_age: float) -> None:
    """Abort an upload if none of its parts arrived within the last ``min_age`` seconds."""
    pages = bucket.client.get_paginator("list_parts").paginate(Bucket=bucket.name, Key=full_key, UploadId=upload_id)
    ages = [
        _age(part.get("LastModified"), page["ResponseMetadata"]) for page in pages for part in page.get("Parts", [])
    ]
    if min(ages, default=min_age) >= min_age:
        bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=full_key, UploadId=upload_id)


def _old_probes(bucket: Bucket, prefix: str, min_age: float) -> Iterator[str]:
    below = bucket.prefix + prefix
    for page in bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=below):
        for item in page.get("Contents", []):
            key = item["Key"].removeprefix(bucket.prefix)
            if is_probe(key) and _age(item.get("LastModified"), page["ResponseMetadata"]) >= min_age:
                yield key


def _age(time_of_store: datetime | None, answer: ResponseMetadataTypeDef) -> float:
    """Seconds from a time that the store told to the time of its answer: both by its own clock, not by this machine's.
    0 if it does not say either."""
    now = answer["HTTPHeaders"].get("date")
    return (parsedate_to_datetime(now) - time_of_store).total_seconds() if now and time_of_store else 0.0
