"""An HTTP server of the tests, while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread, until the block ends; then nothing of it is left."""
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """A request's body, whether its length is told before it or it comes in HTTP's chunks."""
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while length := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(length)
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        """HTTP's own trailers."""
    return body
