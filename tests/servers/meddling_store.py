"""Stands before an S3 server: refuses what it is told to, loses answers, and passes on all else as it came.

The ``Host`` header is passed on too, so that signatures stay valid.
"""

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tests.servers.serving import serving


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]


Meddling: TypeAlias = Callable[[Asked], int | Literal["lost"] | None]
"""The status that is answered in the server's place; or that its answer gets lost; None: nothing is done."""


CODES = {
    400: "InvalidArgument",
    405: "MethodNotAllowed",
    409: "ConditionalRequestConflict",
    501: "NotImplemented",
    503: "SlowDown",
}
"""What S3 calls these answers."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        meddling = self.server.meddles(Asked(self.command, urlsplit(self.path).path, dict(self.headers)))
        if meddling is not None:
            self.server.meddled.append(f"{self.command} {self.path}")
        if isinstance(meddling, int):
            body = f"<Error><Code>{CODES[meddling]}</Code></Error>".encode()
            self.send_response(meddling)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = self.server.rewrites(answer.read())
        upstream.close()
        if meddling == "lost":
            self.close_connection = True
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test that fails tells enough."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str, meddles: Meddling, rewrites: Callable[[bytes], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.meddles = meddles
        self.rewrites = rewrites
        self.meddled: list[str] = []


@dataclass(frozen=True)
class MeddlingStore:
    """A running one."""

    endpoint: str
    meddled: list[str]
    """The requests that did not go well."""


@contextmanager
def meddling_store(
    upstream: str, meddles: Meddling, rewrites: Callable[[bytes], bytes] = bytes
) -> Iterator[MeddlingStore]:
    """Before the S3 server at ``upstream``, whose answers it passes on as ``rewrites`` makes them."""
    server = _Server(upstream, meddles, rewrites)
    with serving(server):
        yield MeddlingStore(f"http://127.0.0.1:{server.server_port}", server.meddled)
