"""An HTTP proxy, by absolute addresses and by CONNECT, that may ask for a password or refuse some hosts."""

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from tests.servers.serving import serving


@dataclass
class Proxy:
    """A running one."""

    host: str = ""
    users: set[str] = field(default_factory=set)
    """Each as ``user:password``. If there is none, everyone is served."""
    refused: dict[str, int] = field(default_factory=dict)
    """The status for each host and port that is not served."""
    served: list[str] = field(default_factory=list)
    """The host and port of each request that was served."""

    def status_for(self, target: str, credentials: str | None) -> int:
        """200, or the status with which a request is refused."""
        user = base64.b64decode((credentials or "").removeprefix("Basic ")).decode()
        if self.users and user not in self.users:
            return 407
        if target not in self.refused:
            self.served.append(target)
        return self.refused.get(target, 200)


@contextmanager
def running_proxy() -> Iterator[Proxy]:
    """On this machine, at a port of its own."""
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def is_refused(self, target: str) -> bool:
            status = proxy.status_for(target, self.headers["Proxy-Authorization"])
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            return status != 200

        def do_CONNECT(self) -> None:
            if self.is_refused(self.path):
                return
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as server:
                answers = Thread(target=pass_on, args=(server, self.connection))
                answers.start()
                pass_on(self.connection, server)
                answers.join()

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if self.is_refused(url.netloc):
                return
            connection = HTTPConnection(url.netloc)
            headers = {name: value for name, value in self.headers.items() if name != "Proxy-Authorization"}
            connection.request(self.command, url._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())
            connection.close()

        do_HEAD = do_GET  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.host = f"127.0.0.1:{server.server_port}"
    with serving(server):
        yield proxy


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one of the ends is closed."""
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            end.close()
