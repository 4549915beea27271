"""What the sink holds, and what it answers to each request of S3's protocol. It knows no socket.

Of each object it keeps the size, the CRC32 and the first bytes; small objects it keeps whole. It has every bucket and
looks at no key. ETags of several parts are no MD5s, as in buckets that a key of KMS encrypts.
"""

import base64
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

from job.store.s3.content_digests import combine_crc32

DATE: Final = 1_767_225_600.0
"""When everything was written."""

Answer: TypeAlias = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


@dataclass(frozen=True)
class Content:
    """What is known of an object, or of a part of one."""

    nbytes: int
    crc32: int
    begin: bytes
    """Its first bytes: all of them, but of a large part."""
    etag: str


@dataclass(frozen=True)
class Request:
    """A request whose body was received."""

    command: str
    path: str
    """Of the object as bucket/key, or of a bucket alone."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """With their names in lower case."""
    body: Content


@dataclass
class Sink:
    """What the server holds."""

    objects: dict[str, Content] = field(default_factory=dict)
    """By bucket/key."""
    uploads: dict[str, dict[int, Content]] = field(default_factory=dict)
    """The parts of each unfinished upload, by number. An upload's id is the path of its object, and a time."""

    def answer(self, request: Request) -> Answer:
        """Do what is asked for."""
        if request.query.keys() & {"uploads", "uploadId"}:
            return self._upload(request)
        if request.command == "PUT":
            return self._put(request)
        if request.command == "DELETE":
            self.objects.pop(request.path, None)
            return 204, b"", {}
        return self._get(request) if "/" in request.path else self._list(request)

    def _put(self, request: Request) -> Answer:
        if "if-none-match" in request.headers and request.path in self.objects:
            return _error(412, "PreconditionFailed")
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            return _error(501, "NotImplemented")
        self.objects[request.path] = request.body
        return 200, b"", {"ETag": request.body.etag, "x-amz-checksum-crc32": as_base64(request.body.crc32)}

    def _get(self, request: Request) -> Answer:
        if (known := self.objects.get(request.path)) is None:
            return _error(404, "NoSuchKey")
        checksum = {"x-amz-checksum-crc32": as_base64(known.crc32), "x-amz-checksum-type": "FULL_OBJECT"}
        headers = {"ETag": known.etag, "Last-Modified": formatdate(DATE, usegmt=True)}
        if request.command == "HEAD":
            return 200, b"", {**headers, **checksum, "Content-Length": str(known.nbytes)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        first, end = (int(asked[1]), min(int(asked[2]) + 1, known.nbytes)) if asked else (0, known.nbytes)
        if end > len(known.begin):
            return _error(501, "NotImplemented")  # these bytes were forgotten
        if asked:
            return 206, known.begin[first:end], {**headers, "Content-Range": f"bytes {first}-{end - 1}/{known.nbytes}"}
        return 200, known.begin, headers | checksum

    def _list(self, request: Request) -> Answer:
        date = f"{datetime.fromtimestamp(DATE, UTC):%Y-%m-%dT%H:%M:%SZ}"
        below = f"{request.path}/{request.query.get('prefix', '')}"
        listed = [(path, content) for path, content in sorted(self.objects.items()) if path.startswith(below)]
        fields = [
            {"Key": path.removeprefix(f"{request.path}/"), "Size": str(content.nbytes), "ETag": content.etag}
            for path, content in listed
        ]
        entries = [_element("Contents", *_elements(each | {"LastModified": date})) for each in fields]
        return 200, _element("ListBucketResult", *entries).encode(), {}

    def _upload(self, request: Request) -> Answer:
        """A request about an upload in parts, or about all that are unfinished."""
        if request.command == "POST" and "uploads" in request.query:
            upload = f"{request.path}?{time.time_ns()}"
            self.uploads[upload] = {}
            return 200, _element("InitiateMultipartUploadResult", *_elements({"UploadId": upload})).encode(), {}
        if "uploads" in request.query:
            return 200, _element("ListMultipartUploadsResult").encode(), {}
        if (upload := request.query["uploadId"]) not in self.uploads:
            return _error(404, "NoSuchUpload")
        if request.command == "PUT":
            self.uploads[upload][int(request.query["partNumber"])] = request.body
            return 200, b"", {"ETag": request.body.etag, "x-amz-checksum-crc32": as_base64(request.body.crc32)}
        parts = self.uploads.pop(upload)
        if request.command == "DELETE":
            return 204, b"", {}
        joined = self.objects[request.path] = join([parts[number] for number in sorted(parts)])
        fields = {"Key": request.path, "ETag": joined.etag, "ChecksumCRC32": as_base64(joined.crc32)}
        elements = _elements(fields | {"ChecksumType": "FULL_OBJECT"})
        return 200, _element("CompleteMultipartUploadResult", *elements).encode(), {}


def join(parts: Sequence[Content]) -> Content:
    """The object that parts make."""
    nbytes, crc32, begin = 0, 0, b""
    for part in parts:
        begin += part.begin if len(begin) == nbytes else b""
        crc32, nbytes = combine_crc32(crc32, part.crc32, part.nbytes), nbytes + part.nbytes
    return Content(nbytes, crc32, begin, f'"{crc32:032x}-{len(parts)}"')


def as_base64(crc32: int) -> str:
    """A CRC32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4)).decode()


def _error(status: int, code: str) -> Answer:
    return status, _element("Error", *_elements({"Code": code})).encode(), {}


def _elements(fields: Mapping[str, str]) -> list[str]:
    return [_element(name, escape(text)) for name, text in fields.items()]


def _element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"
