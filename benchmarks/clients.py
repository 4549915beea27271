"""Processor time that HTTP clients take for ranges of 4 MiB, over plain HTTP and TLS, beside the job's own stream.

    .venv/bin/python -m benchmarks.clients                    needs nginx, and 1.1 GB of disk and of page cache
    .venv/bin/pip install pycurl                              to have libcurl in the comparison

Each client runs in a process of its own, whose time alone counts. The server is nginx on this machine.
"""

import argparse
import http.client
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Final, get_args
from urllib.parse import urlsplit

import httpx2
import urllib3

from benchmarks import nginx
from job.checkpoints.checkpoint import CHUNK_NBYTES, TensorLocation
from job.checkpoints.sources.http import open_http
from job.limits.memory import keep_freed_memory
from tests.servers.seaweed import free_ports

NBYTES: Final = 256 * CHUNK_NBYTES
FILE: Final = "w.bin"
OBJECT_ID: Final = "0" * 64
ROUNDS: Final = 3
Read = Callable[[int, memoryview], object]
"""``read(begin, buffer)`` fills a buffer with the file's bytes from ``begin`` on."""
Client = Callable[[str, int], Callable[[], object]]
"""``client(url, connections)`` gives a function that reads the whole file."""


def main() -> None:
    """Print a table, or measure the one client that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        keep_freed_memory()  # as the job does
        print(processor_seconds(CLIENTS[options.client], options.url, *options.connections))
        return
    names = [name for name in CLIENTS if name != "pycurl" or find_spec("pycurl")]
    with served() as (plain, tls, authority):
        print(f"{'processor seconds per GB':<32}{'plain':>8}{'TLS':>8}")
        for connections in options.connections:
            for name in names:
                seconds = [measured(name, url, connections, authority) for url in (plain, tls)]
                print(f"{name + f', {connections} connections':<32}{seconds[0]:>8.2f}{seconds[1]:>8.2f}")


def measured(client: str, url: str, connections: int, authority: Path) -> float:
    """The least processor time of a client in several rounds, in seconds per GB."""
    command = [sys.executable, "-m", "benchmarks.clients", "--client", client, "--url", url]
    environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
    run = [*command, "--connections", str(connections)]
    return min(float(subprocess.check_output(run, env=environment, text=True)) for _ in range(ROUNDS))


def processor_seconds(client: Client, url: str, connections: int) -> float:
    """What a client takes, in seconds per GB."""
    read_all = client(url, connections)
    before = resource.getrusage(resource.RUSAGE_SELF)
    read_all()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / NBYTES * 1e9


def in_threads(reader: Callable[[str], Read]) -> Client:
    """A client that reads the file by threads, each with a reader and a buffer of its own."""

    def read_all(url: str, connections: int) -> None:
        def read_share(first: int) -> None:
            read, buffer = reader(url), memoryview(bytearray(CHUNK_NBYTES))
            for begin in range(first * CHUNK_NBYTES, NBYTES, connections * CHUNK_NBYTES):
                read(begin, buffer)

        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(read_share, range(connections)))

    return lambda url, connections: partial(read_all, url, connections)


def byte_range(begin: int) -> dict[str, str]:
    """The header that asks for a chunk."""
    return {"Range": f"bytes={begin}-{begin + CHUNK_NBYTES - 1}"}


def by_httpx2(url: str) -> Read:
    """As the Hub's client reads: in pieces, which are joined."""
    session = httpx2.Client()

    def read(begin: int, _buffer: memoryview) -> bytes:
        joined = BytesIO()
        with session.stream("GET", url, headers=byte_range(begin)) as response:
            for piece in response.iter_raw():
                joined.write(piece)
        return joined.getvalue()

    return read


def by_urllib3(url: str) -> Read:
    """``readinto`` in pieces of 256 KiB, as the job reads."""
    pool = urllib3.PoolManager(ssl_context=httpx2.create_ssl_context())

    def read(begin: int, buffer: memoryview) -> None:
        response = pool.request("GET", url, headers=byte_range(begin), preload_content=False)
        position = 0
        while nbytes := response.readinto(buffer[position : position + (1 << 18)]):
            position += nbytes

    return read


def by_http_client(url: str) -> Read:
    """``readinto`` of the standard library."""
    host, is_plain = urlsplit(url).netloc, urlsplit(url).scheme == "http"
    connection = (
        http.client.HTTPConnection(host)
        if is_plain
        else http.client.HTTPSConnection(host, context=httpx2.create_ssl_context())
    )

    def read(begin: int, buffer: memoryview) -> int:
        connection.request("GET", urlsplit(url).path, headers=byte_range(begin))
        return connection.getresponse().readinto(buffer)

    return read


def by_pycurl(url: str) -> Read:
    """libcurl, which gives pieces to a function."""
    pycurl = importlib.import_module("pycurl")
    curl = pycurl.Curl()
    for name, value in {
        "URL": url,
        "CAINFO": os.environ["SSL_CERT_FILE"],
        "NOSIGNAL": 1,
        "BUFFERSIZE": 1 << 19,
    }.items():
        curl.setopt(getattr(pycurl, name), value)

    def read(begin: int, buffer: memoryview) -> None:
        position = 0

        def write(piece: bytes) -> None:
            nonlocal position
            buffer[position : position + len(piece)] = piece
            position += len(piece)

        curl.setopt(pycurl.WRITEFUNCTION, write)
        curl.setopt(pycurl.RANGE, byte_range(begin)["Range"].removeprefix("bytes="))
        curl.perform()

    return read


def by_stream(url: str, connections: int) -> Callable[[], object]:
    """``Checkpoint.stream``, with all its checks."""
    checkpoint = open_http(url.removesuffix(f"/{FILE}"), read_timeout=30.0, extra_names=(FILE,))
    location = TensorLocation(FILE, 0, NBYTES, "U8", (NBYTES // 4096, 4096))
    return lambda: deque(checkpoint.stream(location, connections), maxlen=0)


CLIENTS: Final[dict[str, Client]] = {
    "httpx2": in_threads(by_httpx2),
    "urllib3": in_threads(by_urllib3),
    "http.client": in_threads(by_http_client),
    "pycurl": in_threads(by_pycurl),
    "Checkpoint.stream": by_stream,
}


@contextmanager
def served() -> Iterator[tuple[str, str, Path]]:
    """A file's addresses over plain HTTP and TLS, and the authority that signed the server's certificate."""
    with tempfile.TemporaryDirectory() as name:
        folder, links = Path(name), get_args(nginx.Link)
        folder.chmod(0o755)  # nginx's workers have another user
        ports: dict[nginx.Link, int] = dict(zip(links, free_ports(len(links)), strict=True))
        (folder / FILE).write_bytes(os.urandom(NBYTES))
        nginx.publish(folder, folder / FILE, OBJECT_ID)
        command, hosts = (
            nginx.command(folder, ports, "http://127.0.0.1"),
            {link: f"{nginx.HOST}:{ports[link]}" for link in links},
        )
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL
        ) as process:  # it logs each name that it has no file for
            try:
                time.sleep(1.0)
                path = f"blobs/{OBJECT_ID}/{FILE}"
                yield f"http://{hosts['plain']}/{path}", f"https://{hosts['TLS']}/{path}", folder / "ca.pem"
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
