"""What an S3 store may tell of an object's content: its CRC32, and its ETag where that is an MD5. No I/O."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Evidence = Literal["CRC32", "ETag", "size"]
"""What a store tells of an object's content: its CRC32 (as FULL_OBJECT), an ETag that is its MD5, or its size alone."""


@dataclass(frozen=True)
class Written:
    """What was written as an object, by which the object is recognised."""

    nbytes: int
    crc32: str
    """The CRC32 of all bytes in base64, as S3 writes it."""
    etag: str | None
    """The MD5 of the content; of parts, the MD5 of their MD5s, and their number. None if it was not computed.

    S3 gives this as the ETag of an object, unless a key of KMS or of the customer encrypts it. Other stores may give
    anything. https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """


class ContentDigest:
    """Digests the bytes of an object as they pass.

    ``part_nbytes``: the size of its parts; None if it is put at once. ``with_etag``: whether to compute the ETag too,
    which takes five times as long as the CRC32.
    """

    def __init__(self, part_nbytes: int | None, *, with_etag: bool = True) -> None:
        self._part_nbytes = part_nbytes
        self._with_etag = with_etag
        self._nbytes = self._crc32 = 0
        self._part_md5s: list[bytes] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        """Of the bytes since the last complete part."""

    def update(self, chunk: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._crc32 = zlib.crc32(chunk, self._crc32)
        rest = memoryview(chunk)
        while rest:
            room = len(rest) if self._part_nbytes is None else self._part_nbytes - self._nbytes % self._part_nbytes
            piece, rest = rest[:room], rest[room:]
            self._nbytes += len(piece)
            if self._with_etag:
                self._md5.update(piece)
            if self._part_nbytes is not None and self._nbytes % self._part_nbytes == 0:
                self._end_part()

    def written(self) -> Written:
        """What has passed. Nothing may be added afterwards."""
        etag = self._md5.hexdigest()
        if self._part_nbytes is not None:
            if self._nbytes % self._part_nbytes:
                self._end_part()
            etag = f"{hashlib.md5(b''.join(self._part_md5s), usedforsecurity=False).hexdigest()}-{len(self._part_md5s)}"
        return Written(self._nbytes, encode_crc32(self._crc32), etag if self._with_etag else None)

    def _end_part(self) -> None:
        self._part_md5s.append(self._md5.digest())
        self._md5 = hashlib.md5(usedforsecurity=False)


def encode_crc32(crc32: int) -> str:
    """A CRC32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4)).decode()


def matching_evidence(head: Mapping[str, object], written: Written) -> set[Evidence]:
    """By what a store's answer to HeadObject shows that an object is the one that was written."""
    matching: set[Evidence] = set()
    # A checksum of type COMPOSITE is one of the parts' CRCs.
    if head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and head.get("ChecksumCRC32") == written.crc32:
        matching.add("CRC32")
    if str(head.get("ETag", "")).strip('"') == written.etag:
        matching.add("ETag")
    return matching
