"""The summary in short, for Kubernetes: what it says first, and that it fits."""

from pathlib import Path

import pytest

from entrypoint import main
from job.errors import ConfigError, CorruptCheckpoint, SurveyError, TransientError
from job.manifest.comparison import BlackHoleChange, SurveyChanges
from job.models.references import parse_reference
from job.outcome import Outcome
from job.report.termination import LIMIT_NBYTES, termination_message
from tests.checkpoints import planted, write_checkpoint


def failed(name: str, error: SurveyError) -> Outcome:
    return Outcome(parse_reference(name), "failed", 1.0, error=error)


def test_the_message_says_the_end_then_what_is_new_then_the_failures_that_a_retry_helps_first() -> None:
    outcomes = [
        failed("org/bad", CorruptCheckpoint("header: is cut short")),
        failed("org/slow", TransientError("org/slow: no answer; try again later")),
        failed("org/refused", ConfigError("store: refuses")),
        Outcome(parse_reference("org/new"), "surveyed", 1.0, changes=SurveyChanges("model", None)),
        Outcome(parse_reference("org/found"), "passed over", 1.0, error=CorruptCheckpoint("header: is cut short")),
    ]
    assert termination_message(outcomes, 7, 78, None, "index 3 of 8, run night").splitlines() == [
        "exit status 78: 3 failed, 1 surveyed, 1 passed over, 2 not reached (index 3 of 8, run night)",
        "New: 1 model (org/new)",
        "ConfigError  org/refused: store: refuses",
        "TransientError  org/slow: no answer; try again later",
        "CorruptCheckpoint  org/bad: header: is cut short",
    ]


def test_what_ended_a_run_before_its_first_model_is_said() -> None:
    message = termination_message([], 0, 78, ConfigError("s3://b: no such bucket; make it"), None)
    assert message == "exit status 78: no model was reached\nConfigError  s3://b: no such bucket; make it\n"


@pytest.mark.parametrize(
    "cause", ["x", "ж" * 3000, "漢\n" * 400, "\ud800" * 900], ids=["short", "long", "lines", "half"]
)
def test_any_number_of_failures_fits_and_the_rest_is_counted(cause: str) -> None:
    outcomes = [failed(f"org/m{number}", TransientError(f"where: {cause}")) for number in range(300)]
    ids = tuple(range(10**9, 10**9 + 50))
    change = BlackHoleChange(holes=(1, 50), tokens=(2, 102), joined=ids, left=ids, n_joined=len(ids), n_left=len(ids))
    outcomes += [
        Outcome(parse_reference(f"org/{'n' * 90}{number}"), "surveyed", 1.0, changes=SurveyChanges("revision", change))
        for number in range(50)
    ]
    message = termination_message(outcomes, 350, 75, None, "index 0 of 1, run night")
    assert len(message.encode()) <= LIMIT_NBYTES
    lines = message.splitlines()
    shown = sum(line.startswith("TransientError  org/m") for line in lines)
    assert shown >= 2
    assert lines[-1] == f"… and {300 - shown:,} more"
    assert len((message + lines[-2]).encode()) > LIMIT_NBYTES - 20, "there is room for one more"


def test_a_run_leaves_its_message(tmp_path: Path) -> None:
    one, message = write_checkpoint(tmp_path / "one", planted(40, 8, [])), tmp_path / "message"
    message.write_text("of an earlier run, which was longer\n" * 100)
    arguments = [str(one), str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--termination-message", str(message)]) == 65
    first, new, failure = message.read_text().splitlines()
    assert first == "exit status 65: 1 surveyed, 1 failed"
    assert new == f"New: 1 model ({one})"
    assert failure.startswith(f"ModelUnavailable  {tmp_path / 'none'}")


def test_a_run_whose_store_is_refused_leaves_its_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ["org/name", "--output", str(tmp_path / "file"), "--termination-message", str(tmp_path / "message")]
    assert main(arguments) == 78
    assert (tmp_path / "message").read_text().startswith("exit status 78: no model was reached\nConfigError  ")


def test_a_message_that_cannot_be_written_does_not_change_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = write_checkpoint(tmp_path / "one", planted(40, 8, []))
    nowhere = str(tmp_path / "no" / "folder")
    assert main([str(one), "--output", str(tmp_path / "out"), "--termination-message", nowhere]) == 0
    assert f"TERMINATION_MESSAGE: {nowhere}: No such file" in caplog.text
