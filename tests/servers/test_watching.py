"""A run that is watched from outside while it goes on: its metrics, its log, what it leaves when it is stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_pushed

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.openmetrics import PREFIX, read_openmetrics
from tests.servers.gateway import Gateway, running_gateway
from tests.servers.loopback_hub import Fault, LoopbackHub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running_gateway() as server:
        yield server


@pytest.fixture
def served(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The Hub with two models, and a job that reads from it."""
    for number in (1, 2):
        hub.add(f"org/model{number}", write_checkpoint(tmp_path / f"model{number}", planted(5000, 512, [[number, 9]])))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    return hub


def job(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "entrypoint.py"), *arguments]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def pushed(body: str) -> dict[str, float]:
    return {
        " ".join([sample.name.removeprefix(PREFIX), *sample.labels.values()]): sample.value
        for family in parse_pushed(body)
        for sample in family.samples
    }


@pytest.mark.usefixtures("served")
def test_a_gateway_is_told_before_the_first_model_after_each_model_and_at_the_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setenv("JOB_COMPLETIONS", "1")
    monkeypatch.setenv("RUN", "night")
    assert main(["org/model1", "org/model2", "org/none", "--pushgateway", f"http://{gateway.host}/below/"]) == 65
    assert {push.path for push in gateway.pushes} == {"/below/metrics/job/black-hole-survey/index/0"}
    states = [pushed(push.body) for push in gateway.pushes]
    done = [sum(value for name, value in state.items() if name.startswith("models_done")) for state in states]
    assert done == [0, 1, 2, 3, 3]
    assert [state["running"] for state in states] == [1, 1, 1, 1, 0]
    assert states[-1]["models_done_total surveyed"] == 2
    assert states[-1]["failures_total ModelUnavailable"] == 1
    assert states[-1]["exit_status"] == 65
    assert any(name.startswith("run_info") and "night" in name for name in states[-1])


