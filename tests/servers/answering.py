"""A server that gives every S3 request the same answer."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers.serving import serving


def server_that_answers(status: int, code: str) -> AbstractContextManager[str]:
    """The address of a server with one error for everything."""
    headers = {"x-amz-bucket-region": "eu-central-1"} if code == "PermanentRedirect" else {}
    return _server(status, f"<Error><Code>{code}</Code><Message>as you see</Message></Error>", headers)


def server_that_lists(*keys: str) -> AbstractContextManager[str]:
    """The address of a server whose buckets hold these keys, each with one byte."""
    contents = (f"<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;0&quot;</ETag></Contents>" for key in keys)
    return _server(200, f"<ListBucketResult>{''.join(contents)}</ListBucketResult>", {})


@contextmanager
def _server(status: int, document: str, headers: Mapping[str, str]) -> Iterator[str]:
    body = f"<?xml version='1.0'?>{document}".encode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            """Not on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"
