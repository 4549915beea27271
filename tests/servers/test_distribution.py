"""A run of several workers: one plan, each model surveyed by one of them, and a retry that goes on where it stopped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from entrypoint import main
from job.errors import TransientError
from job.runs.agreement import PinnedListWait, read_or_create
from job.store.folder import FolderStore
from job.store.s3.store import open_s3_store
from job.store.store import Store
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub

ROOT = Path(__file__).parents[2]
N_ROWS = {f"org/model-{n}": rows for n, rows in enumerate([4000, 200, 3000, 1000, 500, 2500, 800, 100, 1200, 300])}
HIDDEN_SIZE = 64
HASTY = PinnedListWait(poll=0.05, turn=0.3, maximum=1.5)


@pytest.fixture
def models(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Ten models of very different sizes on the Hub, and the folders they come from."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("MODELS", " ".join(N_ROWS))
    folders = {name: tmp_path / name for name in N_ROWS}
    for name, n_rows in N_ROWS.items():
        hub.add(name, write_checkpoint(folders[name], planted(n_rows, HIDDEN_SIZE, [[1, 2]])))
    return folders


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs one worker of a run, in this process."""

    def run(index: int, output: str, *, workers: int = 2, run: str = "nightly", models: str | None = None) -> int:
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.setenv("JOB_COMPLETIONS", str(workers))
        monkeypatch.setenv("RUN", run)
        if models is not None:
            monkeypatch.setenv("MODELS", models)
        return main(["--output", output])

    return run


@pytest.fixture(params=["conditions honoured", "conditions ignored"])
def output(request: pytest.FixtureRequest) -> str:
    """A bucket on a store that creates an object only once, and on one that does not."""
    if request.param == "conditions ignored":
        return str(request.getfixturevalue("weak_s3"))
    return f"s3://{request.getfixturevalue('s3_bucket')}/surveys"


def plan_of(store: Store, run: str) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(store.read(f"runs/{run}/plan.json") or b"null")
    return plan


def manifests(output: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in output.rglob("latest.json")]
    return {manifest["model"]: manifest for manifest in found}


def weight_bytes(hub: LoopbackHub) -> int:
    return sum(request.nbytes for request in hub.log if request.host == "cdn" and request.method == "GET")


