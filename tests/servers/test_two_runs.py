"""Two runs on one OUTPUT at once, and runs after one that was killed: as processes, on a folder and on S3."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import job.survey
from entrypoint import main
from job import __version__
from job.errors import TransientError
from job.settings import TENSORS
from job.store.folder import FolderStore
from job.store.open import open_store
from job.store.s3.store import S3Store
from tests.checkpoints import planted, write_checkpoint
from tests.killed_runs import check_whole
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.seaweed import SeaweedServer
from tests.servers.serving import wait_until
from tests.surveys import WITHOUT_TOKENIZER

ROOT = Path(__file__).parents[2]
W_NBYTES = 5000 * 2048 * 2


@dataclass(frozen=True)
class Output:
    """Where runs publish, with a look at what they have not finished, and a way to remove it as another program may."""

    address: str
    unfinished: Callable[[], list[str]]
    remove_unfinished: Callable[[], None]


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "folder":
        root = tmp_path / "surveys"

        def temp_files() -> list[str]:
            return [str(path) for path in root.rglob("*.unfinished")]

        def remove() -> None:
            for path in temp_files():
                Path(path).unlink()

        return Output(str(root), temp_files, remove)
    bucket: str = request.getfixturevalue("s3_bucket")
    server: SeaweedServer = request.getfixturevalue("s3_server")
    client = server.client()

    def uploads() -> list[str]:
        found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [upload["Key"] for upload in found if upload["Key"].endswith("/W.safetensors")]

    def abort() -> None:
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    return Output(f"s3://{bucket}/surveys", uploads, abort)


@pytest.fixture
def served(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoopbackHub:
    """The Hub with two models, of which each range stalls after some bytes, so that W takes seconds."""
    for number, name in enumerate(("model", "other")):
        hub.add(f"org/{name}", write_checkpoint(tmp_path / name, planted(5000, 2048, [[5, 700 + number]])))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    hub.faults.append(Fault("*", ending="stall", nbytes=6_000_000, times=None))
    return hub


@contextmanager
def start(output: Output) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of org/model as a process, which ends with the block at the latest."""
    command = [sys.executable, str(ROOT / "entrypoint.py"), "org/model", "--output", output.address]
    with subprocess.Popen(command, env={**os.environ, "CONNECTIONS": "1", "READ_TIMEOUT": "1"}) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_uploads(output: Output, count: int) -> None:
    wait_until(lambda: len(output.unfinished()) >= count)


def test_two_runs_at_once_both_end_with_0_and_each_reads_w_once(served: LoopbackHub, output: Output) -> None:
    with start(output) as first:
        wait_for_uploads(output, 1)
        first.send_signal(signal.SIGSTOP)
        with start(output) as second:
            wait_for_uploads(output, 2)
            first.send_signal(signal.SIGCONT)
            served.faults.clear()
            assert (first.wait(60), second.wait(60)) == (0, 0)
    assert served.weight_bytes_sent < 2.2 * W_NBYTES
    assert output.unfinished() == []


def test_a_run_whose_upload_was_removed_takes_the_survey_that_another_run_published(
    served: LoopbackHub, output: Output, capfd: pytest.CaptureFixture[str]
) -> None:
    with start(output) as first:
        wait_for_uploads(output, 1)
        first.send_signal(signal.SIGSTOP)
        output.remove_unfinished()
        served.faults.clear()
        assert main(["org/model", "--output", output.address]) == 0
        first.send_signal(signal.SIGCONT)
        assert first.wait(60) == 0
    assert "already published" in capfd.readouterr().err
    assert served.weight_bytes_sent < 2.2 * W_NBYTES


def test_a_run_whose_upload_was_removed_ends_with_75_and_has_read_w_at_most_once(
    served: LoopbackHub, output: Output, capfd: pytest.CaptureFixture[str]
) -> None:
    with start(output) as process:
        wait_for_uploads(output, 1)
        output.remove_unfinished()
        served.faults.clear()
        assert process.wait(60) == 75
    assert "UploadLost" in capfd.readouterr().err
    assert served.weight_bytes_sent < 1.1 * W_NBYTES


