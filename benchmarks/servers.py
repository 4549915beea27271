"""The servers of the benchmarks: a Hub whose large files nginx serves, and stores that take uploads. nginx and the
stores are processes of their own. The Hub is not, but it answers only some requests a model.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import nginx
from benchmarks.nginx import Link
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import ADMIN, END_WITH_PARENT, SeaweedServer, free_ports

UP_RATE: Final = 20_000_000
"""Bytes a second that a store takes from one connection: what AWS's own transfer managers plan with."""
LATENCY: Final = 0.05
"""Seconds that each request waits."""
ROOT: Final = Path(__file__).parents[1]


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
        links: tuple[Link, ...] = ("plain", "TLS", "shaped", "delayed")
        self._ports: dict[Link, int] = dict(zip(links, free_ports(4), strict=True))
        self._sinks: dict[Link, str] = {}
        self._seaweed: SeaweedServer | None = None
        (folder / "served" / "blobs").mkdir(parents=True)
        self.hub = stack.enter_context(LoopbackHub())
        self.hub.mirrors["wait"] = folder / "served"
        (folder / "served" / "nothing").touch()
        command = nginx.command(folder, self._ports, f"{self.hub.endpoint}/mirror/wait/nothing")
        self._start(command, self._ports["plain"], nginx.HOST)

    def add(self, repo_id: str, checkpoint: Path) -> None:
        """Let the Hub have a checkpoint, and nginx the files that the Hub redirects to."""
        commit = self.hub.add(repo_id, checkpoint)
        for file in self.hub.repos[repo_id].commits[commit].values():
            if file.in_lfs:
                nginx.publish(self._folder, file.path, file.sha256)

    @contextmanager
    def reading(self, link: Link) -> Iterator[dict[str, str]]:
        """The environment in which the job reads from the Hub over such a link."""
        self.hub.cdn = f"{'https' if link == 'TLS' else 'http'}://{nginx.HOST}:{self._ports[link]}"
        self.hub.latency = LATENCY if link == "delayed" else 0.0
        try:
            yield {"HF_ENDPOINT": self.hub.endpoint, "SSL_CERT_FILE": str(self._folder / "ca.pem")}
        finally:
            self.hub.latency = 0.0

    def address_over_tls(self, repo_id: str, name: str) -> tuple[str, str]:
        """Where nginx has a file of a repository, and the file with the certificate to trust."""
        repo = self.hub.repos[repo_id]
        sha256 = repo.commits[repo.refs["main"]][name].sha256
        url = f"https://{nginx.HOST}:{self._ports['TLS']}/blobs/{sha256}/{name}"
        return url, str(self._folder / "ca.pem")

    def sink(self, link: Link) -> dict[str, str]:
        """The environment in which the job writes to a store that costs next to nothing."""
        if link not in self._sinks:
            (port,) = free_ports(1)
            limits = [f"--rate={UP_RATE}"] if link in ("shaped", "delayed") else []
            limits += [f"--latency={LATENCY}"] if link == "delayed" else []
            self._start(
                [sys.executable, "-m", "benchmarks.sink.server", str(port), self._sink_log(link), *limits], port
            )
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

    def sent(self, since: float) -> list[nginx.Sent]:
        """The ranges of large files that were sent since a time."""
        return nginx.sent(self._folder, since)

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
