"""The checksum and the ETag of an object, from those of its parts."""

import base64
import hashlib
import zlib

from hypothesis import given
from hypothesis import strategies as st

from job.store.s3.content_digests import combine_crc32, digest_part, written_at_once, written_in_parts


@given(first=st.binary(), second=st.binary(), zeros=st.integers(0, 10_000_000))
def test_the_crc32_of_two_contents_follows_from_theirs(first: bytes, second: bytes, zeros: int) -> None:
    second += bytes(zeros)
    assert combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(parts=st.lists(st.binary(min_size=1), min_size=1))
def test_an_object_of_parts_is_recognised_as_s3_describes_it(parts: list[bytes]) -> None:
    written, content = written_in_parts([digest_part(part, with_md5=True) for part in parts]), b"".join(parts)
    md5s = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    assert written.nbytes == len(content)
    assert base64.b64decode(written.crc32) == zlib.crc32(content).to_bytes(4)
    assert written.etag == f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"


def test_without_md5s_there_is_no_etag() -> None:
    digest = digest_part(b"content", with_md5=False)
    assert written_in_parts([digest]).etag is None
    assert written_at_once(digest).etag is None
    md5 = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    assert written_at_once(digest_part(b"content", with_md5=True)).etag == md5
