"""What an S3 store may tell of an object's content: its CRC32, and its ETag where that is an MD5. No I/O."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

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
    shown_by: frozenset[Evidence] = frozenset()
    """By what the answer to the end of the write shows that the store has this."""

    def answered(self, answer: Mapping[str, object]) -> Written:
        """The same, with what the answer shows."""
        return replace(self, shown_by=matching_evidence(answer, self))


@dataclass(frozen=True)
class PartDigest:
    """What is known of a part's content."""

    nbytes: int
    crc32: int
    md5: bytes | None
    """None if it was not computed: it takes eight times as long as the CRC32."""


def digest_part(content: bytes | memoryview, *, with_md5: bool) -> PartDigest:
    """Digest a part, or all of an object. Other threads run meanwhile."""
    md5 = hashlib.md5(content, usedforsecurity=False).digest() if with_md5 else None
    return PartDigest(memoryview(content).nbytes, zlib.crc32(content), md5)


def written_at_once(whole: PartDigest) -> Written:
    """What was written as an object at once."""
    return Written(whole.nbytes, encode_crc32(whole.crc32), whole.md5.hex() if whole.md5 else None)


def written_in_parts(parts: Sequence[PartDigest]) -> Written:
    """What was written as an object of these parts."""
    crc32 = 0
    for part in parts:
        crc32 = combine_crc32(crc32, part.crc32, part.nbytes)
    md5s = [part.md5 for part in parts if part.md5]
    of_md5s = hashlib.md5(b"".join(md5s), usedforsecurity=False).hexdigest()
    etag = f"{of_md5s}-{len(parts)}" if len(md5s) == len(parts) else None
    return Written(sum(part.nbytes for part in parts), encode_crc32(crc32), etag)


CRC32_POLYNOMIAL: Final = 0xEDB88320
"""Without x³², which is understood. As in a CRC32, the highest bit is the coefficient of x⁰, the lowest that of x³¹."""
ONE, X = 1 << 31, 1 << 30


def combine_crc32(first: int, second: int, second_nbytes: int) -> int:
    """The CRC32 of two contents, one after the other, from theirs: as ``crc32_combine`` of zlib, which Python lacks.

    A CRC32 is the remainder of a polynomial, and each byte that follows multiplies it by x⁸.
    """
    return _multiply(first, _power_of_x(8 * second_nbytes)) ^ second


@cache
def _power_of_x(exponent: int) -> int:
    power, square = ONE, X
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo that of the CRC32."""
    product = 0
    while a:
        if a & ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (CRC32_POLYNOMIAL if b & 1 else 0)
    return product


def encode_crc32(crc32: int) -> str:
    """A CRC32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4)).decode()


def matching_evidence(answer: Mapping[str, object], written: Written) -> frozenset[Evidence]:
    """By what a store's answer to the end of a write, or to HeadObject, shows that an object is what was written."""
    matching: set[Evidence] = set()
    # A checksum of type COMPOSITE is one of the parts' CRCs.
    if answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and answer.get("ChecksumCRC32") == written.crc32:
        matching.add("CRC32")
    if str(answer.get("ETag", "")).strip('"') == written.etag:
        matching.add("ETag")
    return frozenset(matching)
