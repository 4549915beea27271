"""Seconds and requests that the index of many surveys takes, in an S3 server on this machine whose every answer is
delayed.

    .venv/bin/python -m benchmarks.index                    1,000 surveys of 12 objects, 20 ms before each answer
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.many_surveys import FILES, as_bytes, commit_of, many_manifests, real_manifest
from tests.servers.meddling_store import Asked, What, meddling_store
from tests.servers.seaweed import ADMIN, SeaweedServer

ROOT = Path(__file__).parents[1]
BUCKET = "surveys"


def main() -> None:
    """Make an index from nothing, bring it up to date with nothing and with one new survey; print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__.partition("\n")[0])
    parser.add_argument("--surveys", type=int, default=1_000)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before each answer")
    options = parser.parse_args()
    asked: list[Asked] = []

    def delay(request: Asked) -> What:
        asked.append(request)
        time.sleep(options.latency)
        return None

    with tempfile.TemporaryDirectory() as temporary:
        real = real_manifest(Path(temporary))
        server = SeaweedServer(Path(temporary) / "server")
        try:
            server.start()
            writer = Writer(server)
            for folder, manifest in many_manifests(real, options.surveys):
                writer.put(f"{folder}/manifest.json", as_bytes(manifest))
                for name in (*FILES, "a", "b")[:11]:
                    writer.put(f"{folder}/{name}", b"x")
            writer.wait()
            with meddling_store(server.endpoint, delay) as proxy:
                environment = os.environ | server.environment_at(proxy.endpoint, ADMIN)
                measure("all of them", environment, asked)
                measure("nothing new", environment, asked)
                folder, manifest = next(many_manifests(real, 1))
                for number in range(2):
                    new = folder.replace(commit_of(0), commit_of(-1 - number))
                    writer.put(f"{new}/manifest.json", as_bytes(manifest | {"commit": commit_of(-1 - number)}))
                    writer.wait()
                    measure("one new", environment, asked)
        finally:
            server.kill()


class Writer:
    """Writes objects, several at once."""

    def __init__(self, server: SeaweedServer) -> None:
        self._client, self._pool = server.client(), ThreadPoolExecutor(8)
        self._client.create_bucket(Bucket=BUCKET)
        self._waiting: list[Future[object]] = []

    def put(self, key: str, content: bytes) -> None:
        """Write an object, at some time before ``wait`` returns."""
        self._waiting.append(self._pool.submit(self._client.put_object, Bucket=BUCKET, Key=f"all/{key}", Body=content))

    def wait(self) -> None:
        for written in self._waiting:
            written.result()
        self._waiting.clear()


def measure(what: str, environment: dict[str, str], asked: list[Asked]) -> None:
    """Run ``index`` and print what it took."""
    asked.clear()
    began, cpu = time.monotonic(), cpu_of_children()
    program = [sys.executable, str(ROOT / "entrypoint.py"), "index", "--output", f"s3://{BUCKET}/all"]
    subprocess.run(program, env=environment, stderr=subprocess.DEVNULL, check=True)
    seconds, cpu = time.monotonic() - began, cpu_of_children() - cpu
    manifests = sum(request.method == "GET" and request.path.endswith("/manifest.json") for request in asked)
    print(
        f"{what:>12}: {seconds:5.1f} s ({cpu:.1f} s computing), {len(asked):,} requests, {manifests:,} manifests read"
    )


def cpu_of_children() -> float:
    """Seconds that the processes which ended so far have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
