"""Ranges through TLS and proxies. They go through another client than a file's address, and must be treated alike."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from hashlib import shake_256
from pathlib import Path

import huggingface_hub
import pytest

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.sources.http import open_http
from job.checkpoints.sources.hub import open_hub
from job.checkpoints.transport import http_bodies
from job.checkpoints.transport.parallel import stream_range
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import ConfigError, TransientError
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.proxy import Proxy, running_proxy

CONTENT = shake_256(b"weights").digest(1_500_000)
WEIGHTS = "model.safetensors"
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05)

Tls = Callable[[str], AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def new_connections() -> Iterator[None]:
    """Each test has connections of its own, and reads the environment anew."""
    huggingface_hub.close_session()
    http_bodies._pool.cache_clear()
    yield
    huggingface_hub.close_session()
    http_bodies._pool.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(CONTENT)
    (folder / "config.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy, which the environment names with a user and a password."""
    with running_proxy() as proxy:
        proxy.users = {"reader:p@ss wörd"}
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://reader:p%40ss%20w%C3%B6rd@{proxy.host}")
        yield proxy


def open_model(hub: LoopbackHub, token: str | None = None) -> Checkpoint:
    return open_hub("org/model", None, endpoint=hub.endpoint, token=token, read_timeout=5.0, retry_policy=IMPATIENT)


def netloc(url: str) -> str:
    return url.removeprefix("http://").removeprefix("https://")


def test_a_range_over_tls_is_exactly_its_bytes_also_after_breaks(
    hub: LoopbackHub, folder: Path, behind_tls: Tls, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mirrors["model"] = folder
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_folder / "ca.pem"))
    with behind_tls(hub.endpoint) as address:
        checkpoint = open_http(f"{address}/mirror/model", read_timeout=5.0, retry_policy=IMPATIENT)
        path = f"/mirror/model/{WEIGHTS}"
        hub.faults = [Fault(path, "hub", "GET", ending=ending, nbytes=200_000) for ending in ("cut", "reset")]
        chunks = stream_range(partial(checkpoint.fill, WEIGHTS), 5, 1_400_000, chunk_nbytes=500_000, connections=3)
        assert b"".join(chunks) == CONTENT[5:1_400_000]
        assert [fault.times for fault in hub.faults] == [0, 0]


def test_a_certificate_that_is_not_trusted_is_named(
    hub: LoopbackHub, folder: Path, behind_tls: Tls, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mirrors["model"] = folder
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_folder / "ca.pem"))
    with behind_tls(hub.endpoint) as address:
        checkpoint = open_http(f"{address}/mirror/model", read_timeout=5.0, retry_policy=IMPATIENT)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(TransientError, match=r"ConnectError .*CERTIFICATE_VERIFY_FAILED.*, 3 times in a row"):
            checkpoint.fetch(WEIGHTS, 0, 100)


def test_ranges_go_through_the_proxy_with_its_password(hub: LoopbackHub, folder: Path, proxy: Proxy) -> None:
    hub.add("org/model", folder)
    hub.tokens = {"hf_good": {"org/model"}}
    assert open_model(hub, "hf_good").fetch(WEIGHTS, 10, 1_000_000) == CONTENT[10:1_000_000]
    assert proxy.served.count(netloc(hub.cdn)) == 1
    assert len(proxy.served) == len(hub.log)
    assert {(request.host, request.token) for request in hub.log} == {("hub", "hf_good"), ("cdn", None)}


