"""An S3 server that costs next to nothing: it takes uploads and forgets them, and says the truth of what it was sent.

    python -m benchmarks.s3_sink PORT LOG [--rate BYTES] [--latency SECONDS]

Of each object it keeps the size, the CRC32 and the first bytes; small objects it keeps whole. The bytes of large parts
do not even leave the kernel: their CRC32 is the one that the client sent, as every byte came over loopback. It has
every bucket and looks at no key. ETags of several parts are no MD5s, as those of buckets that a key of KMS encrypts.
"""

import argparse
import base64
import hashlib
import json
import re
import socket
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from threading import Lock
from typing import IO, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from benchmarks.crc32 import combine

KEPT_NBYTES: Final = 1 << 16
RECEIVE_NBYTES: Final = 1 << 18
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


@dataclass
class Sink:
    """What the server holds."""

    log: IO[str]
    rate: float
    """Bytes a second that it takes from one connection; 0: as many as come."""
    latency: float
    """Seconds before each answer."""
    objects: dict[str, Content] = field(default_factory=dict)
    """By bucket/key."""
    uploads: dict[str, dict[int, Content]] = field(default_factory=dict)
    """The parts of each unfinished upload, by number. An upload's id is the path of its object, and a number."""
    lock: Lock = field(default_factory=Lock)


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    rfile: BufferedReader
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def respond(self) -> None:
        sink, began = self.server.sink, time.time()
        url = urlsplit(self.path)
        path, query = unquote(url.path).strip("/"), dict(parse_qsl(url.query, keep_blank_values=True))
        body = self._receive(is_part="partNumber" in query)
        time.sleep(sink.latency)
        with sink.lock:
            entry = {"began": began, "ended": time.time(), "method": self.command, "path": path, "nbytes": body.nbytes}
            print(json.dumps(entry | {"query": sorted(query)}), file=sink.log, flush=True)
            answer = self._upload if query.keys() & {"uploads", "uploadId"} else self._object
            status, document, headers = answer(sink, path, query, body)
        self.send_response_only(status)
        for name, value in ({"Date": formatdate(usegmt=True), "Content-Length": str(len(document))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(document)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815 - the names that http.server calls

    def _receive(self, *, is_part: bool) -> Content:
        """The body of a request. Of a part whose CRC32 the client tells, nothing is kept after the first bytes."""
        total = int(self.headers.get("Content-Length") or 0)
        stated = self.headers.get("x-amz-checksum-crc32")
        began = time.monotonic()
        begin = self.rfile.read(min(total, KEPT_NBYTES) if is_part and stated else total)
        crc32 = zlib.crc32(begin) if stated is None else int.from_bytes(base64.b64decode(stated))
        digest = f"{crc32:032x}" if is_part else hashlib.md5(begin, usedforsecurity=False).hexdigest()
        received = len(begin)
        if received < total:  # what the reader has buffered comes before what the socket has
            received += len(self.rfile.read(min(len(self.rfile.peek()), total - received)))
        while received < total:
            self._keep_to_the_rate(received, began)
            received += self._discard(min(total - received, RECEIVE_NBYTES))
        self._keep_to_the_rate(received, began)
        return Content(total, crc32, begin, f'"{digest}"')

    def _keep_to_the_rate(self, received: int, began: float) -> None:
        if rate := self.server.sink.rate:
            time.sleep(max(0.0, received / rate - (time.monotonic() - began)))

    def _discard(self, nbytes: int) -> int:
        # MSG_TRUNC: the kernel throws the bytes away and copies nothing (man 7 tcp).
        discarded: int = self.connection.recv_into(self.server.room, nbytes, socket.MSG_TRUNC)
        if not discarded:
            raise ConnectionResetError("the client ended in the middle of a body")
        return discarded

    def _object(self, sink: Sink, path: str, query: dict[str, str], body: Content) -> Answer:
        known = sink.objects.get(path)
        if self.command == "PUT":
            if known is not None and "If-None-Match" in self.headers:
                return _error(412, "PreconditionFailed")
            if "aws-chunked" in self.headers.get("Content-Encoding", ""):
                return _error(501, "NotImplemented")
            sink.objects[path] = body
            return 200, b"", {"ETag": body.etag}
        if self.command == "DELETE":
            sink.objects.pop(path, None)
            return 204, b"", {}
        if "/" not in path:
            return 200, _listing(sink, path, query.get("prefix", "")), {}
        if known is None:
            return _error(404, "NoSuchKey")
        headers = {"ETag": known.etag, "Last-Modified": formatdate(DATE, usegmt=True)}
        headers |= {"x-amz-checksum-crc32": _base64(known.crc32), "x-amz-checksum-type": "FULL_OBJECT"}
        if self.command == "HEAD":
            return 200, b"", headers | {"Content-Length": str(known.nbytes)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, end = (int(asked[1]), min(int(asked[2]) + 1, known.nbytes)) if asked else (0, known.nbytes)
        if end > len(known.begin):
            return _error(501, "NotImplemented")  # these bytes were forgotten
        if not asked:
            return 200, known.begin, headers
        del headers["x-amz-checksum-crc32"], headers["x-amz-checksum-type"]
        return 206, known.begin[first:end], headers | {"Content-Range": f"bytes {first}-{end - 1}/{known.nbytes}"}

    def _upload(self, sink: Sink, path: str, query: dict[str, str], body: Content) -> Answer:
        if self.command == "POST" and "uploads" in query:
            upload = f"{path}?{time.time_ns()}"
            sink.uploads[upload] = {}
            return 200, _element("InitiateMultipartUploadResult", _element("UploadId", escape(upload))).encode(), {}
        if "uploads" in query:
            return 200, _element("ListMultipartUploadsResult").encode(), {}
        if query["uploadId"] not in sink.uploads:
            return _error(404, "NoSuchUpload")
        if self.command == "PUT":
            sink.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return 200, b"", {"ETag": body.etag, "x-amz-checksum-crc32": _base64(body.crc32)}
        parts = sink.uploads.pop(query["uploadId"])
        if self.command == "DELETE":
            return 204, b"", {}
        sink.objects[path] = joined = join([parts[number] for number in sorted(parts)])
        fields = {"Key": escape(path), "ETag": escape(joined.etag), "ChecksumCRC32": _base64(joined.crc32)}
        elements = [_element(name, value) for name, value in (fields | {"ChecksumType": "FULL_OBJECT"}).items()]
        return 200, _element("CompleteMultipartUploadResult", *elements).encode(), {}

    def log_message(self, format: str, *arguments: object) -> None:
        """The log is a file of its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, sink: Sink) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.sink, self.room = sink, bytearray(RECEIVE_NBYTES)
        if sink.rate:  # or the kernel would take megabytes ahead of the rate
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_NBYTES)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that goes away is no error
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed names private types


def join(parts: Sequence[Content]) -> Content:
    """The object that parts make."""
    crc32, begin = parts[0].crc32, parts[0].begin
    for number, part in enumerate(parts[1:], 1):
        crc32 = combine(crc32, part.crc32, part.nbytes)
        if len(begin) == sum(before.nbytes for before in parts[:number]):
            begin += part.begin
    return Content(sum(part.nbytes for part in parts), crc32, begin, f'"{crc32:032x}-{len(parts)}"')


def _listing(sink: Sink, bucket: str, prefix: str) -> bytes:
    entries = [
        _element(
            "Contents",
            _element("Key", escape(path.removeprefix(f"{bucket}/"))),
            _element("Size", str(content.nbytes)),
            _element("ETag", escape(content.etag)),
            _element("LastModified", f"{datetime.fromtimestamp(DATE, UTC):%Y-%m-%dT%H:%M:%SZ}"),
        )
        for path, content in sorted(sink.objects.items())
        if path.startswith(f"{bucket}/{prefix}")
    ]
    return _element("ListBucketResult", *entries).encode()


def _error(status: int, code: str) -> Answer:
    return status, _element("Error", _element("Code", code)).encode(), {}


def _base64(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4)).decode()


def _element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"


def main() -> None:
    """Serve until somebody ends the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_sink", description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second of each connection; 0: all that come")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    with options.log.open("w") as log:
        _Server(options.port, Sink(log, options.rate, options.latency)).serve_forever()


if __name__ == "__main__":
    main()
