"""Servers that are slow without end, that cannot be reached, or that lie behind a proxy: each read comes to an end."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import huggingface_hub
import pytest
from rich.console import Console

from entrypoint import main
from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.sources.access import Access
from job.checkpoints.sources.hub import open_hub
from job.checkpoints.sources.s3 import open_s3
from job.checkpoints.transport.cooldowns import Cooldown, Cooldowns
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.parallel import stream_range
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import ConfigError, TransientError
from job.models.references import parse_reference
from job.monitor.current import CurrentStage
from job.monitor.metrics import Metrics
from job.monitor.progress import ProgressReporter
from job.plan import plan_list, resolve_list
from job.settings import Settings, read_settings
from job.store.open import open_store
from job.survey import survey_models
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.seaweed import free_ports
from tests.servers.serving import serving

CONTENT = bytes(range(256)) * 4_000
WEIGHTS = "*/model.safetensors"
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05)
HASTY = replace(IMPATIENT, min_rate=10_000, slow_seconds=0.3, answer_seconds=0.4)


@pytest.fixture
def open_model(hub: LoopbackHub, tmp_path: Path) -> Callable[..., Checkpoint]:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_bytes(b"{}")
    hub.add("org/model", folder)

    def open_model(deadline: Deadline | None = None) -> Checkpoint:
        return open_hub(
            "org/model",
            None,
            endpoint=hub.endpoint,
            token=None,
            read_timeout=0.2,
            retry_policy=HASTY,
            deadline=deadline,
        )

    return open_model


SLOW = {
    "trickle": (Fault(WEIGHTS, ending="trickle", nbytes=1_000), "expected at least 10,000 bytes a second"),
    "trickling-headers": (Fault(WEIGHTS, ending="trickling headers"), "no whole answer within 0.3 s"),
    "trickling-headers-of-resolve": (Fault(WEIGHTS, "hub", ending="trickling headers"), "no whole answer within 0.4 s"),
    "trickling-api": (Fault("/api/*", "hub", ending="trickle", nbytes=3), "no whole answer within 0.4 s"),
    "trickling-headers-of-the-api": (Fault("/api/*", "hub", ending="trickling headers"), "no whole answer within 0.4"),
    "reset-after-each-byte": (Fault(WEIGHTS, ending="reset", nbytes=1), "ReadError"),
    "cut-after-some-bytes": (Fault(WEIGHTS, ending="cut", nbytes=500), "RemoteProtocolError"),
}


@pytest.mark.parametrize(("fault", "message"), SLOW.values(), ids=SLOW)
def test_a_server_that_stays_slow_is_given_up(
    hub: LoopbackHub, open_model: Callable[[], Checkpoint], fault: Fault, message: str
) -> None:
    hub.faults = [Fault(**{**vars(fault), "times": None})]
    with pytest.raises(TransientError, match=rf"{message}.*, 3 times in a row; try again later"):
        open_model().fetch("model.safetensors", 100, 900_000)
    path = fault.path.strip("*")
    assert len([request for request in hub.log if path in request.path and request.host == fault.host]) == 3


@pytest.mark.parametrize("fault", [fault for fault, _ in SLOW.values()], ids=SLOW)
def test_a_server_that_is_slow_once_is_asked_again(
    hub: LoopbackHub, open_model: Callable[[], Checkpoint], fault: Fault
) -> None:
    hub.faults = [Fault(**{**vars(fault), "ending": "cut" if fault.ending == "trickle" else fault.ending})]
    assert open_model().fetch("model.safetensors", 100, 900_000) == CONTENT[100:900_000]


def test_progress_counts_over_several_attempts(hub: LoopbackHub, open_model: Callable[[], Checkpoint]) -> None:
    """3,000 bytes are progress here: two attempts bring them."""
    hub.faults = [Fault(WEIGHTS, ending="cut", nbytes=1_600, times=20)]
    assert open_model().fetch("model.safetensors", 100, 900_000) == CONTENT[100:900_000]


def test_a_store_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_that_trickles() as (endpoint, asked):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        policy = replace(HASTY, min_rate=1_000_000)
        checkpoint = open_s3("s3://bucket/model", read_timeout=2.0, retry_policy=policy)
        with pytest.raises(TransientError, match=r"expected at least 1,000,000 bytes a second, 3 times in a row"):
            checkpoint.fetch("model.safetensors", 0, 100_000)
    assert len(asked) == 3


@contextmanager
def s3_that_trickles() -> Iterator[tuple[str, list[str]]]:
    """The address of an S3 store with one object, which it sends byte by byte, and the reads that it was asked for."""
    asked: list[str] = []
    listing = (
        b"<ListBucketResult><Contents><Key>model/model.safetensors</Key><Size>100000</Size>"
        b"<ETag>&quot;0&quot;</ETag></Contents></ListBucketResult>"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "list-type" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", str(len(listing)))
                self.end_headers()
                self.wfile.write(listing)
                return
            asked.append(self.path)
            self.send_response(206)
            begin = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            for name, value in {
                "Content-Length": str(100_000 - begin),
                "Content-Range": f"bytes {begin}-99999/100000",
                "ETag": '"0"',
            }.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for _ in range(500):
                    self.wfile.write(b".")
                    time.sleep(0.02)
            except OSError:
                self.close_connection = True  # the client has gone away

        def log_message(self, format: str, *args: object) -> None:
            """Not on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", asked