def test_ranges_go_through_a_tunnel_of_the_proxy(
    hub: LoopbackHub,
    folder: Path,
    proxy: Proxy,
    behind_tls: Tls,
    tls_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.mirrors["model"] = folder
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_folder / "ca.pem"))
    with behind_tls(hub.endpoint) as address:
        checkpoint = open_http(f"{address}/mirror/model", read_timeout=5.0, retry_policy=IMPATIENT)
        tunnels = proxy.served.count(netloc(address))
        assert checkpoint.fetch(WEIGHTS, 10, 1_000_000) == CONTENT[10:1_000_000]
        assert checkpoint.fetch(WEIGHTS, 10, 20) == CONTENT[10:20]
        assert proxy.served.count(netloc(address)) == tunnels + 1
        http_bodies._pool.cache_clear()
        proxy.users = {"another:user"}
        with pytest.raises(ConfigError, match=rf"the proxy http://{proxy.host} refuses .*ProxyError 407") as raised:
            checkpoint.fetch(WEIGHTS, 0, 10)
        assert "p@ss" not in str(raised.value)
        proxy.users, proxy.refused = set(), {netloc(address): 502}
        with pytest.raises(TransientError, match=r"through the proxy .*: ProxyError 502") as passing:
            checkpoint.fetch(WEIGHTS, 0, 10)
        assert passing.value.server == address


def test_a_proxy_that_refuses_the_user_only_for_ranges_is_a_setting(
    hub: LoopbackHub, folder: Path, proxy: Proxy
) -> None:
    hub.add("org/model", folder)
    proxy.refused = {netloc(hub.cdn): 407}
    with pytest.raises(ConfigError, match=rf"{hub.cdn}/.*: the proxy http://{proxy.host} refuses .*status 407"):
        open_model(hub).fetch(WEIGHTS, 0, 10)


def test_a_host_in_no_proxy_is_asked_directly(
    hub: LoopbackHub, folder: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/model", folder)
    monkeypatch.setenv("NO_PROXY", hub.cdn.removeprefix("http://").partition(":")[0])
    assert open_model(hub).fetch(WEIGHTS, 0, 10) == CONTENT[:10]
    assert netloc(hub.cdn) not in proxy.served


def test_a_proxy_that_is_gone_is_named(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/model", folder)
    checkpoint = open_model(hub)
    checkpoint.fetch(WEIGHTS, 0, 10)
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    with pytest.raises(TransientError, match=r"through the proxy http://127.0.0.1:9\): ConnectError") as raised:
        checkpoint.fetch(WEIGHTS, 0, 10)
    assert raised.value.server == "http://127.0.0.1:9"
    assert "secret" not in str(raised.value)


def test_a_password_in_the_endpoint_is_sent_with_ranges(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/model", folder)
    hub.tokens = {"Basic cmVhZGVyOnNlY3JldA==": set()}  # reader:secret
    endpoint = hub.endpoint.replace("http://", "http://reader:secret@")
    checkpoint = open_hub("org/model", None, endpoint=endpoint, token=None, read_timeout=5.0, retry_policy=IMPATIENT)
    assert checkpoint.read("config.json", 100) == b"{}"
    assert {request.token for request in hub.log} == {"Basic cmVhZGVyOnNlY3JldA=="}


def test_connections_are_used_again_and_one_that_the_server_closed_costs_no_retry(
    hub: LoopbackHub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hub.mirrors["model"] = folder
    checkpoint = open_http(f"{hub.endpoint}/mirror/model", read_timeout=5.0, retry_policy=IMPATIENT)
    server = hub._servers[0]
    checkpoint.fetch(WEIGHTS, 0, 10)
    kept = set(server.connections)
    for begin in range(5):
        checkpoint.fetch(WEIGHTS, begin, 100_000)
    assert server.connections == kept
    for connection in kept:
        server.shutdown_request(connection)
    assert checkpoint.fetch(WEIGHTS, 0, 10) == CONTENT[:10]
    assert not [record for record in caplog.records if "trying again" in record.getMessage()]


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mirrors["model"] = folder
    checkpoint = open_http(f"{hub.endpoint}/mirror/model", read_timeout=5.0, retry_policy=IMPATIENT)
    checkpoint.fetch(WEIGHTS, 0, 10)
    before = set(hub._servers[0].connections)
    monkeypatch.setattr(http_bodies, "_KEEP_ALIVE_SECONDS", 0.0)
    checkpoint.fetch(WEIGHTS, 0, 10)
    assert len(hub._servers[0].connections - before) == 1