def test_eight_workers_that_start_at_once_agree_on_one_plan(
    hub: LoopbackHub, models: dict[str, Path], output: str
) -> None:
    environment = {**os.environ, "RUN": "nightly", "OUTPUT": output, "JOB_COMPLETIONS": "8", "LOG_FORMAT": "json"}
    command = [sys.executable, str(ROOT / "entrypoint.py")]
    # The last one first, so that worker 0 is the one that comes late.
    with ExitStack() as running:
        workers = [
            running.enter_context(
                subprocess.Popen(
                    command, env={**environment, "JOB_COMPLETION_INDEX": str(index)}, stderr=subprocess.PIPE
                )
            )
            for index in reversed(range(8))
        ]
        for each in workers:
            running.callback(each.kill)
        logs = [each.communicate(timeout=200)[1].decode() for each in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, logs
    store = open_s3_store(output)
    plan = plan_of(store, "nightly")
    assert [model["model"] for model in plan["models"]] == list(models)
    for index, log in zip(reversed(range(8)), logs, strict=True):
        surveyed = {line["model"] for line in map(json.loads, log.splitlines()) if " surveyed in " in line["message"]}
        assert surveyed == {model["model"] for model in plan["models"] if model["worker"] == index}
    assert {key.removesuffix("/latest.json") for key in store.sizes("") if key.endswith("/latest.json")} == set(models)
    # Asked about once by whoever made the plan, and once by its own worker.
    for name in models:
        assert len([request for request in hub.log if request.path.startswith(f"/api/models/{name}/")]) <= 2
    w_nbytes = sum(n_rows * HIDDEN_SIZE * 2 for n_rows in N_ROWS.values())
    assert weight_bytes(hub) < 1.1 * w_nbytes + len(models) * 2 * 100_000


@pytest.mark.usefixtures("models")
def test_the_shares_are_balanced_by_the_bytes_to_read(worker: Callable[..., int], tmp_path: Path) -> None:
    assert worker(0, str(tmp_path / "out"), workers=3) == 0
    plan = json.loads((tmp_path / "out" / "runs" / "nightly" / "plan.json").read_text())
    assert {model["model"]: model["read_nbytes"] for model in plan["models"]} == {
        name: n_rows * HIDDEN_SIZE * 2 for name, n_rows in N_ROWS.items()
    }
    moved = [sum(model["read_nbytes"] for model in plan["models"] if model["worker"] == index) for index in range(3)]
    assert max(moved) < 1.05 * sum(moved) / 3
    assert manifests(tmp_path / "out").keys() == {model["model"] for model in plan["models"] if model["worker"] == 0}


def test_a_release_in_the_middle_of_a_run_changes_nobodys_share(
    hub: LoopbackHub, models: dict[str, Path], worker: Callable[..., int], tmp_path: Path
) -> None:
    assert worker(0, str(tmp_path / "out")) == 0
    before = {name: repo.refs["main"] for name, repo in hub.repos.items()}
    left = sorted(models.keys() - manifests(tmp_path / "out").keys())
    for name in models:
        hub.add(name, write_checkpoint(tmp_path / "new" / name, planted(50, HIDDEN_SIZE, [[3, 4, 5]])))
    assert worker(1, str(tmp_path / "out")) == 0
    published = manifests(tmp_path / "out")
    assert left
    assert {name: manifest["commit"] for name, manifest in published.items()} == before
    assert {name: manifest["revision"] for name, manifest in published.items()} == dict.fromkeys(models)


def test_what_a_query_finds_is_pinned_for_all_workers_and_a_later_release_is_left_to_the_next_run(
    hub: LoopbackHub, models: dict[str, Path], worker: Callable[..., int], tmp_path: Path
) -> None:
    query = "hub?author=org&exclude=model-0"
    assert worker(0, str(tmp_path / "out"), models=query) == 0
    hub.add("org/released-meanwhile", models["org/model-0"])
    assert worker(1, str(tmp_path / "out"), models=query) == 0
    assert manifests(tmp_path / "out").keys() == models.keys() - {"org/model-0"}
    hub.log.clear()
    for index in range(2):
        assert worker(index, str(tmp_path / "out"), models=query, run="next") == 0
    assert manifests(tmp_path / "out").keys() - models.keys() == {"org/released-meanwhile"}
    assert weight_bytes(hub) < N_ROWS["org/model-0"] * HIDDEN_SIZE * 2 + 2 * len(models) * 100_000


def test_a_worker_that_is_still_planning_takes_the_plan_that_another_one_wrote(
    hub: LoopbackHub,
    models: dict[str, Path],
    worker: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert worker(0, str(tmp_path / "another"), workers=1) == 0
    plan = json.loads((tmp_path / "another" / "runs" / "nightly" / "plan.json").read_text())
    plan["models"] = plan["models"][:2]
    hub.log.clear()
    hub.latency = 0.2
    monkeypatch.setenv("PLAN_CONCURRENCY", "1")

    def write_meanwhile() -> None:
        while not hub.log:
            time.sleep(0.01)
        assert FolderStore(tmp_path / "out").create("runs/nightly/plan.json", json.dumps(plan).encode())

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_meanwhile)
        assert worker(0, str(tmp_path / "out"), workers=1) == 0
        writing.result()
    assert manifests(tmp_path / "out").keys() == {"org/model-0", "org/model-1"}
    asked = {name for name in models for request in hub.log if request.path.startswith(f"/api/models/{name}")}
    assert len(asked) < len(models), "it went on to ask about all of them"


def test_a_retried_worker_goes_on_where_it_stopped(
    hub: LoopbackHub, models: dict[str, Path], worker: Callable[..., int], tmp_path: Path
) -> None:
    missing = {"X-Error-Code": "RevisionNotFound"}
    hub.faults = [Fault("/api/models/org/model-3/revision/*", "hub", times=None, status=404, headers=missing)]
    assert worker(0, str(tmp_path / "out"), workers=1) == 65
    done = manifests(tmp_path / "out")
    assert len(done) == len(models) - 1
    hub.log.clear()
    hub.faults.clear()
    assert worker(0, str(tmp_path / "out"), workers=1) == 0
    (missed,) = manifests(tmp_path / "out").keys() - done.keys()
    assert weight_bytes(hub) < N_ROWS[missed] * HIDDEN_SIZE * 2 + len(models) * 100_000


def test_a_model_that_fails_is_reported_by_its_own_worker_alone(
    hub: LoopbackHub, models: dict[str, Path], worker: Callable[..., int], tmp_path: Path
) -> None:
    hub.add("org/gated", models["org/model-0"], access="gated")
    statuses = [
        worker(index, str(tmp_path / "out"), workers=11, models=" ".join([*models, "org/gated"])) for index in range(11)
    ]
    assert sorted(statuses) == [0] * 10 + [65]
    assert manifests(tmp_path / "out").keys() == models.keys()


@pytest.mark.usefixtures("models")
def test_a_setting_that_is_wrong_for_one_model_keeps_no_other_from_being_surveyed(
    worker: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    listed = "org/model-1 s3://bucket/without-credentials org/model-2"
    assert [worker(index, str(tmp_path / "out"), workers=3, models=listed) for index in range(3)] == [0, 0, 78]
    assert manifests(tmp_path / "out").keys() == {"org/model-1", "org/model-2"}


@pytest.mark.usefixtures("models")
def test_more_workers_than_models_leave_some_with_nothing_to_do(
    worker: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = [worker(index, str(tmp_path / "out"), workers=3, models="org/model-7") for index in range(3)]
    assert statuses == [0, 0, 0]
    assert manifests(tmp_path / "out").keys() == {"org/model-7"}
    assert [record.message.split(" in ")[0] for record in caplog.records if record.name == "job.runs.agreement"] == [
        f"worker {index} of 3: {share} of the 1 models" for index, share in enumerate((1, 0, 0))
    ]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("workers", "listed"), [(3, None), (2, "org/model-1")], ids=["workers", "list"])
def test_a_runs_name_is_refused_for_another_run(
    worker: Callable[..., int],
    tmp_path: Path,
    workers: int,
    listed: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert worker(0, str(tmp_path / "out")) == 0
    assert worker(1, str(tmp_path / "out"), workers=workers, models=listed) == 78
    assert "choose another RUN" in caplog.text


@pytest.mark.usefixtures("models")
def test_no_plan_is_made_of_a_hub_that_does_not_answer(
    hub: LoopbackHub, worker: Callable[..., int], tmp_path: Path
) -> None:
    hub.faults = [Fault("*", host="hub", status=429, headers={"Retry-After": "3600"}, times=None)]
    assert worker(0, str(tmp_path / "out")) == 75
    assert not list(tmp_path.rglob("plan.json"))
    hub.faults = []
    assert worker(0, str(tmp_path / "out"), run="again") == 0


def test_on_a_store_that_creates_once_another_worker_takes_over_for_worker_0(s3_bucket: str) -> None:
    store = open_s3_store(f"s3://{s3_bucket}")
    assert read_or_create(store, "runs/a/plan.json", 3, lambda: b"by worker 3", HASTY) == b"by worker 3"
    assert read_or_create(store, "runs/a/plan.json", 0, lambda: b"by worker 0", HASTY) == b"by worker 3"
    assert list(store.sizes("")) == ["runs/a/plan.json"]


def test_workers_that_take_over_at_once_still_agree(s3_bucket: str) -> None:
    store = open_s3_store(f"s3://{s3_bucket}")

    def work(index: int) -> bytes:
        return read_or_create(
            store, "runs/a/plan.json", index, lambda: f"by worker {index}".encode(), PinnedListWait(0.05, 0.0, 5.0)
        )

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1


def test_on_a_store_that_does_not_create_once_only_worker_0_writes(weak_s3: str) -> None:
    store = open_s3_store(weak_s3)
    with pytest.raises(TransientError, match="expected the list from worker 0"):
        read_or_create(store, "runs/a/plan.json", 3, lambda: b"by worker 3", HASTY)
    assert list(store.sizes("")) == []

    def late() -> bytes:
        time.sleep(1.0)
        return b"by worker 0"

    with ThreadPoolExecutor(8) as pool:
        others = [
            pool.submit(
                read_or_create, store, "runs/a/plan.json", index, lambda: b"by another", PinnedListWait(0.05, 0.1, 20.0)
            )
            for index in range(1, 8)
        ]
        assert read_or_create(store, "runs/a/plan.json", 0, late, HASTY) == b"by worker 0"
        assert {other.result() for other in others} == {b"by worker 0"}
