"""nginx as the CDN of the Hub: sends files by ``sendfile``, plainly, over TLS, or as slowly as S3 sends to one."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trustme

Link = Literal["plain", "TLS", "shaped", "delayed"]
"""How the servers are reached: shaped limits each connection, and delayed lets each request wait too."""

HOST: Final = "127.0.0.2"
DOWN_RATE: Final = 90_000_000
"""Bytes a second of one connection: what AWS's own transfer managers plan with."""

_CONFIGURATION: Final = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr error;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    log_format requests '$msec $request_time $body_bytes_sent "$http_range"';
    access_log {folder}/nginx.log requests;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    etag off;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    root {folder}/served;
    server {{ listen {plain}; {files} }}
    server {{ listen {tls} ssl; {files} }}
    server {{ listen {shaped}; limit_rate {down_rate}; {files} }}
    server {{
        listen {delayed};
        limit_rate {down_rate};
        # nginx cannot wait; it asks the Hub, which does.
        auth_request /wait;
        location = /wait {{ internal; access_log off; proxy_set_header Range ""; proxy_pass {waits}; }}
        {files}
    }}
}}
"""
_FILES: Final = """location ~ "^/blobs/(?<oid>[0-9a-f]+)/" { add_header ETag '"$oid"'; }"""


@dataclass(frozen=True)
class Sent:
    """A request that nginx answered."""

    began: float
    """Unix time."""
    begin: int
    """The first byte asked for."""
    nbytes: int
    """Of the body."""


def command(folder: Path, ports: Mapping[Link, int], waits: str) -> list[str]:
    """What starts nginx. ``folder``: what it serves is below ``served``. ``waits``: an address that answers late.

    Raises:
        FileNotFoundError: nginx is not installed.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise FileNotFoundError("nginx: found none, expected it in PATH; install nginx-light")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    listen = {link.lower(): f"{HOST}:{port}" for link, port in ports.items()}
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, files=_FILES, down_rate=DOWN_RATE, waits=waits, **listen)
    )
    return [program, "-e", "stderr", "-c", str(configuration)]


def publish(folder: Path, file: Path, sha256: str) -> None:
    """Serve a file at the address at which the Hub's CDN has it."""
    link = folder / "served" / "blobs" / sha256 / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)


def sent(folder: Path, since: float) -> list[Sent]:
    """The ranges that nginx sent since a time, in the order in which they were asked for."""
    requests = []
    for line in (folder / "nginx.log").read_text().splitlines():
        ended, seconds, nbytes, asked = line.split()
        began, begin = float(ended) - float(seconds), asked.strip('"').removeprefix("bytes=").partition("-")[0]
        if began >= since - 0.001 and begin.isdecimal():  # nginx counts in milliseconds
            requests.append(Sent(began, int(begin), int(nbytes)))
    return sorted(requests, key=lambda request: request.began)
