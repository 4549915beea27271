"""What a plan says of a list of models, what it asks for that, and that it writes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.filesize import decimal
from safetensors.torch import save_file

from entrypoint import main
from job.limits.need import NUMBERS_SCRATCH_NBYTES, PART_NBYTES, TOKEN_SCRATCH_FACTOR, TOKEN_SCRATCH_NBYTES
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.seaweed import SeaweedServer

ROOT = Path(__file__).parents[2]
N_MODELS = 36


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A checkpoint in one file, one in shards, one without an unembedding."""
    whole = write_checkpoint(tmp_path / "models" / "whole", planted(300, 16, [[1, 2]]), n_tokens=300)
    sharded, headless = tmp_path / "models" / "sharded", tmp_path / "models" / "headless"
    for folder in (sharded, headless):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaModel"], "model_type": "llama"}))
    head, rest = {"lm_head.weight": planted(300, 16, [])}, {"model.norm.weight": torch.zeros(16)}
    save_file(head, sharded / "1.safetensors")
    save_file(rest, sharded / "2.safetensors")
    index = {"weight_map": {"lm_head.weight": "1.safetensors", "model.norm.weight": "2.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(rest, headless / "model.safetensors")
    return {"whole": whole, "sharded": sharded, "headless": headless}


@pytest.fixture
def models(hub: LoopbackHub, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A few dozen models by name, each with what becomes of it."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    kinds = ["whole", "sharded", "headless", "gated", "missing"]
    models = {f"{kind}/model-{n}": kind for n in range(N_MODELS) for kind in [kinds[n % len(kinds)]]}
    for name, kind in models.items():
        if kind != "missing":
            hub.add(name, folders.get(kind, folders["whole"]), access="gated" if kind == "gated" else "public")
    return models


def tokenizer_nbytes(folder: Path) -> int:
    """The size of what names the tokens; 0 without a tokenizer."""
    files = [folder / "tokenizer.json", folder / "config.json"]
    return sum(path.stat().st_size for path in files) if files[0].exists() else 0


def plan(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> dict[str, Any]:
    """The plan as JSON, which must be all that is on standard output."""
    assert main(["plan", *arguments, "--format", "json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_plan_says_of_each_model_what_its_survey_takes_or_why_it_fails(
    models: dict[str, str], folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(capsys, *models, "--output", str(tmp_path / "out"), status=65)
    assert [model["model"] for model in planned["models"]] == list(models)
    kinds = {"headless": "NoUnembedding", "gated": "ModelUnavailable", "missing": "ModelUnavailable"}
    for model in planned["models"]:
        kind = models[model["model"]]
        error = model["error"] and model["error"]["kind"]
        assert (model["status"], error) == ("fails" if kind in kinds else "to survey", kinds.get(kind))
        if error:
            assert model["error"]["exit_status"] == 65
            assert model["model"] in model["error"]["message"]
            continue
        need = model["need"]
        nbytes = 300 * 16 * 2
        size = sum(path.stat().st_size for path in folders[kind].iterdir())
        assert (need["tensor"], need["dtype"], need["shape"]) == ("lm_head.weight", "BF16", [300, 16])
        assert "lm_head.weight is stored" in need["reason"]
        to_read = nbytes + tokenizer_nbytes(folders[kind])
        assert (need["w_nbytes"], need["read_nbytes"], need["checkpoint_nbytes"]) == (nbytes, to_read, size)
        # W's rows are read again from the output, so only the tokenizer and the tables are on disk.
        of_tokenizer = tokenizer_nbytes(folders[kind])
        row_nbytes = TOKEN_SCRATCH_NBYTES if of_tokenizer else NUMBERS_SCRATCH_NBYTES
        assert need["scratch_nbytes"] == of_tokenizer + TOKEN_SCRATCH_FACTOR * of_tokenizer + 300 * row_nbytes
        assert need["tie"] == "untied"
    surveyed = [folders[kind] for kind in models.values() if kind in ("whole", "sharded")]
    assert planned["totals"]["read_nbytes"] == sum(300 * 16 * 2 + tokenizer_nbytes(folder) for folder in surveyed)
    assert not (tmp_path / "out").exists()


def test_a_plan_asks_for_no_more_than_it_needs_and_for_no_weights(
    hub: LoopbackHub, models: dict[str, str], tmp_path: Path
) -> None:
    assert main(["plan", *models, "--output", str(tmp_path / "out")]) == 65
    requests = Counter[str]()
    for request in hub.log:
        owner = next((name for name in models if f"/{name}/" in f"{request.path}/"), request.host)
        requests[owner] += 1
    # The commit; config.json and, where there is one, the index: its place and its content; a header's place. A refusal
    # is heard twice.
    expected = {"whole": 4, "sharded": 6, "headless": 4, "gated": 3, "missing": 2}
    assert {name: requests[name] for name in models} == {name: expected[kind] for name, kind in models.items()}
    assert requests["cdn"] == sum(kind in ("whole", "sharded", "headless") for kind in models.values())


@pytest.mark.parametrize(("store", "parts", "sent"), [("s3", 5, ", and 5 parts sent\n"), ("folder", 0, "\n")])
def test_a_plan_states_what_is_in_flight_and_counts_its_memory(
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    s3_bucket: str,
    store: str,
    parts: int,
    sent: str,
) -> None:
    whole = next(name for name, kind in models.items() if kind == "whole")
    output = f"s3://{s3_bucket}" if store == "s3" else str(tmp_path / "out")
    arguments = [whole, "--output", output, "--connections", "3"]
    needs = [plan(capsys, *arguments, "--parts", str(given), status=0)["models"][0]["need"] for given in (5, 6)]
    assert (needs[0]["connections"], needs[0]["parts"]) == (3, parts)
    assert needs[1]["memory_nbytes"] - needs[0]["memory_nbytes"] == (PART_NBYTES if parts else 0)
    assert main(["plan", *arguments, "--parts", "5"]) == 0
    assert f"At a time: up to 3 byte ranges of a file fetched{sent}" in capsys.readouterr().out


def test_what_is_published_is_not_planned_to_be_read(
    hub: LoopbackHub,
    models: dict[str, str],
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done, touched, fresh = [name for name, kind in models.items() if kind == "whole"][:3]
    output = ["--output", str(tmp_path / "out")]
    assert main([done, touched, *output]) == 0
    (folders["whole"] / "README.md").write_text("only this is new")
    hub.add(touched, folders["whole"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    planned = plan(capsys, done, touched, fresh, *output, status=0)
    statuses = [(model["status"], model["need"]["read_nbytes"]) for model in planned["models"]]
    tokenizer = tokenizer_nbytes(folders["whole"])
    assert tokenizer > 0
    assert statuses == [
        ("already published", 0),
        ("same content", tokenizer),
        ("to survey", 300 * 16 * 2 + tokenizer),
    ]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    more = plan(capsys, done, *output, "--tensors", "mu", status=0)
    assert more["models"][0]["status"] == "already published"


def test_the_run_does_what_the_plan_said(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = list(models)[:5]
    planned = plan(capsys, *some, "--output", str(tmp_path / "out"), status=65)
    assert main([*some, "--output", str(tmp_path / "out")]) == 65
    for model in planned["models"]:
        manifest = tmp_path / "out" / model["model"] / "latest.json"
        assert manifest.exists() == (model["status"] == "to survey")
        if manifest.exists():
            tensor = json.loads(manifest.read_text())["tensor"]
            assert (tensor["name"], tensor["reason"]) == (model["need"]["tensor"], model["need"]["reason"])


def test_a_rate_limit_met_by_one_model_holds_the_others_back(
    hub: LoopbackHub, models: dict[str, str], tmp_path: Path
) -> None:
    hub.faults = [Fault("/api/models/*/model-20", host="hub", status=429, headers={"Retry-After": "5"})]
    hub.latency = 0.02
    # To ask a model class takes transformers, whose import keeps the threads from ending what they have under way.
    quick = [name for name, kind in models.items() if kind != "headless"]
    assert main(["plan", *quick, "--output", str(tmp_path / "out")]) == 65
    (limited,) = [request.at for request in hub.log if request.status == 429]
    # What was under way at that moment may still end.
    assert [request for request in hub.log if limited + 2 < request.at < limited + 4.9] == []
    assert max(request.at for request in hub.log) > limited + 5


def test_a_demand_to_wait_for_too_long_fails_every_model_after_few_requests(
    hub: LoopbackHub, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults = [Fault("/api/models/*", host="hub", status=429, headers={"Retry-After": "3600"}, times=None)]
    planned = plan(capsys, *models, "--output", str(tmp_path / "out"), "--plan-concurrency", "4", status=75)
    assert {model["error"]["kind"] for model in planned["models"]} == {"TransientError"}
    assert len([request for request in hub.log if request.path.startswith("/api/models/")]) <= 4


@pytest.mark.parametrize(
    ("output", "status"), [("s3://there-is-no-such-bucket/x", 78), ("{file}", 78)], ids=["no-bucket", "not-a-folder"]
)
@pytest.mark.usefixtures("s3_server")
def test_a_store_that_cannot_be_read_ends_the_plan_before_any_model(
    hub: LoopbackHub, models: dict[str, str], tmp_path: Path, output: str, status: int, monkeypatch: pytest.MonkeyPatch,
    s3_server: SeaweedServer,
) -> None:  # fmt: skip
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("")
    assert main(["plan", *models, "--output", output.format(file=tmp_path / "file")]) == status
    assert hub.log == []


def test_a_plan_of_what_an_s3_bucket_holds_writes_nothing_there(
    models: dict[str, str], s3_server: SeaweedServer, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(capsys, *list(models)[:2], "--output", f"s3://{s3_bucket}/surveys", status=0)
    client = s3_server.client()
    assert client.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0
    assert client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads", []) == []


def test_the_table_names_each_model_its_tensor_and_each_reason_once(
    models: dict[str, str], folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *models, "--output", str(tmp_path / "out")]) == 65
    printed = capsys.readouterr().out
    for name, kind in models.items():
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert ("300 × 16" in row) == (kind in ("whole", "sharded"))
    (why,) = [line for line in printed.splitlines() if line.startswith("Why  ")]
    assert "lm_head.weight is stored" in why
    assert why.endswith("and 11 more")
    refused = [line for line in printed.splitlines() if line.startswith("NoUnembedding  ")]
    assert len(refused) == sum(kind == "headless" for kind in models.values())
    to_read = sum(9_600 + tokenizer_nbytes(folders[kind]) for kind in models.values() if kind in ("whole", "sharded"))
    assert f"15 to survey, 21 fails; to read {decimal(to_read)}," in printed


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_plan_promptly(
    hub: LoopbackHub, models: dict[str, str], tmp_path: Path, number: int, status: int
) -> None:
    hub.faults = [Fault("/api/models/*", host="hub", status=429, headers={"Retry-After": "100"}, times=None)]
    command = [sys.executable, str(ROOT / "entrypoint.py"), "plan", *models, "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not hub.log:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == status
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert time.monotonic() - began < 5
