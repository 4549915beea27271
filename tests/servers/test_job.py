"""The whole job, from model list to published surveys: a Hub on one side, a real S3 server on the other."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load

from entrypoint import main
from job.store.s3.store import S3Store
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.seaweed import READ_ONLY, SeaweedServer
from tests.surveys import ALL_ARTIFACTS, TENSOR_FILES

ROOT = Path(__file__).parents[2]
GROUPS = [[5, 700, 4000], [6, 7], [8, 4999]]
W_NBYTES = 5000 * 2048 * 2
FILLER_NBYTES = 40_000_000


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 60 MB whose W has 20 MB, three black holes, and 40 rows that no token stands for."""
    folder = tmp_path_factory.mktemp("models") / "model"
    return write_checkpoint(folder, planted(5000, 2048, GROUPS), n_tokens=4960, filler_nbytes=FILLER_NBYTES)


@pytest.fixture
def served(hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoopbackHub:
    """The Hub, with the model as org/model, and a job that reads from it."""
    hub.add("org/model", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    return hub


def published(output: Path, name: str = "org/model") -> dict[str, bytes]:
    """What a manifest in a folder names, by artifact; and that each is what the manifest says it is."""
    manifest = latest(output, name)
    return {artifact: (output / entry["key"]).read_bytes() for artifact, entry in manifest["artifacts"].items()}


def latest(output: Path, name: str = "org/model") -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((output / name / "latest.json").read_text())
    return manifest


@pytest.mark.usefixtures("served")
def test_a_model_on_the_hub_is_published_to_s3(s3_server: SeaweedServer, s3_bucket: str, checkpoint: Path) -> None:
    assert main(["org/model", "--output", f"s3://{s3_bucket}/surveys"]) == 0
    client = s3_server.client()
    manifest = json.loads(client.get_object(Bucket=s3_bucket, Key="surveys/org/model/latest.json")["Body"].read())
    files = {
        name: client.get_object(Bucket=s3_bucket, Key=f"surveys/{artifact['key']}")["Body"].read()
        for name, artifact in manifest["artifacts"].items()
    }
    w = load((checkpoint / "model.safetensors").read_bytes())["lm_head.weight"]
    mu = w.to(torch.float64).mean(dim=0).to(torch.float32)
    assert torch.equal(load(files["W"])["W"], w)
    assert torch.allclose(load(files["mu"])["mu"], mu, rtol=1e-6, atol=0)
    assert torch.equal(load(files["gamma_centered"])["gamma_centered"], w.to(torch.float32) - load(files["mu"])["mu"])
    holes = load(files["black_holes"])
    assert [holes["black_hole_id"][group].tolist() for group in GROUPS] == [[1, 1, 1], [2, 2], [3, 3]]
    assert holes["black_hole_mask"].sum() == 7
    assert torch.equal(holes["black_hole_centroids"], w[[group[0] for group in GROUPS]])
    assert client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []


def test_only_the_bytes_of_w_cross_the_network_and_only_once(served: LoopbackHub, tmp_path: Path) -> None:
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    headers = 100_000  # what is read of a file to find its header
    assert W_NBYTES <= served.weight_bytes_sent <= W_NBYTES + headers
    checkpoint_read = latest(tmp_path / "out")["checkpoint"]
    assert W_NBYTES < checkpoint_read["bytes_fetched"] < W_NBYTES + 300_000 < checkpoint_read["nbytes"]
    resolved = [request for request in served.log if request.host == "hub" and request.path.endswith(".safetensors")]
    assert len(resolved) == 1


def test_a_model_that_is_published_is_not_read_again(served: LoopbackHub, tmp_path: Path) -> None:
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    before, served.log[:] = latest(tmp_path / "out"), []
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    assert served.weight_bytes_sent <= 100_000
    assert latest(tmp_path / "out") == before


def test_a_commit_that_leaves_w_as_it_was_gets_a_manifest_that_points_at_the_old_artifacts(
    served: LoopbackHub, checkpoint: Path, tmp_path: Path
) -> None:
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    before, served.log[:] = latest(tmp_path / "out"), []
    (checkpoint / "README.md").write_text("only this is new")
    commit = served.add("org/model", checkpoint)
    (checkpoint / "README.md").unlink()
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    after = latest(tmp_path / "out")
    assert after["commit"] == commit != before["commit"]
    assert served.weight_bytes_sent <= 100_000
    assert after["artifacts"] == before["artifacts"]
    assert (after["statistics"], after["black_holes"]) == (before["statistics"], before["black_holes"])
    assert published(tmp_path / "out").keys() == ALL_ARTIFACTS


def test_a_model_in_the_hubs_cache_that_is_published_from_the_hub_is_not_read_again(
    served: LoopbackHub, tmp_path: Path
) -> None:
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0
    before = latest(tmp_path / "out")
    snapshot_download("org/model", cache_dir=tmp_path / "cache", endpoint=served.endpoint, token=False)
    assert main([str(tmp_path / "cache" / "models--org--model"), "--output", str(tmp_path / "out")]) == 0
    assert latest(tmp_path / "out") == before


@pytest.mark.usefixtures("served")
def test_artifacts_asked_for_later_join_those_that_are_there(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    assert main(["org/model", "--output", output, "--tensors", "mu"]) == 0
    assert latest(tmp_path / "out")["artifacts"].keys() == {"mu"}
    assert main(["org/model", "--output", output, "--tensors", "black_holes,W"]) == 0
    assert published(tmp_path / "out").keys() == {"mu", "black_holes", "W"}


def test_more_tensors_for_several_commits_of_one_w_read_it_once(
    served: LoopbackHub, checkpoint: Path, tmp_path: Path
) -> None:
    first = served.repos["org/model"].refs["main"]
    (checkpoint / "README.md").write_text("another commit")
    second = served.add("org/model", checkpoint)
    (checkpoint / "README.md").unlink()
    models = [f"org/model@{commit}" for commit in (first, second)]
    assert main([*models, "--output", str(tmp_path / "out"), "--tensors", "W"]) == 0
    served.log.clear()
    assert main([*models, "--output", str(tmp_path / "out")]) == 0
    headers = 200_000
    assert W_NBYTES <= served.weight_bytes_sent <= W_NBYTES + headers
    keys = []
    for commit in (first, second):
        manifest = json.loads((tmp_path / "out/org/model" / commit / "manifest.json").read_text())
        assert manifest["artifacts"].keys() == ALL_ARTIFACTS
        keys.append({name: entry["key"] for name, entry in manifest["artifacts"].items()})
    assert keys[0] == keys[1]


def test_a_tokenizer_that_cannot_be_fetched_for_now_costs_no_reading_of_w(served: LoopbackHub, tmp_path: Path) -> None:
    served.faults.append(Fault("*/tokenizer.json", "hub", status=429, headers={"Retry-After": "1000"}))
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 75
    assert served.weight_bytes_sent <= 100_000
    served.faults.clear()
    assert main(["org/model", "--output", str(tmp_path / "out")]) == 0


def test_the_same_bytes_are_published_whatever_the_source_and_the_connections(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, checkpoint: Path, tmp_path: Path
) -> None:
    client = s3_server.client()
    for file in checkpoint.iterdir():
        client.upload_file(str(file), s3_bucket, f"models/model/{file.name}")
    served.mirrors["model"] = checkpoint
    snapshot_download("org/model", cache_dir=tmp_path / "cache", endpoint=served.endpoint, token=False)
    runs = {
        "hub": ["org/model", "--connections", "1"],
        "hub-many": ["org/model", "--connections", "9"],
        "hub-torch": ["org/model", "--dedup", "torch-unique"],
        "hub-cache": [str(tmp_path / "cache" / "models--org--model")],
        "folder": [str(checkpoint)],
        "s3": [f"s3://{s3_bucket}/models/model"],
        "http": [f"{served.endpoint}/mirror/model"],
    }
    contents = {}
    for run, arguments in runs.items():
        assert main([*arguments, "--output", str(tmp_path / run)]) == 0
        (manifest,) = (tmp_path / run).rglob("latest.json")
        entries = json.loads(manifest.read_text())["artifacts"]
        tensors = {name: load((tmp_path / run / entries[name]["key"]).read_bytes()) for name in TENSOR_FILES}
        contents[run] = {
            tensor: value.reshape(-1).view(torch.uint8).numpy().tobytes()
            for file in tensors.values()
            for tensor, value in file.items()
        }
        if run.startswith("hub"):
            contents[run] |= {name: (tmp_path / run / entries[name]["key"]).read_bytes() for name in ALL_ARTIFACTS}
    assert contents["hub"] == contents["hub-many"] == contents["hub-torch"] == contents["hub-cache"]
    tensors_alone = {name: content for name, content in contents["hub"].items() if name in contents["folder"]}
    assert contents["folder"].keys() == contents["s3"].keys()
    assert {name: contents["folder"][name] for name in tensors_alone} == contents["folder"] == contents["s3"]
    assert contents["http"] == contents["folder"]


FAULTS = {
    "cut": Fault("*", ending="cut", nbytes=3_000_000, times=3),
    "reset": Fault("*", ending="reset", nbytes=100_000, times=2),
    "stall": Fault("*", ending="stall", nbytes=1_000_000),
    "503": Fault("*", status=503),
    "429": Fault("*", status=429, headers={"Retry-After": "1"}),
    "expired": Fault("*", status=403),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_on_the_way_changes_no_byte(
    served: LoopbackHub, fault: Fault, checkpoint: Path, tmp_path: Path
) -> None:
    served.faults.append(Fault(**vars(fault)))
    assert main(["org/model", "--output", str(tmp_path / "out"), "--read-timeout", "2"]) == 0
    assert served.faults[0].times == 0, "the fault was not met"
    w = load((checkpoint / "model.safetensors").read_bytes())["lm_head.weight"]
    assert torch.equal(load(published(tmp_path / "out")["W"])["W"], w)


def test_one_model_failing_does_not_stop_the_others_and_each_failure_is_named(
    served: LoopbackHub, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.add("org/gated", checkpoint, access="gated")
    arguments = ["org/gated", "org/missing", "org/model", "--output", str(tmp_path / "out")]
    assert main(arguments) == 65
    assert published(tmp_path / "out").keys() == ALL_ARTIFACTS
    summary = capsys.readouterr().out
    assert re.search(r"ModelUnavailable .*org/gated.*HF_TOKEN", summary)
    assert re.search(r"ModelUnavailable .*org/missing", summary)
    assert "1 surveyed" in summary
    assert "2 failed" in summary


def test_a_failure_that_a_retry_may_mend_decides_over_one_that_none_can(served: LoopbackHub, tmp_path: Path) -> None:
    served.faults.append(Fault("*", status=429, headers={"Retry-After": "100000"}, times=None))
    assert main(["org/missing", "org/model", "--output", str(tmp_path / "out")]) == 75
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_gated_model_is_read_with_the_token_which_reaches_only_the_hub_and_no_output(
    served: LoopbackHub,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    served.add("org/gated", checkpoint, access="gated")
    served.tokens["hf_secret_token"] = {"org/gated"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    assert main(["org/gated", "org/missing", "--output", str(tmp_path / "out")]) == 65
    assert {request.token for request in served.log if request.host == "cdn"} == {None}
    assert "hf_secret_token" in {request.token for request in served.log if request.host == "hub"}
    captured = capfd.readouterr()
    everything = captured.out + captured.err + "".join(map(str, (tmp_path / "out").rglob("*")))
    everything += b"".join(published(tmp_path / "out", "org/gated").values()).decode("latin-1")
    assert "hf_secret_token" not in everything + json.dumps(latest(tmp_path / "out", "org/gated"))


BAD_STORES = {
    "no-bucket": ({}, "s3://there-is-no-such-bucket/x"),
    "wrong-secret": ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-value"}, "s3://{}/x"),
    "unknown-key": ({"AWS_ACCESS_KEY_ID": "unknown"}, "s3://{}/x"),
    "read-only": (
        {"AWS_ACCESS_KEY_ID": READ_ONLY.access_key, "AWS_SECRET_ACCESS_KEY": READ_ONLY.secret_key},
        "s3://{}/x",
    ),
}


@pytest.mark.parametrize(("environment", "output"), BAD_STORES.values(), ids=BAD_STORES)
def test_a_store_that_refuses_ends_the_run_before_anything_is_read(
    served: LoopbackHub,
    s3_bucket: str,
    environment: dict[str, str],
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["org/model", "--output", output.format(s3_bucket)]) == 78
    assert served.log == []
    captured = capfd.readouterr()
    assert "wrong-secret-value" not in captured.out + captured.err


def test_a_store_that_goes_down_midway_is_worth_a_retry_which_then_succeeds(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"s3://{s3_bucket}/surveys"
    with subprocess.Popen(job("org/model", "--output", output), env=slow_reading(served)) as process:
        wait_for_weights(served)
        s3_server.kill()
        served.faults.clear()
        assert process.wait(120) == 75
    s3_server.start()
    client = s3_server.client()
    assert client.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0
    monkeypatch.setattr(S3Store.discard_unfinished, "__defaults__", (0.0,))  # as if the upload were old
    assert main(["org/model", "--output", output]) == 0
    assert client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []


@pytest.mark.parametrize("store", ["folder", "s3"])
def test_sigterm_ends_the_run_with_143_and_leaves_the_store_clean(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, store: str, tmp_path: Path
) -> None:
    output = f"s3://{s3_bucket}/surveys" if store == "s3" else str(tmp_path / "out")
    with subprocess.Popen(job("org/model", "--output", output), env=slow_reading(served)) as process:
        wait_for_weights(served)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    client = s3_server.client()
    # The index, and what came of the run, are all there is.
    in_folder = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")]
    in_bucket = [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket).get("Contents", [])]
    left = in_folder + [key.removeprefix("surveys/") for key in in_bucket]
    assert sorted(key for key in left if not key.startswith("runs/")) == [
        "index.html",
        "surveys.csv",
        "surveys.parquet",
    ]
    assert client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def job(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "entrypoint.py"), *arguments]


def slow_reading(served: LoopbackHub) -> dict[str, str]:
    """The environment of a job whose third range of weights, and what follows, takes long to come."""
    served.faults.append(Fault("*", ending="stall", nbytes=500_000, times=None))
    return {**os.environ, "CONNECTIONS": "1", "READ_TIMEOUT": "3"}


def wait_for_weights(served: LoopbackHub) -> None:
    """Until some of W has arrived."""
    deadline = time.monotonic() + 60
    while served.weight_bytes_sent < 300_000:
        assert time.monotonic() < deadline, "the job did not start to read"
        time.sleep(0.05)
