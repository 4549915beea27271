"""The metrics of a run: that they parse, and say what the run says."""

import json
from pathlib import Path

import pytest

from entrypoint import main
from job.monitor.current import CurrentStage
from job.monitor.metrics import Metrics
from tests.checkpoints import planted, write_checkpoint
from tests.openmetrics import read_openmetrics


def metrics_in(file: Path, current: CurrentStage, refresh_seconds: float = 10.0) -> Metrics:
    """The metrics of a run that sends them nowhere else."""
    return Metrics(current, run=None, worker=0, file=file, gateway=None, refresh_seconds=refresh_seconds)


def read(path: Path) -> dict[str, float]:
    return read_openmetrics(path.read_text())


def test_the_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one", planted(4000, 64, [[1, 2]]))
    file, output = tmp_path / "run.prom", str(tmp_path / "out")
    arguments = [str(one), str(tmp_path / "none"), "--output", output, "--metrics-file", str(file)]
    assert main(arguments) == 65
    first = read(file)
    assert first["models"] == 2
    assert first["models_done_total surveyed"] == first["models_done_total failed"] == 1
    assert first["failures_total ModelUnavailable"] == first["news_total model"] == 1
    (latest,) = (tmp_path / "out").rglob("latest.json")
    assert first["fetched_bytes_total"] == json.loads(latest.read_text())["checkpoint"]["bytes_fetched"]
    assert (first["running"], first["exit_status"]) == (0, 65)
    assert first["start_time_seconds"] <= first["last_model_time_seconds"] <= file.stat().st_mtime
    assert first["stage_seconds_total stream W"] > 0
    assert not any(name.startswith("current_info") for name in first)
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["run.prom"]

    write_checkpoint(one, planted(4000, 64, [[1, 2], [3, 4]]))
    assert main(arguments) == 65
    second = read(file)
    assert second["news_total revision"] == second["news_total black_holes"] == 1
    assert second["news_total model"] == 0


def test_a_file_that_cannot_be_written_ends_the_run_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    one = write_checkpoint(tmp_path / "one", planted(40, 8, []))
    (tmp_path / "folder").mkdir()
    for place in ("missing/run.prom", "folder/x/run.prom"):
        arguments = [str(one), "--output", str(tmp_path / "out"), "--metrics-file", str(tmp_path / place)]
        assert main(arguments) == 78
    assert caplog.text.count("ConfigError: METRICS_FILE: ") == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_any_more_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    metrics = metrics_in(folder / "run.prom", CurrentStage())
    metrics.check()
    (folder / "run.prom").unlink()
    folder.rmdir()
    for _ in range(3):
        metrics.begin_stage("find")
    assert caplog.text.count("the file is out of date") == 1
    folder.mkdir()
    metrics.end(0)
    assert read(folder / "run.prom")["exit_status"] == 0


@pytest.mark.parametrize(("refresh_seconds", "seen"), [(0.0, (5, 6)), (3600.0, (0, 0))], ids=["at once", "rarely"])
def test_every_state_parses_and_tells_what_is_under_way(
    tmp_path: Path, refresh_seconds: float, seen: tuple[int, int]
) -> None:
    file, now = tmp_path / "run.prom", CurrentStage()
    metrics = metrics_in(file, now, refresh_seconds)
    metrics.check()
    assert read(file)["running"] == 1
    assert "exit_status" not in read(file)
    metrics.begin(3)
    metrics.begin_model('odd "name"\\\udc80\n')
    metrics.begin_stage("stream W")
    assert any(name.startswith("current_info ") and name.endswith(" stream W") for name in read(file))
    counted = metrics.count_chunks([b"12", b"345", b"6"], 6)
    assert [next(counted) for _ in range(3)] == [b"12", b"345", b"6"]
    assert (read(file)["stage_done_bytes"], read(file)["stage_bytes"]) == seen
    assert (now.model, now.stage) == ('odd "name"\\\udc80\n', "stream W")
