"""A plain S3 server for the tests: it stores bodies as they come, with the framing of ``aws-chunked`` if there is one.

It looks at no key and no checksum, and at conditions only if it is told to.
"""

import hashlib
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.serving import read_body, serving

DATE: Final = 1_790_000_000.0


@dataclass
class PlainS3:
    """A running one, which has every bucket."""

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    """By bucket/key."""
    dates: dict[str, float] = field(default_factory=dict)
    """When an object was written, if that is not ``DATE``."""
    part_counts: dict[str, int] = field(default_factory=dict)
    """Of the objects that came in parts."""
    part_md5s: dict[str, bytes] = field(default_factory=dict)
    """The MD5s of their parts, one after another."""
    has_etags: bool = True
    has_part_etags: bool = True
    has_dates: bool = True
    condition_gap: float | None = None
    """The seconds between a look whether an object exists and the write; None: there is no look."""
    etag_prefix: str = ""
    etag_seed: bytes = b""
    """If this is not empty, ETags of several parts are no MD5s."""
    hangs_at: str = ""
    """Nothing is answered to whoever writes a key that holds this; empty: every request is answered."""
    has_hung: Event = field(default_factory=Event)
    ends: Event = field(default_factory=Event)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """The parts of each upload, by number."""
    upload_numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def identity(self, path: str) -> dict[str, str]:
        """The headers that identify an object's content."""
        etag_header = {"ETag": self.etag(path)} if self.has_etags else {}
        date = formatdate(self.dates.get(path, DATE), usegmt=True)
        return {**etag_header, **({"Last-Modified": date} if self.has_dates else {})}

    def etag(self, path: str) -> str:
        if path not in self.part_counts:
            return self.etag_prefix + etag(self.objects[path])
        count = self.part_counts[path]
        return etag(self.part_md5s[path] + (self.etag_seed if count > 1 else b""), f"-{count}")

    def complete(self, path: str, upload: str) -> None:
        """Join the parts of an upload."""
        parts = [content for _, content in sorted(self.uploads.pop(upload).items())]
        self.objects[path] = b"".join(parts)
        self.part_counts[path] = len(parts)
        self.part_md5s[path] = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)

    def listing(self, bucket: str, prefix: str) -> bytes:
        """The objects of a bucket below a prefix."""
        entries = [
            _element(
                "Contents",
                _element("Key", escape(path.removeprefix(f"{bucket}/"))),
                _element("Size", str(len(content))),
                _element("ETag", escape(self.etag(path))) if self.has_etags else "",
                _element("LastModified", _iso(self.dates.get(path, DATE))) if self.has_dates else "",
            )
            for path, content in sorted(self.objects.items())
            if path.startswith(f"{bucket}/{prefix}")
        ]
        return _element("ListBucketResult", *entries).encode()


def etag(content: bytes, suffix: str = "") -> str:
    """What S3 calls an ETag."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}{suffix}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_any(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path).strip("/")
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        if self.server.store.hangs_at and self.server.store.hangs_at in path and self.command in ("PUT", "POST"):
            self.server.store.has_hung.set()
            self.server.store.ends.wait()
        answer = self.answer_upload if query.keys() & {"uploads", "uploadId"} else self.answer_object
        answer(self.server.store, path, query, read_body(self))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

    def answer_object(self, store: PlainS3, path: str, query: dict[str, str], body: bytes) -> None:
        if self.command == "PUT":
            if store.condition_gap is not None and "If-None-Match" in self.headers:
                exists = path in store.objects
                time.sleep(store.condition_gap)
                if exists:
                    self.send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    return
            store.objects[path] = body
            store.part_counts.pop(path, None)
            self.send(200, b"", store.identity(path))
        elif self.command == "DELETE":
            store.objects.pop(path, None)
            self.send(204)
        elif "/" not in path:
            self.send(200, store.listing(path, query.get("prefix", "")))
        elif path not in store.objects:
            self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            content, begin, end = store.objects[path], int(wanted[1]), int(wanted[2]) + 1
            content_range = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
            self.send(206, content[begin:end], {**store.identity(path), **content_range})
        else:
            self.send(200, store.objects[path], store.identity(path))

    def answer_upload(self, store: PlainS3, path: str, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST" and "uploads" in query:
            upload = f"{path}?{next(store.upload_numbers)}"
            store.uploads[upload] = {}
            self.send(200, _element("InitiateMultipartUploadResult", _element("UploadId", escape(upload))).encode())
        elif "uploadId" in query and self.command != "DELETE" and query["uploadId"] not in store.uploads:
            self.send(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        elif self.command == "POST":
            store.complete(path, query["uploadId"])
            self.send(200, _element("CompleteMultipartUploadResult", _element("Key", escape(path))).encode())
        elif self.command == "PUT":
            store.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self.send(200, b"", {"ETag": etag(body)} if store.has_part_etags else {})
        elif self.command == "DELETE":
            store.uploads.pop(query["uploadId"], None)
            self.send(204)
        else:
            self.send(200, _element("ListMultipartUploadsResult").encode())

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test that fails tells enough."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, store: PlainS3) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store


@contextmanager
def plain_s3() -> Iterator[PlainS3]:
    """On this machine, at a port of its own."""
    store = PlainS3()
    server = _Server(store)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield store
        store.ends.set()


def _element(name: str, *content: str) -> str:
    return f"<{name}>{''.join(content)}</{name}>"


def _iso(date: float) -> str:
    return datetime.fromtimestamp(date, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
