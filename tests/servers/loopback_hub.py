"""A Hugging Face Hub on this machine: serves folders over the real protocol, with faults on demand and a log.

The Hub listens on 127.0.0.1. Large files come from a "CDN" on 127.0.0.2, under signed addresses that expire.
``python -m tests.servers.loopback_hub FOLDER`` serves every checkpoint below a folder until it is stopped.
"""

import argparse
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from tests.servers.hub_protocol import HubServer, Json, Request, ServedFile

Access = Literal["public", "gated", "private", "disabled"]


@dataclass
class Fault:
    """What goes wrong with the next requests for a path."""

    path: str
    """A shell pattern of the request's path, such as ``*/model.safetensors`` or ``/api/*``."""
    host: Literal["hub", "cdn"] = "cdn"
    method: str = "*"
    times: int | None = 1
    """Requests that meet it, from the next one on; None: all of them."""
    status: int | None = None
    """Answered instead, with ``headers`` and ``body``."""
    body: bytes = b"a fault on demand"
    headers: dict[str, str] = field(default_factory=dict)
    """Sent in place of those of the same name."""
    ending: Literal["whole", "cut", "reset", "stall", "silent", "trickle", "trickling headers"] = "whole"
    """How the body ends after ``nbytes`` bytes; silent: not even a status comes. What trickles comes byte by byte."""
    nbytes: int = 0
    meanwhile: Callable[[], object] | None = None
    """What happens on the Hub before it answers."""
    ranges: Literal["honoured", "ignored", "with status 200", "shifted", "of another size"] = "honoured"


@dataclass
class Repo:
    """A repository: its commits, and the branches and tags that point at them."""

    access: Access
    about: dict[str, Json]
    """Overrides what the API says of it: createdAt, downloads, trendingScore, pipeline_tag, tags, …"""
    commits: dict[str, dict[str, ServedFile]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches."""
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)
    """By whole names, such as ``refs/pr/7``."""

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own id stands for."""
        named = self.pull_requests | self.tags | self.refs
        commit = named.get(revision.removeprefix("refs/heads/").removeprefix("refs/tags/"), revision)
        return commit if commit in self.commits else None


class LoopbackHub:
    """A running Hub. Leave its ``with`` block and nothing of it is left."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, cdn_host: str = "127.0.0.2", cdn_port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.tokens: dict[str, set[str]] = {}
        """Valid tokens, each with the gated and private repositories that it opens."""
        self.collections: dict[str, list[tuple[str, str]]] = {}
        """By ``org/slug-id``, what is in each: its type, such as ``model``, and its name."""
        self.mirrors: dict[str, Path] = {}
        """Folders that are served as they are, below ``/mirror/NAME/``."""
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.latency = 0.0
        """Seconds before each answer."""
        self.signature_seconds = 3600.0
        self.page_length = 100
        self.next_page: str | None = None
        """Where the addresses of next pages lead, if not here: a mirror may hand out those of what it mirrors."""
        self.closing = Event()
        self._lock = Lock()
        self._secret = secrets.token_bytes()
        self._servers = (HubServer((host, port), "hub", self), HubServer((cdn_host, cdn_port), "cdn", self))
        self.endpoint, self.cdn = ("http://{}:{}".format(*server.server_address[:2]) for server in self._servers)
        self._threads = [Thread(target=server.serve_forever, args=(0.05,)) for server in self._servers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def add(
        self,
        repo_id: str,
        folder: Path,
        *,
        access: Access = "public",
        branch: str = "main",
        about: dict[str, Json] | None = None,
    ) -> str:
        """Commit a folder's files to a branch of a repository, new or old; the commit's id."""
        files = {
            path.relative_to(folder).as_posix(): ServedFile.of(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        repo = self.repos.setdefault(repo_id, Repo(access, {}))
        repo.access = access
        repo.about.update(about or {})
        content = "".join(f"{name} {file.oid}\n" for name, file in files.items())
        commit = hashlib.sha1(f"{repo_id} {len(repo.commits)}\n{content}".encode()).hexdigest()  # noqa: S324 - as git does
        repo.commits[commit] = files
        repo.refs[branch] = commit
        return commit

    @property
    def weight_bytes_sent(self) -> int:
        """The bytes of safetensors files that went out, as far as the log goes back."""
        return sum(
            request.nbytes for request in self.log if request.path.endswith(".safetensors") and request.method == "GET"
        )

    def fault_for(self, request: Request) -> Fault | None:
        """The first fault that this request meets, if any; it counts as met."""
        with self._lock:
            for fault in self.faults:
                matches = fault.host == request.host and fnmatchcase(request.path, fault.path)
                if matches and fnmatchcase(request.method, fault.method) and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    if fault.meanwhile:
                        fault.meanwhile()
                    return fault
        return None

    def sign(self, path: str) -> str:
        """The CDN address of a path, good for ``signature_seconds``."""
        expires = f"{time.time() + self.signature_seconds:.3f}"
        return f"{self.cdn}{quote(path)}?Expires={expires}&Signature={self._signature(path, expires)}"

    def signed(self, path: str, expires: str, signature: str) -> bool:
        """Whether a signature is this Hub's and still good."""
        return hmac.compare_digest(signature, self._signature(path, expires)) and time.time() < float(expires)

    def expire_signatures(self) -> None:
        """Refuse every address signed so far."""
        self._secret = secrets.token_bytes()

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path} {expires}".encode(), hashlib.sha256).hexdigest()


def main() -> None:
    """Serve the checkpoints below a folder, each under its path, and print the requests."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.loopback_hub", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="holds ORG/NAME/config.json …, or is a checkpoint itself")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--cdn-host", default="127.0.0.2")
    parser.add_argument("--cdn-port", type=int, default=8081)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--token", action="append", default=[], help="a valid token; it opens every repository")
    parser.add_argument("--gated", action="append", default=[], metavar="ORG/NAME")
    options = parser.parse_args()
    with LoopbackHub(options.host, options.port, options.cdn_host, options.cdn_port) as hub:
        hub.latency = options.latency
        for config in sorted(options.folder.rglob("config.json")):
            folder = config.parent
            name = folder.relative_to(options.folder).as_posix() if folder != options.folder else folder.absolute().name
            commit = hub.add(name, folder, access="gated" if name in options.gated else "public")
            os.write(1, f"{name} {commit}\n".encode())
        hub.tokens = {token: set(hub.repos) for token in options.token}
        os.write(1, f"HF_ENDPOINT={hub.endpoint}\n".encode())
        shown = 0
        try:
            while not hub.closing.wait(0.5):
                for request in hub.log[shown:]:
                    os.write(1, f"{request}\n".encode())
                    shown += 1
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
