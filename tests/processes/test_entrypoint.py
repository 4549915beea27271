"""The job as a process: its exit status, its signals, what it prints and logs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]
GROUPS = [[3, 9, 21], [10, 11]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=20)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


def test_names_that_are_not_utf8_cause_no_traceback(tmp_path: Path, output: Path) -> None:
    raw = os.fsencode(tmp_path / "model-") + b"\xff"
    checkpoint = write_checkpoint(Path(os.fsdecode(raw)), planted(40, 8, GROUPS))
    (checkpoint / os.fsdecode(b"odd-\xfe.txt")).write_text("x")
    arguments = [sys.executable, "entrypoint.py", str(checkpoint), "--output", str(output)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.0])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_during_the_start_ends_the_job_with_its_status(
    checkpoint: Path, output: Path, seconds: float, number: signal.Signals, status: int
) -> None:
    ready = "import sys, entrypoint; print(flush=True); entrypoint.run_as_process()"
    arguments = [sys.executable, "-c", ready, str(checkpoint), "--output", str(output)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(20) in (status, 0)  # it may have been done


def test_a_summary_that_nobody_reads_does_not_change_the_status(checkpoint: Path, output: Path) -> None:
    with Path("/dev/full").open("w") as full:
        arguments = [sys.executable, "entrypoint.py", str(checkpoint), "--output", str(output)]
        assert subprocess.run(arguments, cwd=ROOT, stdout=full, check=False).returncode == 0


def test_json_logs_carry_the_model_and_the_stage(checkpoint: Path, output: Path, tmp_path: Path) -> None:
    arguments = [str(checkpoint), str(tmp_path / "missing"), "--output", str(output), "--log-format", "json"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "entrypoint.py"), *arguments], capture_output=True, text=True, check=False
    )
    *events, of_index = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 65
    assert "index.html: surveys: 1" in of_index["message"]
    assert {event["model"] for event in events} == {str(checkpoint), str(tmp_path / "missing")}
    assert {event.get("stage") for event in events} >= {"find", "find black holes"}
    assert [event["level"] for event in events if "ModelUnavailable" in event["message"]] == ["ERROR"]


def test_a_line_of_the_log_cannot_be_forged_by_a_tensor_name(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "one", planted(40, 8, []))
    save_file({"\x1b[31m\n2026 INFO forged.lm_head.weight": planted(40, 8, [])}, checkpoint / "model.safetensors")
    arguments = [sys.executable, "entrypoint.py", str(checkpoint), "--output", str(tmp_path / "out")]
    done = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert "\x1b" not in done.stderr + done.stdout
    assert not any(line.startswith("2026 INFO forged") for line in done.stderr.splitlines())


def test_a_link_that_leads_to_itself_fails_alone(checkpoint: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    arguments = [sys.executable, "entrypoint.py", str(tmp_path / "loop"), str(checkpoint), "--output", str(output)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (65, False), done.stderr
    assert "1 failed, 1 surveyed" in done.stdout


WITH_A_BUG = """
import sys
import entrypoint
import job.survey

surveyed = job.survey.survey_model

def with_a_bug(ref, *arguments, **options):
    if ref.location == {model!r}:
        raise {error}
    return surveyed(ref, *arguments, **options)

job.survey.survey_model = with_a_bug
sys.exit(entrypoint.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("error", ["KeyError('x')", "RecursionError('deep')", "UnicodeError('https://me:pw@h')"])
def test_a_bug_at_one_model_is_told_with_what_came_before_it(tmp_path: Path, output: Path, error: str) -> None:
    models = [str(write_checkpoint(tmp_path / name, planted(40, 8, GROUPS))) for name in ("one", "two", "three")]
    message, metrics = tmp_path / "message", tmp_path / "metrics"
    files = ["--output", str(output), "--termination-message", str(message), "--metrics-file", str(metrics)]
    script = WITH_A_BUG.format(model=models[1], error=error)
    arguments = [sys.executable, "-c", script, *models, *files]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    name = error.partition("(")[0]
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"{models[1]}: a bug of this program ({name}) after 1 of 3 models" in done.stderr
    assert "1 surveyed" in done.stdout
    assert f"surveys are in {output}" in done.stdout
    first, bug, *news = message.read_text().splitlines()
    assert first == "exit status 1: 1 surveyed, 2 not reached"
    assert bug.startswith(f"ended by a bug of this program at {models[1]}: {name}: ")
    assert "pw" not in bug
    assert news == [f"New: 1 model ({models[0]})"]
    values = metrics.read_text()
    assert "black_hole_survey_exit_status 1.0" in values
    assert 'black_hole_survey_models_done_total{status="surveyed"} 1.0' in values
    assert "black_hole_survey_running 0.0" in values