def test_a_deadline_ends_a_read_and_the_waits_between_attempts(
    hub: LoopbackHub, open_model: Callable[[Deadline], Checkpoint]
) -> None:
    hub.faults = [Fault(WEIGHTS, status=503, headers={"Retry-After": "60"}, times=None)]
    deadline = Deadline(0.5, "org/model", lambda: "stream W")
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"org/model: not done after 0 s \(in the stage 'stream W'\).*MODEL_DEAD"):
        open_model(deadline).fetch("model.safetensors", 100, 900_000)
    assert time.monotonic() - began < 30


def test_a_deadline_tells_what_the_model_waited_for(
    open_model: Callable[[Deadline], Checkpoint], hub: LoopbackHub
) -> None:
    hub.faults = [Fault("/api/*", "hub", status=503, headers={"Retry-After": "60"}, times=None)]
    with pytest.raises(TransientError, match=r"less; the last request failed \(http://.*status 503\); run again"):
        open_model(Deadline(0.5, "org/model"))
    hub.faults = [Fault("/api/*", "hub", status=503), Fault(WEIGHTS, ending="silent", times=None)]
    deadline = Deadline(30, "org/model")
    checkpoint = open_model(deadline)
    assert deadline.last_failure == "", "what failed once and then succeeded explains nothing"
    with pytest.raises(TransientError, match="3 times in a row"):
        checkpoint.fetch("model.safetensors", 100, 900_000)
    assert "ReadTimeout" in deadline.last_failure


def test_what_reads_for_a_model_ends_with_it(hub: LoopbackHub, open_model: Callable[[Deadline], Checkpoint]) -> None:
    deadline = Deadline()
    checkpoint = open_model(deadline)
    checkpoint.fetch("model.safetensors", 0, 10)
    hub.faults = [Fault(WEIGHTS, ending="cut", nbytes=4_000, times=None)]
    fill = partial(checkpoint.fill, "model.safetensors")
    stream = stream_range(fill, 0, 900_000, chunk_nbytes=300_000, connections=3)
    next(stream)
    deadline.end()
    time.sleep(0.3)
    n_requests = len(hub.log)
    time.sleep(0.3)
    assert len(hub.log) == n_requests


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "good", planted(5000, 2048, [[1, 2]]))