@pytest.mark.usefixtures("served")
def test_a_gateways_password_is_sent_to_it_and_logged_nowhere(
    gateway: Gateway, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://me:s%40cret@{gateway.host}"
    assert main(["org/model1", "--pushgateway", address]) == 0
    assert {push.user for push in gateway.pushes} == {"me:s@cret"}
    gateway.status = 500
    assert main(["org/model1", "--pushgateway", address]) == 0
    told = "".join(capfd.readouterr()) + caplog.text
    assert "PUSHGATEWAY: 127.0.0.1 did not accept the metrics" in told
    assert "cret" not in told


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no-such-host.invalid", "https://{}"])
def test_a_gateway_that_does_not_answer_changes_no_status_and_is_left_alone_until_the_end(
    gateway: Gateway, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["org/model1", "org/model2", "--pushgateway", address.format(gateway.host)]) == 0
    assert caplog.text.count("did not accept the metrics") == 2


def hang(listening: socket.socket, answer: bytes) -> None:
    """Answer whoever comes with so much of an answer, a byte every half second."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            for number in range(len(answer)):
                time.sleep(0.5)
                connection.sendall(answer[number : number + 1])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["silent", "dripping"])
def test_a_gateway_that_hangs_is_waited_for_twice_in_a_run(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if answer:
            Thread(target=hang, args=(listening, answer), daemon=True).start()
        assert (
            main(["org/model1", "org/model2", "--pushgateway", f"http://127.0.0.1:{listening.getsockname()[1]}"]) == 0
        )
    assert caplog.text.count("did not accept the metrics: no answer within 5 s") == 2


@pytest.mark.usefixtures("served")
def test_a_run_that_has_said_how_it_ended_ends_so_whatever_signal_comes(tmp_path: Path) -> None:
    message = tmp_path / "message"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with job("org/model1", PUSHGATEWAY=address, TERMINATION_MESSAGE=str(message)) as process:
            deadline = time.monotonic() + 60
            while not message.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            process.communicate()
    assert process.returncode == 0
    assert message.read_text().startswith("exit status 0: 1 surveyed\n")


def test_a_metrics_file_is_whole_at_any_moment_and_after_a_kill(served: LoopbackHub, tmp_path: Path) -> None:
    file = tmp_path / "run.prom"
    states: list[str] = []
    served.latency = 0.02
    with job("org/model1", "org/model2", METRICS_FILE=str(file)) as process:
        while process.poll() is None and len(states) < 100_000:
            if file.exists():
                text = file.read_text()
                if not states or text != states[-1]:
                    states.append(text)
                if 'model="org/model2"' in text:
                    process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(states) > 5
    for text in [*states, file.read_text()]:
        assert read_openmetrics(text)["running"] == 1
    assert any(name.startswith("current_info org/model2 ") for name in read_openmetrics(file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_run_that_is_stopped_says_so_to_whoever_watches(
    served: LoopbackHub, gateway: Gateway, number: signal.Signals, tmp_path: Path
) -> None:
    served.faults.append(Fault("/org/model2/*.safetensors", host="hub", status=503, times=None))
    file, message = tmp_path / "run.prom", tmp_path / "message"
    watched = {"METRICS_FILE": str(file), "TERMINATION_MESSAGE": str(message)}
    address = f"http://{gateway.host}"
    with job("org/model1", "org/model2", "org/model3", PUSHGATEWAY=address, **watched) as process:
        deadline = time.monotonic() + 60
        while "model2" not in (file.read_text() if file.exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 128 + number
    assert message.read_text().splitlines() == [
        f"exit status {128 + number}: 1 surveyed, 2 not reached",
        "New: 1 model (org/model1)",
    ]
    left = read_openmetrics(file.read_text())
    assert (left["running"], left["exit_status"]) == (0, 128 + number)
    assert pushed(gateway.pushes[-1].body)["exit_status"] == 128 + number


@pytest.mark.usefixtures("served")
def test_a_run_that_is_stopped_while_it_starts_says_so_too(tmp_path: Path) -> None:
    file, message = tmp_path / "run.prom", tmp_path / "message"
    with job("org/model1", METRICS_FILE=str(file), TERMINATION_MESSAGE=str(message)) as process:
        deadline = time.monotonic() + 60
        while not file.exists():  # it is there before the libraries are, whose import takes a second
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    assert process.returncode == 143
    assert message.read_text() == "exit status 143: no model was reached\n"
    assert read_openmetrics(file.read_text())["exit_status"] == 143
    assert "Traceback" not in log


def test_every_line_of_a_json_log_is_an_object_that_says_where_it_belongs(served: LoopbackHub) -> None:
    served.faults.append(Fault("*", host="cdn", ending="cut", nbytes=3_000_000, times=None))  # in the midst of W
    worker = {"RUN": "night", "JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "1"}
    with job("org/model1", "org/model2", LOG_FORMAT="json", **worker) as process:
        _, log = process.communicate()
    assert process.returncode == 0
    events = [json.loads(line) for line in log.splitlines()]
    assert {(event["run"], event["index"]) for event in events} == {("night", 0)}
    assert all(event.keys() >= {"time", "level", "message", "logger"} for event in events)
    retries = [event for event in events if event["message"].find("trying again") > 0]
    assert {(event["model"], event["stage"]) for event in retries} == {
        ("org/model1", "stream W"),
        ("org/model2", "stream W"),
    }


def test_in_a_plan_every_line_says_which_of_the_models_asked_about_at_once_it_concerns(served: LoopbackHub) -> None:
    served.faults.append(Fault("/api/models/org/model2*", host="hub", status=503))
    with job("plan", "org/model1", "org/model2", LOG_FORMAT="json") as process:
        _, log = process.communicate()
    events = [json.loads(line) for line in log.splitlines()]
    assert {event["stage"] for event in events} == {"plan"}
    assert {event["model"] for event in events} == {"org/model1", "org/model2"}
    assert [event["model"] for event in events if "trying again" in event["message"]] == ["org/model2"]


LIBRARIES = """
import logging, sys, threading, warnings
import entrypoint, job.survey

survey_model = job.survey.survey_model
def noisy(ref, store, access, monitor, **options):
    import huggingface_hub, transformers
    with monitor.stage("find"):
        def tell():
            transformers.utils.logging.get_logger("transformers.tokenization_utils_base").warning("two\\nlines")
            logging.getLogger("botocore").warning("retry")
            logging.getLogger("huggingface_hub.hf_api").warning("old")
            warnings.warn("deprecated")
        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
    raise RuntimeError("a bug")
job.survey.survey_model = noisy
sys.exit(entrypoint.main(["org/model1", "--log-format", "json"]))
"""


@pytest.mark.usefixtures("served")
def test_what_libraries_warn_of_and_bugs_are_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)  # with it, transformers logs otherwise
    done = subprocess.run([sys.executable, "-c", LIBRARIES], cwd=ROOT, capture_output=True, text=True, check=False)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    warned = [event for event in events if event["level"] == "WARNING"]
    assert [event["logger"] for event in warned] == [
        "transformers.tokenization_utils_base",
        "botocore",
        "huggingface_hub.hf_api",
        "py.warnings",
    ]
    assert {(event["model"], event["stage"]) for event in warned} == {("org/model1", "find")}
    assert (done.returncode, events[-1]["level"], "RuntimeError: a bug" in events[-1]["exc_info"]) == (
        1,
        "CRITICAL",
        True,
    )
