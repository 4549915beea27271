"""A folder as a web server or a bucket serves it: files by their addresses, nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.browser.chromium import PAGES_HOST
from tests.servers.serving import serving


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Not on the test's output."""


@contextmanager
def folder_over_http(folder: Path) -> Iterator[str]:
    """The address of a folder on loopback, by a name under which a browser does not trust it as local."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    with serving(server):
        yield f"http://{PAGES_HOST}:{server.server_port}"
