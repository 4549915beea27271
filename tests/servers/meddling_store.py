"""Stands before an S3 server: refuses what it is told to, loses answers, and passes on all else as it came.

The ``Host`` header is passed on too, so that signatures stay valid.
"""

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from tests.servers.serving import read_body, serving


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""

    @property
    def operation(self) -> str:
        """What kind of request it is, near enough: the method, and what distinguishes it in the query."""
        marks = ("uploads", "uploadId", "partNumber", "list-type")
        names = {name for name, _ in parse_qsl(self.query, keep_blank_values=True)}
        return " ".join([self.method, *(mark for mark in marks if mark in names)])


Refusal: TypeAlias = int | tuple[int, str]
"""A status, and the code of the error if it is not that of ``CODES``."""

What: TypeAlias = Refusal | Literal["lost", "swallowed", "half", "cut", "whole"] | None
"""What is answered in the server's place; or that its answer gets lost, that half of its body comes, as if it were all
or cut off, or that it claims to be the whole object; or that the server never gets the request, and 200 is answered
without content. None: nothing is done."""
Meddling: TypeAlias = Callable[[Asked], What]

Rewriting: TypeAlias = Callable[[bytes], bytes]
Damaging: TypeAlias = Callable[[str, bytes], bytes]
"""Of a request's query and body: the body that the server gets, of the same length."""


def once_each(what: What) -> Meddling:
    """Something happens to the first request of each operation."""
    met: set[str] = set()

    def meddles(asked: Asked) -> What:
        if asked.operation in met:
            return None
        met.add(asked.operation)
        return what

    return meddles


CODES = {
    400: "InvalidArgument",
    405: "MethodNotAllowed",
    411: "MissingContentLength",
    409: "ConditionalRequestConflict",
    501: "NotImplemented",
    503: "SlowDown",
}
"""What S3 calls these answers."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_any(self) -> None:
        body = read_body(self)
        address = urlsplit(self.path)
        meddling = self.server.meddles(Asked(self.command, address.path, dict(self.headers), address.query))
        if meddling is not None:
            self.server.meddled.append(f"{self.command} {self.path}")
        if meddling == "swallowed":
            self.answer(200, b"")
            return
        if isinstance(meddling, int | tuple):
            status, code = meddling if isinstance(meddling, tuple) else (meddling, CODES[meddling])
            self.answer(status, f"<Error><Code>{code}</Code></Error>".encode())
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(self.server.damages(address.query, body))
        answer = upstream.getresponse()
        content = self.server.rewrites(answer.read())
        upstream.close()
        if meddling == "lost":
            self.close_connection = True
            return
        self.pass_on(answer, content, meddling)

    def pass_on(self, answer: http.client.HTTPResponse, content: bytes, meddling: What) -> None:
        """Send the server's answer to the client, meddled with."""
        if meddling == "half":
            content = content[: len(content) // 2]
        status = 200 if meddling == "whole" else answer.status
        self.send_response_only(status, answer.reason)
        left_out = ("connection", "transfer-encoding", "content-length", "content-range" if meddling == "whole" else "")
        for name, value in answer.getheaders():
            if name.lower() not in left_out:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if meddling == "cut":
            content, self.close_connection = content[: len(content) // 2], True
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test that fails tells enough."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str, meddles: Meddling, rewrites: Rewriting, damages: Damaging) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.meddles = meddles
        self.rewrites = rewrites
        self.damages = damages
        self.meddled: list[str] = []


@dataclass(frozen=True)
class MeddlingStore:
    """A running one."""

    endpoint: str
    meddled: list[str]
    """The requests that did not go well."""


def _untouched(_query: str, body: bytes) -> bytes:
    return body


@contextmanager
def meddling_store(
    upstream: str, meddles: Meddling, rewrites: Rewriting = bytes, damages: Damaging = _untouched
) -> Iterator[MeddlingStore]:
    """Before the S3 server at ``upstream``, whose answers it passes on as ``rewrites`` makes them, and requests' bodies
    as ``damages`` makes them."""
    server = _Server(upstream, meddles, rewrites, damages)
    with serving(server):
        yield MeddlingStore(f"http://127.0.0.1:{server.server_port}", server.meddled)
