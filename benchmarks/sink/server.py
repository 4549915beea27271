"""Receives the requests to the sink, and logs them.

    python -m benchmarks.sink.server PORT LOG [--rate BYTES] [--latency SECONDS]

The bytes of large parts do not even leave the kernel. Their CRC32 is the one that the client sent: over loopback, every
byte arrives as it was.
"""

import argparse
import base64
import hashlib
import json
import socket
import sys
import time
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from threading import Lock
from typing import IO, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from benchmarks.sink.objects import Content, Request, Sink

KEPT_NBYTES: Final = 1 << 16
"""The first bytes that are kept of a large part."""
RECEIVE_NBYTES: Final = 1 << 18


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    rfile: BufferedReader
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def respond(self) -> None:
        began, url = time.time(), urlsplit(self.path)
        path, query = unquote(url.path).strip("/"), dict(parse_qsl(url.query, keep_blank_values=True))
        body = self._receive(is_part="partNumber" in query)
        time.sleep(self.server.latency)
        with self.server.lock:
            entry = {"began": began, "ended": time.time(), "method": self.command, "path": path, "nbytes": body.nbytes}
            print(json.dumps(entry | {"query": sorted(query)}), file=self.server.log, flush=True)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, query, headers, body)
            status, document, answered = self.server.sink.answer(request)
        self.send_response_only(status)
        for name, value in ({"Date": formatdate(usegmt=True), "Content-Length": str(len(document))} | answered).items():
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
        if rate := self.server.rate:
            time.sleep(max(0.0, received / rate - (time.monotonic() - began)))

    def _discard(self, nbytes: int) -> int:
        # MSG_TRUNC: the kernel throws the bytes away and copies nothing (man 7 tcp).
        discarded: int = self.connection.recv_into(self.server.room, nbytes, socket.MSG_TRUNC)
        if not discarded:
            raise ConnectionResetError("the client ended in the middle of a body")
        return discarded

    def log_message(self, format: str, *arguments: object) -> None:
        """The log is a file of its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, log: IO[str], rate: float, latency: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.log, self.rate, self.latency = log, rate, latency
        self.sink, self.lock, self.room = Sink(), Lock(), bytearray(RECEIVE_NBYTES)
        if rate:  # or the kernel would take megabytes ahead of the rate
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_NBYTES)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that goes away is no error
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed names private types


def main() -> None:
    """Serve until somebody ends the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink.server", description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second of each connection; 0: all that come")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    with options.log.open("w") as log:
        _Server(options.port, log, options.rate, options.latency).serve_forever()


if __name__ == "__main__":
    main()
