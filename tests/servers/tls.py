"""TLS before a server of the tests: stunnel and nginx where they are installed, else Python's own ssl in a thread.

What a client sends may differ over TLS: boto3 sends checksums after the body there, in ``aws-chunked`` framing.
"""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

import pytest
import trustme

from tests.servers.proxy import pass_on
from tests.servers.seaweed import END_WITH_PARENT, READY_WITHIN_SECONDS, free_ports

STUNNEL_CONF: Final = """\
foreground = yes
pid =
debug = warning
[s3]
accept = 127.0.0.1:{port}
connect = {upstream}
cert = {folder}/server.pem
"""

NGINX_CONF: Final = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        client_max_body_size 0;
        location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; }}
    }}
}}
"""

SBIN: Final = "/usr/sbin:/usr/local/sbin"
PROGRAMS: Final = {
    "stunnel": ("stunnel4", STUNNEL_CONF, []),
    "nginx": ("nginx", NGINX_CONF, ["-e", "stderr", "-c"]),
}
"""By name: the program, its configuration, and the options that come before the configuration's path."""

INSTALLED: Final = [
    name for name, (program, _, _) in PROGRAMS.items() if shutil.which(program) or shutil.which(program, path=SBIN)
]


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ca.pem`` and ``server.pem``: a certificate for 127.0.0.1, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    return folder


@pytest.fixture(params=INSTALLED or ["ssl"])
def behind_tls(
    request: pytest.FixtureRequest, tls_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], AbstractContextManager[str]]:
    """Puts TLS before an ``http://`` address, and gives the ``https://`` one. boto3 trusts its certificate."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tls_folder / "ca.pem"))

    @contextmanager
    def terminated(endpoint: str) -> Iterator[str]:
        (port,), upstream = free_ports(1), urlsplit(endpoint).netloc
        with _terminator(request.param, tls_folder, tmp_path, port, upstream):
            yield f"https://127.0.0.1:{port}"

    return terminated


@contextmanager
def _terminator(name: str, tls_folder: Path, folder: Path, port: int, upstream: str) -> Iterator[None]:
    if name not in PROGRAMS:
        with _ssl_terminator(tls_folder / "server.pem", port, upstream):
            yield
        return
    program, configuration, options = PROGRAMS[name]
    path = shutil.which(program) or shutil.which(program, path=SBIN) or program
    shutil.copy(tls_folder / "server.pem", folder)
    (folder / "terminator.conf").write_text(configuration.format(port=port, upstream=upstream, folder=folder))
    command = [sys.executable, "-c", END_WITH_PARENT, path, *options, str(folder / "terminator.conf")]
    with (
        (folder / "terminator.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for_port(port, process)
            yield
        finally:
            process.terminate()  # nginx ends its worker


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen; see terminator.log beside its configuration")
        time.sleep(0.05)


@contextmanager
def _ssl_terminator(certificate: Path, port: int, upstream: str) -> Iterator[None]:
    """Decrypts what comes to the port and passes it on, a thread for each direction of a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    host, _, upstream_port = upstream.partition(":")
    listener = socket.create_server(("127.0.0.1", port))

    def serve(connection: socket.socket) -> None:
        try:
            with (
                context.wrap_socket(connection, server_side=True) as client,
                socket.create_connection((host, int(upstream_port))) as server,
            ):
                answers = Thread(target=pass_on, args=(server, client))
                answers.start()
                pass_on(client, server)
                answers.join()
        except OSError:
            connection.close()  # this client's connection alone

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            Thread(target=serve, args=(connection,), daemon=True).start()

    thread = Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
