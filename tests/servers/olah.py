"""olah, the mirror of the Hub that people run themselves, before a Hub of the tests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import END_WITH_PARENT, READY_WITHIN_SECONDS, free_ports

PROGRAM = Path(sys.prefix) / "mirror" / "bin" / "olah-cli"
"""In an environment of its own: ``sh requirements/install.sh .venv/mirror mirror``."""


@contextmanager
def running_olah(hub: LoopbackHub, folder: Path) -> Iterator[str]:
    """Its address, while it runs. It keeps what it caches in the folder."""
    (port,) = free_ports(1)
    netloc = f"127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--mirror-netloc", netloc]
    options += ["--hf-scheme", "http", "--hf-netloc", hub.endpoint.removeprefix("http://")]
    options += ["--hf-lfs-netloc", hub.cdn.removeprefix("http://")]
    options += ["--repos-path", str(folder / "repos"), "--log-path", str(folder / "logs")]
    command = [sys.executable, "-c", END_WITH_PARENT, str(PROGRAM), *options]
    with (folder / "olah.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            try:
                httpx2.get(f"http://{netloc}/api/models/org/none", trust_env=False)
                break
            except httpx2.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield f"http://{netloc}"
        process.kill()
