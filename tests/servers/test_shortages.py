"""A process that may not have another thread, process, file or more memory: no bug, and worth a retry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import SeaweedServer

ROOT = Path(__file__).parents[2]

NO_THREADS = """
import runpy, sys, threading
threading.stack_size(1 << 47)  # more than an address space has
sys.argv[0] = "entrypoint.py"
runpy.run_path("entrypoint.py", run_name="__main__")
"""


@pytest.fixture
def published(tmp_path: Path) -> str:
    """A model that is published in the folder ``out``, which needs no thread any more."""
    model = str(write_checkpoint(tmp_path / "local", planted(40, 8, [])))
    assert main([model, "--output", str(tmp_path / "out")]) == 0
    return model


@pytest.fixture
def served(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    """The environment of a job that reads from a Hub with one model."""
    hub.add("org/model", write_checkpoint(tmp_path / "model", planted(5000, 512, [[1, 9]]), n_tokens=40))
    return {**os.environ, "HF_ENDPOINT": hub.endpoint, "OUTPUT": str(tmp_path / "out"), "SCRATCH": str(tmp_path)}


def ended(command: list[str], environment: dict[str, str], message: Path) -> "subprocess.CompletedProcess[str]":
    environment = environment | {"TERMINATION_MESSAGE": str(message)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_a_model_that_needs_threads_fails_without_them_and_the_run_goes_on(
    served: dict[str, str], published: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", NO_THREADS, "org/model", published]
    done = ended(command, served, tmp_path / "message")
    assert done.returncode == 75
    assert (
        "org/model: failed: TransientError: org/model: can't start new thread, expected enough threads" in done.stderr
    )
    assert (tmp_path / "message").read_text().startswith("exit status 75: 1 failed, 1 already published\n")


def test_a_plan_without_threads_is_worth_a_retry(served: dict[str, str], tmp_path: Path) -> None:
    done = ended([sys.executable, "-c", NO_THREADS, "plan", "org/model"], served, tmp_path / "message")
    assert (done.returncode, "TransientError: the plan: can't start new thread" in done.stderr) == (75, True)


def test_an_upload_without_threads_is_worth_a_retry(s3_server: SeaweedServer, s3_bucket: str, tmp_path: Path) -> None:
    local = str(write_checkpoint(tmp_path / "local", planted(40, 8, [])))
    environment = {**os.environ, **s3_server.environment(), "OUTPUT": f"s3://{s3_bucket}/surveys"}
    done = ended([sys.executable, "-c", NO_THREADS, local], environment, tmp_path / "message")
    assert done.returncode == 75
    assert "TransientError: the run: can't start new thread" in done.stderr
    assert s3_server.client().list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []


def test_metrics_that_no_thread_can_send_change_nothing(published: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OUTPUT": str(tmp_path / "out"), "PUSHGATEWAY": "http://127.0.0.1:1"}
    done = ended([sys.executable, "-c", NO_THREADS, published], environment, tmp_path / "message")
    assert done.returncode == 0
    assert "did not accept the metrics: can't start new thread" in done.stderr


SHORTAGES = {
    "memory": "bytearray(1 << 60)",
    "numpy": "__import__('numpy').empty(1 << 60, 'uint8')",
    "torch": "__import__('torch').empty(1 << 46)",
    "files": "[open('/dev/zero') for _ in range(100_000)]",
}

WITH_A_SHORTAGE = """
import runpy, sys
import job.survey
surveyed = job.survey.survey_model
def survey_model(ref, *arguments, **options):
    if "short" in str(ref):
        {takes}
    return surveyed(ref, *arguments, **options)
job.survey.survey_model = survey_model
sys.argv[0] = "entrypoint.py"
runpy.run_path("entrypoint.py", run_name="__main__")
"""


@pytest.mark.parametrize("takes", SHORTAGES.values(), ids=SHORTAGES)
def test_a_model_that_takes_what_the_process_may_not_have_fails_alone(takes: str, tmp_path: Path) -> None:
    models = [str(write_checkpoint(tmp_path / name, planted(40, 8, []))) for name in ("one", "short", "two")]
    command = [sys.executable, "-c", WITH_A_SHORTAGE.format(takes=takes), *models, "--output", str(tmp_path / "out")]
    done = ended(command, {**os.environ}, tmp_path / "message")
    assert done.returncode == 75, done.stderr
    assert f"{models[1]}: failed: TransientError: {models[1]}: " in done.stderr
    assert (tmp_path / "message").read_text().startswith("exit status 75: 2 surveyed, 1 failed\n")
