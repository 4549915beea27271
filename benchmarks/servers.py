"""The servers of the benchmarks: a Hub whose large files nginx serves, and stores that take uploads. nginx and the
stores are processes of their own. The Hub is not, but it answers only some requests a model.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trustme

from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import ADMIN, END_WITH_PARENT, SeaweedServer, free_ports

Link = Literal["plain", "TLS", "shaped", "delayed"]
"""How the servers are reached: shaped limits each connection, and delayed lets each request wait too."""

CDN_HOST: Final = "127.0.0.2"
DOWN_RATE: Final = 90_000_000
UP_RATE: Final = 20_000_000
"""Bytes a second of one connection: what AWS's own transfer managers plan with."""
LATENCY: Final = 0.05
"""Seconds that each request waits."""
ROOT: Final = Path(__file__).parents[1]

_NGINX: Final = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr error;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    log_format requests '$msec $request_time $status $body_bytes_sent "$http_range" $uri';
    access_log {folder}/nginx.log requests;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    etag off;
    root {folder}/served;
    server {{ listen {host}:{plain}; {files} }}
    server {{ listen {host}:{tls} ssl; {files} }}
    server {{ listen {host}:{shaped}; limit_rate {down_rate}; {files} }}
    server {{
        listen {host}:{delayed};
        limit_rate {down_rate};
        auth_request /wait;
        location = /wait {{ internal; access_log off; proxy_set_header Range ""; proxy_pass {wait}; }}
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


@dataclass(frozen=True)
class Stored:
    """A request that the sink answered."""

    began: float
    ended: float
    method: str
    path: str
    nbytes: int
    query: list[str]


class Servers:
    """All of them, started when they are first needed."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """``folder``: to work in. ``stack``: stops the servers."""
        self._folder, self._stack = folder, stack
        self._ports = dict(zip(("plain", "TLS", "shaped", "delayed"), free_ports(4), strict=True))
        self._sinks: dict[Link, str] = {}
        self._seaweed: SeaweedServer | None = None
        (folder / "served" / "blobs").mkdir(parents=True)
        self.hub = stack.enter_context(LoopbackHub())
        self.hub.mirrors["wait"] = folder / "served"
        (folder / "served" / "nothing").touch()
        _write_certificates(folder)
        self._start_nginx()

    def add(self, repo_id: str, checkpoint: Path) -> None:
        """Let the Hub have a checkpoint, and nginx the files that the Hub redirects to."""
        commit = self.hub.add(repo_id, checkpoint)
        for name, file in self.hub.repos[repo_id].commits[commit].items():
            if file.in_lfs:
                link = self._folder / "served" / "blobs" / file.sha256 / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.path)

    @contextmanager
    def reading(self, link: Link) -> Iterator[dict[str, str]]:
        """The environment in which the job reads from the Hub over such a link."""
        self.hub.cdn = f"{'https' if link == 'TLS' else 'http'}://{CDN_HOST}:{self._ports[link]}"
        self.hub.latency = LATENCY if link == "delayed" else 0.0
        try:
            yield {"HF_ENDPOINT": self.hub.endpoint, "SSL_CERT_FILE": str(self._folder / "ca.pem")}
        finally:
            self.hub.latency = 0.0

    def sink(self, link: Link) -> dict[str, str]:
        """The environment in which the job writes to a store that costs next to nothing."""
        if link not in self._sinks:
            (port,) = free_ports(1)
            limits = [f"--rate={UP_RATE}"] if link in ("shaped", "delayed") else []
            limits += [f"--latency={LATENCY}"] if link == "delayed" else []
            self._start([sys.executable, "-m", "benchmarks.s3_sink", str(port), self._sink_log(link), *limits], port)
            self._sinks[link] = f"http://127.0.0.1:{port}"
        return SeaweedServer.environment_at(self._sinks[link], ADMIN)

    def seaweed(self) -> dict[str, str]:
        """The environment in which the job writes to SeaweedFS, with a bucket ``surveys``."""
        if self._seaweed is None:
            self._seaweed = SeaweedServer(self._folder / "seaweed")
            self._stack.callback(self._seaweed.kill)
            self._seaweed.start()
            self._seaweed.client().create_bucket(Bucket="surveys")
        return self._seaweed.environment()

    def sent(self, since: float) -> list[Sent]:
        """What nginx sent since a time, in the order in which it was asked for."""
        requests = []
        for line in (self._folder / "nginx.log").read_text().splitlines():
            ended, seconds, _, nbytes, range_, *_ = line.split()
            began = float(ended) - float(seconds)
            begin = range_.strip('"').removeprefix("bytes=").partition("-")[0]
            if began >= since - 0.001 and begin.isdecimal():
                requests.append(Sent(began, int(begin), int(nbytes)))
        return sorted(requests, key=lambda request: request.began)

    def hub_requests(self) -> int:
        """How many requests the Hub's own host has answered, without those by which nginx waits."""
        return sum(request.host == "hub" and not request.path.startswith("/mirror/") for request in self.hub.log)

    def stored(self, link: Link, since: float) -> list[Stored]:
        """What the sink was sent since a time."""
        lines = Path(self._sink_log(link)).read_text().splitlines() if link in self._sinks else []
        requests = [Stored(**json.loads(line)) for line in lines]
        return [request for request in requests if request.began >= since]

    def _sink_log(self, link: Link) -> str:
        return str(self._folder / f"sink-{link}.log")

    def _start_nginx(self) -> None:
        ports = {name.lower(): port for name, port in self._ports.items()}
        wait = f"{self.hub.endpoint}/mirror/wait/nothing"
        text = _NGINX.format(folder=self._folder, host=CDN_HOST, files=_FILES, down_rate=DOWN_RATE, wait=wait, **ports)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(text)
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("nginx: not found, expected it in PATH; install nginx-light")
        self._start([program, "-e", "stderr", "-c", str(configuration)], self._ports["plain"], CDN_HOST)

    def _start(self, command: list[str], port: int, host: str = "127.0.0.1") -> None:
        """Start a server that ends with this process, and wait until it listens."""
        ending = [sys.executable, "-c", END_WITH_PARENT, *command]
        process = subprocess.Popen(ending, cwd=ROOT)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)  # nginx ends its worker
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command!r}: nothing listens at port {port}, expected the server within 10 s")
            time.sleep(0.02)


def _write_certificates(folder: Path) -> None:
    """``ca.pem``, and ``server.pem`` with the key of the hosts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert(CDN_HOST, "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