def test_a_model_that_takes_too_long_fails_and_the_run_goes_on(
    hub: LoopbackHub,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add("org/slow", model)
    hub.add("org/good", write_checkpoint(tmp_path / "other", planted(300, 8, [])))
    header, w = Fault(WEIGHTS, times=1), Fault(WEIGHTS, ending="trickle", nbytes=5, times=3)
    hub.faults = [header, w]
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert main(["org/slow", "org/good", "--output", str(tmp_path / "out"), "--model-deadline", "2.5"]) == 75
    said = " ".join(capsys.readouterr().out.split())
    assert "org/slow: not done after 2 s (in the stage 'stream W'), expected less" in said
    assert (tmp_path / "out/org/good/latest.json").exists()


def test_a_plan_of_a_model_that_takes_too_long_goes_on_with_the_others(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "small", planted(300, 8, []))
    for name in ("org/slow", "org/good"):
        hub.add(name, folder)
    hub.faults = [Fault("/org/slow/*/model.safetensors", "hub", ending="silent", times=None)]
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    arguments = ["plan", "org/slow", "org/good", "--model-deadline", "1.5", "--read-timeout", "0.2", "--format", "json"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 75
    slow, good = json.loads(capsys.readouterr().out)["models"]
    assert "org/slow: not done after 2 s, expected less" in json.dumps(slow)
    assert good["status"] == "to survey"


def test_a_query_that_takes_too_long_ends(hub: LoopbackHub, model: Path) -> None:
    hub.add("org/good", model)
    hub.faults = [Fault("/api/*", "hub", status=503, headers={"Retry-After": "60"}, times=None)]
    settings = read_settings(["hub?author=org"])
    access = Access(hub.endpoint, None, 1.0, Cooldowns(), retry_policy=IMPATIENT)
    with pytest.raises(TransientError, match=r"hub\?author=org: not done after 0 s"):
        resolve_list(settings.models, access, 0.3)


def test_a_failed_models_requests_do_not_go_on_during_the_next(hub: LoopbackHub, model: Path, tmp_path: Path) -> None:
    """One range shows that the file changed, while the others still wait to be tried again."""
    hub.mirrors |= {"bad": model, "good": write_checkpoint(tmp_path / "other", planted(300, 8, []))}
    path = "/mirror/bad/model.safetensors"
    hub.faults = [
        Fault(path, "hub", "GET"),
        Fault(path, "hub", "GET", headers={"ETag": '"other"'}),
        Fault(path, "hub", "GET", status=503, times=None),
    ]
    addresses = [f"{hub.endpoint}/mirror/{name}" for name in ("bad", "good")]
    assert main([*addresses, "--output", str(tmp_path / "out")]) == 65
    time.sleep(1.2)
    next_began = min(request.at for request in hub.log if request.path.startswith("/mirror/good/"))
    late = [request for request in hub.log if request.path == path and request.at > next_began + 0.2]
    assert late == []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(["./unused", "--output", str(tmp_path / "out"), "--scratch", str(tmp_path)])


def progress() -> ProgressReporter:
    metrics = Metrics(CurrentStage(), run=None, worker=0, file=None, gateway=None)
    return ProgressReporter(Console(file=StringIO()), bars=False, metrics=metrics)


def test_the_models_of_a_server_that_cannot_be_reached_fail_at_once_and_are_tried_again_at_the_end(
    hub: LoopbackHub, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_checkpoint(tmp_path / "small", planted(300, 8, []))
    hub.mirrors["live"] = folder
    (port,) = free_ports(1)
    names = ["org/a", "org/b", "org/c", "org/d", f"{hub.endpoint}/mirror/live"]
    access = Access(f"http://127.0.0.1:{port}", None, 1.0, Cooldowns(), retry_policy=IMPATIENT)
    refs = [parse_reference(name) for name in names]
    caplog.set_level(logging.INFO)
    outcomes = survey_models(refs, settings, open_store(settings.output, [], settings.parts), access, progress())
    assert (str(next(outcomes).ref)) == names[-1]
    attempts = [record for record in caplog.records if "trying again in" in record.getMessage()]
    assert len(attempts) == IMPATIENT.attempts - 1
    later = [record.getMessage() for record in caplog.records if "tried again at the end" in record.getMessage()]
    assert len(later) == 4
    assert "not asked, because it could not be reached before" in later[1]
    caplog.clear()
    failed = list(outcomes)
    assert [str(outcome.ref) for outcome in failed] == names[:4]
    assert all(isinstance(outcome.error, TransientError) for outcome in failed)
    assert "ConnectError" in str(failed[0].error)
    assert "once more; try again later" in str(failed[0].error)
    assert "not asked" in str(failed[1].error)
    assert not [record for record in caplog.records if "trying again in" in record.getMessage()]


def test_models_are_surveyed_if_their_server_is_back_at_the_end(
    hub: LoopbackHub, settings: Settings, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "small", planted(300, 8, []))
    hub.mirrors["live"] = folder
    (port,) = free_ports(1)
    access = Access(f"http://127.0.0.1:{port}", None, 1.0, Cooldowns(), retry_policy=IMPATIENT)
    refs = [parse_reference(name) for name in ("org/a", "org/b", f"{hub.endpoint}/mirror/live")]
    outcomes = survey_models(refs, settings, open_store(settings.output, [], settings.parts), access, progress())
    next(outcomes)
    with LoopbackHub(port=port) as back:
        for name in ("org/a", "org/b"):
            back.add(name, folder)
        # After one answer, the server has all attempts again.
        back.faults = [Fault(WEIGHTS, status=503), Fault(WEIGHTS, ending="silent")]
        assert [outcome.status for outcome in outcomes] == ["surveyed", "surveyed"]


def test_a_plan_asks_a_server_that_cannot_be_reached_once_more_at_the_end(
    hub: LoopbackHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.mirrors["live"] = write_checkpoint(tmp_path / "small", planted(300, 8, []))
    (port,) = free_ports(1)
    names = [f"org/{letter}" for letter in "abcdefgh"]
    live = f"{hub.endpoint}/mirror/live"
    settings = read_settings(["plan", *names, live, "--output", str(tmp_path / "out"), "--plan-concurrency", "2"])
    access = Access(f"http://127.0.0.1:{port}", None, 1.0, Cooldowns(), retry_policy=IMPATIENT)
    caplog.set_level(logging.INFO)
    planned = dict(plan_list(settings, open_store(settings.output, [], settings.parts), access))
    assert [planned[place].status for place in range(9)] == ["fails"] * 8 + ["to survey"]
    # Two were asked about at once; of the others, nothing was asked.
    attempts = [record for record in caplog.records if "trying again in" in record.getMessage()]
    assert len(attempts) <= 2 * (IMPATIENT.attempts - 1)


def test_a_cdn_that_cannot_be_reached_is_not_asked_again_though_the_hub_is(
    hub: LoopbackHub, settings: Settings, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "small", planted(300, 8, []))
    for name in ("org/a", "org/b"):
        hub.add(name, folder)
    (port,) = free_ports(1)
    hub.faults = [Fault(WEIGHTS, "hub", headers={"Location": f"http://127.0.0.1:{port}/blob"}, times=None)]
    access = Access(hub.endpoint, None, 5.0, Cooldowns(), retry_policy=IMPATIENT)
    refs = [parse_reference(name) for name in ("org/a", "org/b")]
    first, second = survey_models(refs, settings, open_store(settings.output, [], settings.parts), access, progress())
    assert isinstance(first.error, TransientError)
    assert first.error.server == f"http://127.0.0.1:{port}"
    assert f"http://127.0.0.1:{port}: not asked, because it could not be reached before" in str(second.error)
    assert any(request.path.startswith("/api/models/org/b") for request in hub.log)


def test_a_server_that_answers_503_is_not_unreachable(hub: LoopbackHub, open_model: Callable[[], Checkpoint]) -> None:
    hub.faults = [Fault("/api/*", "hub", status=503, times=None)]
    with pytest.raises(TransientError) as raised:
        open_model()
    assert raised.value.server is None


class Proxy(BaseHTTPRequestHandler):
    """A proxy that gives every request the same answer."""

    status = 407

    def answer(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_CONNECT = answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the test's output."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, Cooldown], Checkpoint]]:
    """Opens a model of a Hub through a proxy."""

    def open_through(proxy: str, endpoint: str, cooldown: Cooldown) -> Checkpoint:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        huggingface_hub.close_session()
        return open_hub(
            "org/model",
            None,
            endpoint=endpoint,
            token=None,
            read_timeout=1.0,
            retry_policy=IMPATIENT,
            cooldown=cooldown,
        )

    yield open_through
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        ("http://hub.example.org", 407),
        ("https://hub.example.org", 401),
        ("https://hub.example.org", 403),
        ("https://hub.example.org", 407),
    ],
)
def test_a_proxy_that_refuses_this_user_is_a_setting(
    proxied: Callable[..., Checkpoint], endpoint: str, status: int
) -> None:
    handler = type("Handler", (Proxy,), {"status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        proxy = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ConfigError, match=rf"the proxy http://{proxy} refuses .*{status}.*HTTPS_PROXY") as raised:
            proxied(f"http://user:secret@{proxy}", endpoint, Cooldown())
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("endpoint", ["http://hub.example.org", "https://hub.example.org"])
def test_a_proxy_that_cannot_be_reached_is_named(proxied: Callable[..., Checkpoint], endpoint: str) -> None:
    (port,) = free_ports(1)
    cooldown, proxy = Cooldown(), f"http://127.0.0.1:{port}"
    with pytest.raises(TransientError, match=rf"through the proxy {proxy}\): ConnectError") as raised:
        proxied(f"http://user:secret@127.0.0.1:{port}", endpoint, cooldown)
    assert raised.value.server == proxy
    assert "secret" not in str(raised.value)
    with pytest.raises(TransientError, match=rf"{proxy}: not asked, because it could not be reached before"):
        proxied(proxy, "http://another.example.org", cooldown)


def test_a_proxy_that_cannot_reach_the_server_is_no_setting(proxied: Callable[..., Checkpoint]) -> None:
    handler = type("Handler", (Proxy,), {"status": 502})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server), pytest.raises(TransientError, match=r"through the proxy .* ProxyError 502") as raised:
        proxied(f"http://127.0.0.1:{server.server_port}", "https://hub.example.org", Cooldown())
    assert raised.value.server == "https://hub.example.org"