def interrupted_by(
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    output: Output,
    checkpoint: Path,
    version: str,
    tensors: str,
    ends: str | None = None,
) -> list[int]:
    """Lets another run survey the same checkpoint at a moment of the next run: just before a function of job.survey is
    called. Returns where its exit status will be. ``ends``: the function before which the other run breaks off."""
    statuses: list[int] = []
    before = getattr(job.survey, moment)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(job.survey, moment, before)
            patch.setattr(job.survey, "__version__", version)
            if ends:
                patch.setattr(job.survey, ends, break_off)
            if not statuses:
                statuses.append(main([str(checkpoint), "--output", output.address, "--tensors", tensors]))
        return before(*args, **kwargs)

    monkeypatch.setattr(job.survey, moment, interrupted)
    return statuses


def break_off(*_args: object, **_kwargs: object) -> None:
    raise TransientError("broken off by the test")


def published(output: Output) -> dict[str, bytes]:
    """The content of all that is published, by key."""
    store = open_store(output.address, [], parts_in_flight=4)
    return {key: store.read(key) or b"" for key in store.sizes("local/")}


def latest_artifacts(output: Output) -> set[str]:
    manifest = json.loads(published(output)["local/model/latest.json"])
    return set(manifest["artifacts"])


MOMENTS = ("measure_or_reuse", "settle_tie")
"""Functions of job.survey: W is read in the first, and after it all tensors are published."""


@pytest.mark.parametrize("of_other", ["W", ",".join(TENSORS)], ids=["W", "all"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_runs_of_two_versions_at_once_leave_a_manifest_that_names_what_is_there(
    moment: str, of_other: str, output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]))
    statuses = interrupted_by(monkeypatch, moment, output, checkpoint, "0.9.9", of_other)
    assert main([str(checkpoint), "--output", output.address]) == 0
    assert statuses == [0]
    check_whole(published(output))
    assert latest_artifacts(output) == WITHOUT_TOKENIZER


def test_a_run_of_another_version_that_has_not_ended_costs_a_retry_and_no_torn_manifest(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]))
    other = interrupted_by(monkeypatch, "settle_tie", output, checkpoint, "0.9.9", "W", ends="build_manifest")
    assert main([str(checkpoint), "--output", output.address]) == 75
    assert other == [75]
    assert "another version of this tool" in capfd.readouterr().out
    check_whole(published(output))
    assert main([str(checkpoint), "--output", output.address]) == 0
    check_whole(published(output))
    assert latest_artifacts(output) == WITHOUT_TOKENIZER


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("tensors", "of_other"), [("W", "W,mu,gamma_centered"), ("mu,black_holes", "W,gamma_centered")]
)
def test_runs_with_other_tensors_at_once_lose_none_of_them(
    moment: str, tensors: str, of_other: str, output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]))
    interrupted_by(monkeypatch, moment, output, checkpoint, __version__, of_other)
    assert main([str(checkpoint), "--output", output.address, "--tensors", tensors]) == 0
    check_whole(published(output))
    assert latest_artifacts(output) == {*tensors.split(","), *of_other.split(",")}


def test_the_next_run_removes_what_a_killed_run_left_of_another_model_once_it_is_old(
    served: LoopbackHub, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(output) as process:
        wait_for_uploads(output, 1)
        process.send_signal(signal.SIGKILL)
    served.faults.clear()
    assert main(["org/other", "--output", output.address]) == 0
    assert len(output.unfinished()) == 1
    for store in (FolderStore, S3Store):
        monkeypatch.setattr(store.discard_unfinished, "__defaults__", (0.0,))
    assert main(["org/other", "--output", output.address]) == 0
    assert output.unfinished() == []
