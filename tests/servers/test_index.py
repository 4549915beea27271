"""The index of all surveys: in a folder and in S3, kept up to date by every run, whatever happens meanwhile."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars
import pytest

import job.catalogue.rows_file
from entrypoint import main
from job.catalogue.rows_file import Rows, rows_as_parquet
from job.store.open import open_store
from job.store.store import Store
from tests.checkpoints import planted, write_checkpoint
from tests.killed_runs import INDEX_FILES as FILES
from tests.killed_runs import killed_runs
from tests.many_surveys import as_bytes, commit_of, manifest_like, many_manifests, real_manifest
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.meddling_store import Asked, Meddling, meddling_store
from tests.servers.seaweed import SeaweedServer

ROOT = Path(__file__).parents[2]
GROUPS = [[3, 9, 21], [10, 11]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return real_manifest(tmp_path_factory.mktemp("real"))


@dataclass(frozen=True)
class Output:
    """Where runs publish."""

    address: str

    @property
    def store(self) -> Store:
        return open_store(self.address, [], 4)

    def publish(self, *manifests: dict[str, Any]) -> None:
        """Publish manifests, and nothing that they name."""
        for manifest in manifests:
            key = f"{manifest['model']}/{manifest['commit']}/manifest.json"
            self.store.write(key, as_bytes(manifest))

    def table(self) -> polars.DataFrame:
        return polars.read_parquet(io.BytesIO(self.store.read("surveys.parquet") or b""))

    def check_index(self) -> None:
        """Check that the index has all manifests that are published, in all of its files."""
        keys = [key for key in self.store.sizes("") if key.endswith("/manifest.json")]
        table = self.table()
        assert sorted(table["key"]) == keys
        csv = polars.read_csv(io.BytesIO(self.store.read("surveys.csv") or b""))
        assert csv["w_sha256"].to_list() == table["w_sha256"].to_list()
        page = (self.store.read("index.html") or b"").decode()
        assert page.endswith("</html>\n")
        assert f"{len(keys):,} survey" in page or not keys


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "folder":
        return Output(str(tmp_path / "surveys"))
    return Output(f"s3://{request.getfixturevalue('s3_bucket')}/surveys")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)


def index(output: Output) -> int:
    return main(["index", "--output", output.address])


def test_an_output_without_surveys_has_an_index_too(output: Output) -> None:
    assert index(output) == 0
    output.check_index()
    assert "No surveys yet" in (output.store.read("index.html") or b"").decode()


def test_a_run_adds_its_surveys_and_tells_what_failed_and_why(
    output: Output, hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/model", checkpoint)
    hub.add("org/gated", checkpoint, access="gated")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert main(["org/model", "org/gated", str(checkpoint), "--output", output.address]) == 65
    output.check_index()
    row = output.table().filter(polars.col("model") == "org/model").to_dicts()[0]
    assert (row["black_holes"], row["black_hole_tokens"], row["is_latest"]) == (2, 5, True)
    assert (row["released"] or "").endswith("+00:00")
    assert row["page"].startswith(f"org/model/{row['commit']}/report.")
    page = (output.store.read("index.html") or b"").decode()
    assert f'href="./{row["page"]}"' in page
    assert "failed at 1 model" in page
    (key,) = [key for key in output.store.sizes("runs/") if "outcomes-0" in key]
    outcomes = json.loads(output.store.read(key) or b"")
    assert [(one["model"], one["status"]) for one in outcomes["models"]] == [
        ("org/model", "surveyed"),
        ("org/gated", "failed"),
        (str(checkpoint), "surveyed"),
    ]
    error = outcomes["models"][1]["error"]
    assert error["kind"] == "ModelUnavailable"
    assert error["message"].split("'")[0] in page.replace("&#39;", "'")


def test_a_survey_that_is_gone_or_changed_is_so_in_the_index(output: Output, real: dict[str, Any]) -> None:
    one, two = (manifest_like(real, f"org/{name}", commit_of(1), [["a", "b"]]) for name in "xy")
    output.publish(one, two)
    assert index(output) == 0
    output.check_index()
    output.store.delete(f"org/x/{commit_of(1)}/manifest.json")
    output.publish(manifest_like(real, "org/y", commit_of(1), [["a", "b", "c"]]))
    assert index(output) == 0
    output.check_index()
    assert output.table()["black_hole_tokens"].to_list() == [3]


@pytest.mark.writes_invalid_manifests
def test_what_is_no_manifest_is_left_out_and_told(
    output: Output, real: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    output.publish(manifest_like(real, "org/good", commit_of(1)))
    for number, content in enumerate((b"", b"{}", b"[" * 100_000, b'{"schema_version": 2}', b"\xff")):
        output.store.write(f"org/bad-{number}/{commit_of(number)}/manifest.json", content)
    output.store.write("data/manifest.json", b"another program's")
    for n_warnings in (5, 0):
        caplog.clear()
        assert index(output) == 0
        assert output.table()["model"].to_list() == ["org/good"]
        warnings = [record for record in caplog.records if "not a manifest" in record.getMessage()]
        assert len(warnings) == n_warnings


def of_another_version(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(job.catalogue.rows_file, "__version__", "0.0.1")
        output.store.write("surveys.parquet", rows_as_parquet(Rows()))


def damaged(output: Output, _: pytest.MonkeyPatch) -> None:
    content = bytearray(output.store.read("surveys.parquet") or b"")
    content[len(content) // 2] ^= 1
    output.store.write("surveys.parquet", bytes(content))


def empty(output: Output, _: pytest.MonkeyPatch) -> None:
    output.store.write("surveys.parquet", b"")


def another_programs(output: Output, _: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    polars.DataFrame({"key": ["a"]}).write_parquet(file)
    output.store.write("surveys.parquet", file.getvalue())


def half_written(output: Output, _: pytest.MonkeyPatch) -> None:
    """As where a worker was killed after it had written the table."""
    output.store.delete("index.html")
    output.store.write("surveys.csv", b"model\n")


@pytest.mark.parametrize("spoil", [of_another_version, damaged, empty, another_programs, half_written])
def test_an_index_that_is_old_or_damaged_is_made_anew(
    output: Output,
    real: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Output, pytest.MonkeyPatch], None],
) -> None:
    output.publish(*(manifest for _, manifest in many_manifests(real, 5)))
    assert index(output) == 0
    expected = {name: output.store.read(name) for name in FILES}
    spoil(output, monkeypatch)
    assert index(output) == 0
    assert {name: output.store.read(name) for name in FILES} == expected
    output.check_index()


@pytest.mark.parametrize("output", ["folder"], indirect=True)
def test_the_index_of_a_thousand_surveys_names_all_of_them(output: Output, real: dict[str, Any]) -> None:
    output.publish(*(manifest for _, manifest in many_manifests(real, 1000)))
    assert index(output) == 0
    output.check_index()


WORKER = """
import sys
sys.path.insert(0, {root!r})
from entrypoint import main
sys.stdin.readline()
sys.exit(main({arguments!r}))
"""


def test_eight_workers_that_end_at_once_leave_all_surveys_in_the_index(output: Output, tmp_path: Path) -> None:
    models = [write_checkpoint(tmp_path / f"model-{n}", planted(40, 8, [[n, n + 9]]), n_tokens=40) for n in range(8)]
    environment = os.environ | {"RUN": "eight", "JOB_COMPLETIONS": "8", "MODELS": " ".join(map(str, models))}
    program = WORKER.format(root=str(ROOT), arguments=["--output", output.address])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment | {"JOB_COMPLETION_INDEX": str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(8)
    ]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.wait(250) for worker in workers] == [0] * 8
    for worker in workers:
        assert worker.stdin
        worker.stdin.close()
    output.check_index()
    assert output.table().height == 8
    assert "8 of 8 workers have ended" in (output.store.read("index.html") or b"").decode()


@pytest.fixture(scope="module")
def runs() -> Iterator[Any]:
    with killed_runs() as found:
        yield found


def test_a_worker_that_is_killed_while_it_writes_leaves_files_that_are_whole(
    output: Output, real: dict[str, Any], runs: Any, request: pytest.FixtureRequest
) -> None:
    is_folder = not output.address.startswith("s3:")
    environment = {} if is_folder else request.getfixturevalue("s3_server").environment()
    within = output.address if is_folder else "requests"
    output.publish(manifest_like(real, "org/old", commit_of(1), [["a", "b"]]))
    assert index(output) == 0
    before = {name: output.store.read(name) for name in FILES}
    output.publish(manifest_like(real, "org/new", commit_of(2), [["c", "d"]]))
    assert index(output) == 0
    after = {name: output.store.read(name) for name in FILES}
    at, ended = 1, False
    while not ended:
        for name, content in before.items():
            output.store.write(name, content or b"")
        status, _ = runs.run(["index", "--output", output.address], within, environment, at=at)
        ended = status == 0
        left = {name: output.store.read(name) for name in FILES}
        assert all(left[name] in (before[name], after[name]) for name in FILES), at
        if at % 5 == 1:
            assert index(output) == 0
            assert {name: output.store.read(name) for name in FILES} == after
        at += 1 if is_folder else 5
    assert at > 5
    assert left == after


def test_of_many_surveys_only_what_is_new_is_read_again(
    s3_server: SeaweedServer, s3_bucket: str, real: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(f"s3://{s3_bucket}/surveys")
    output.publish(*(manifest for _, manifest in many_manifests(real, 60)))
    asked: list[Asked] = []

    def manifests_read() -> int:
        asked.clear()
        assert index(output) == 0
        return sum(one.method == "GET" and one.path.endswith("manifest.json") for one in asked)

    with meddling_store(s3_server.endpoint, asked.append) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert manifests_read() == 60
        assert manifests_read() == 0
        writes = [one.path for one in asked if one.method == "PUT" and "write-check" not in one.path]
        assert writes == []
        output.publish(manifest_like(real, "org/new", commit_of(99)))
        assert manifests_read() == 1
        assert sum(one.operation == "GET list-type" for one in asked) <= 6
        output.publish(manifest_like(real, "org/new", commit_of(99), [["a", "b"]]))
        assert manifests_read() == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    output.check_index()


def may_not_list(asked: Asked) -> tuple[int, str] | None:
    """All of the prefix may not be listed; a model, or whether there is anything, may."""
    query = asked.query.split("&")
    is_listing = "list-type=2" in query and not any(part.startswith("max-keys") for part in query)
    return (403, "AccessDenied") if is_listing and "prefix=surveys%2F" in query else None


def fails(asked: Asked) -> tuple[int, str] | None:
    """What belongs to the index cannot be written."""
    is_index = asked.path.endswith(FILES)
    return (403, "AccessDenied") if is_index and asked.method == "PUT" else None


def test_where_the_bucket_may_not_be_listed_a_run_adds_its_own_surveys(
    s3_server: SeaweedServer,
    s3_bucket: str,
    real: dict[str, Any],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = Output(f"s3://{s3_bucket}/surveys")
    output.publish(manifest_like(real, "org/known", commit_of(1)))
    assert index(output) == 0
    output.publish(manifest_like(real, "org/of-another-worker", commit_of(2)))
    with meddling_store(s3_server.endpoint, may_not_list) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert main([str(checkpoint), "./none", "--output", output.address]) == 65
        assert "the surveys of this worker alone" in caplog.text
        assert index(output) == 78
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    assert sorted(output.table()["model"]) == ["local/model", "org/known"]
    assert "failed at 1 model" in (output.store.read("index.html") or b"").decode()
    assert index(output) == 0
    output.check_index()
    assert output.table().height == 3


@pytest.mark.parametrize("meddles", [fails])
def test_an_index_that_cannot_be_written_is_no_reason_for_a_run_to_fail(
    s3_server: SeaweedServer,
    s3_bucket: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    meddles: Meddling,
) -> None:
    output = Output(f"s3://{s3_bucket}/surveys")
    with meddling_store(s3_server.endpoint, meddles) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert main([str(checkpoint), "--output", output.address]) == 0
        assert "the index is not up to date" in caplog.text
        assert index(output) == 78
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    assert main([str(checkpoint), "--output", output.address]) == 0
    output.check_index()


def test_a_run_that_is_terminated_still_tells_what_it_did(output: Output, checkpoint: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "import job.survey, entrypoint\n"
        "survey_or_fail = job.survey.survey_or_fail\n"
        "def second_is_interrupted(ref, *rest):\n"
        "    if ref.location.endswith('other'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return survey_or_fail(ref, *rest)\n"
        "job.survey.survey_or_fail = second_is_interrupted\n"
        "sys.argv[1:] = sys.argv[1:]\n"
        "entrypoint.run_as_process()\n"
    )
    other = write_checkpoint(tmp_path / "other", planted(40, 8, []), n_tokens=40)
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint), str(other), "--output", output.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    output.check_index()
    assert output.table()["model"].to_list() == ["local/model"]
    page = (output.store.read("index.html") or b"").decode()
    assert "1 not reached" in page
    assert "Terminated" in page
