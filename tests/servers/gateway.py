"""What a Pushgateway is to the job: a server that metrics are put to, which remembers them or refuses."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers.serving import serving


@dataclass
class Push:
    """What was put where."""

    path: str
    body: str
    user: str | None


@dataclass
class Gateway:
    """A running one; it answers with ``status``."""

    host: str = ""
    status: int = 200
    pushes: list[Push] = field(default_factory=list)


@contextmanager
def running_gateway() -> Iterator[Gateway]:
    """On this machine, at a port of its own."""
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            credentials = self.headers.get("Authorization", "").removeprefix("Basic ")
            user = base64.b64decode(credentials).decode() or None
            gateway.pushes.append(Push(self.path, body, user))
            self.send_response(gateway.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.host = f"127.0.0.1:{server.server_port}"
    with serving(server):
        yield gateway
