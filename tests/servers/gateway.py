"""What a Pushgateway is to the job: a server that metrics are put to, which remembers them or refuses."""

import base64
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self


@dataclass
class Push:
    """What was put where."""

    path: str
    body: str
    user: str | None


@dataclass
class Gateway:
    """On this machine, at a port of its own; answers with ``status``."""

    status: int = 200
    pushes: list[Push] = field(default_factory=list)

    def __enter__(self) -> Self:
        gateway = self

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

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"
