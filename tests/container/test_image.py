"""The image, really run: what it can do with nothing but a read-only root, a scratch volume and a number for a user."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mypy_boto3_s3 import S3Client
from safetensors.torch import load, save_file

from job import __version__
from job.store.safetensors_file import StoredTensor, header
from tests.checkpoints import planted, write_checkpoint
from tests.container.engine import IMAGE, SCRATCH, SECONDS, Container, tell_engine, writable
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.seaweed import SeaweedServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "checkpoints"
GROUPS = [[5, 700, 1400], [6, 7]]
ARTIFACTS = ("W", "mu", "gamma_centered", "black_holes")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose W has 41 MB, five ranges to read and parts to upload, and two black holes."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "model", planted(5000, 4096, GROUPS), n_tokens=5000)


@pytest.fixture
def served(hub: LoopbackHub, checkpoint: Path) -> LoopbackHub:
    hub.add("org/model", checkpoint)
    return hub


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return writable(tmp_path / "scratch")


def inspected() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(tell_engine("image", "inspect", IMAGE, "--format", "{{json .Config}}"))
    return config


def manifest_in(output: Path) -> dict[str, Any]:
    (latest,) = output.rglob("latest.json")
    manifest: dict[str, Any] = json.loads(latest.read_text())
    return manifest


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def assert_is_survey_of(w: torch.Tensor, files: dict[str, bytes]) -> None:
    """That what was published is ``w``, bit for bit, and what follows from it."""
    mu = load(files["mu"])["mu"]
    holes = load(files["black_holes"])
    assert bytes_of(load(files["W"])["W"]) == bytes_of(w)
    assert torch.allclose(mu, w.to(torch.float64).mean(dim=0).to(torch.float32), rtol=1e-6, atol=0)
    assert torch.equal(load(files["gamma_centered"])["gamma_centered"], w.to(torch.float32) - mu)
    assert [holes["black_hole_id"][group].tolist() for group in GROUPS] == [[1, 1, 1], [2, 2]]


def test_the_image_says_what_it_is_and_runs_as_a_number_without_a_shell() -> None:
    config = inspected()
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == "black-hole-survey"
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert labels["revision"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "/app/entrypoint.py"]
    assert not config.get("Cmd")


LEFT = """
import json, os, sys
from pathlib import Path
modes = [path.stat().st_mode for path in Path("/app").rglob("*")]
json.dump([os.path.exists("/etc/pip.conf"), all(mode & 0o004 for mode in modes), len(modes)], sys.stdout)
"""


def test_the_image_keeps_nothing_of_where_it_was_built_and_any_user_can_read_the_job() -> None:
    result = Container(user="4321", options=("--entrypoint", "python")).run("-c", LEFT)
    has_pip_settings, is_readable, n_files = json.loads(result.stdout)
    assert (has_pip_settings, is_readable, n_files > 50) == (False, True, True)


def test_the_image_is_there_under_the_name_that_pods_ask_for() -> None:
    completed = IMAGE if "/" in IMAGE else f"docker.io/library/{IMAGE}"
    identity = ("image", "inspect", "--format", "{{.Id}}")
    assert tell_engine(*identity, completed) == tell_engine(*identity, IMAGE)


def test_help_and_version_need_neither_a_writable_place_nor_a_network() -> None:
    nowhere = Container(network="none")
    assert nowhere.run("--version").stdout == f"black-hole survey {__version__}\n"
    assert "Exit status:" in nowhere.run("--help").stdout


def test_a_survey_into_a_mounted_folder_belongs_to_whoever_ran_it(
    served: LoopbackHub, checkpoint: Path, scratch: Path, tmp_path: Path
) -> None:
    output = writable(tmp_path / "surveys")
    user = os.getuid() or 54321
    container = Container({"HF_ENDPOINT": served.endpoint}, {SCRATCH: scratch, "/surveys": output}, user=str(user))
    result = container.run("org/model")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = manifest_in(output)
    files = {name: (output / manifest["artifacts"][name]["key"]).read_bytes() for name in ARTIFACTS}
    assert_is_survey_of(load((checkpoint / "model.safetensors").read_bytes())["lm_head.weight"], files)
    if os.getuid() == 0:  # without, the engine maps users as it likes
        assert {path.stat().st_uid for path in output.rglob("*")} == {user}
    assert list(scratch.iterdir()) == []


def test_a_survey_into_s3_needs_no_shell(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, checkpoint: Path, scratch: Path
) -> None:
    environment = {**s3_server.environment(), "HF_ENDPOINT": served.endpoint, "OUTPUT": f"s3://{s3_bucket}/surveys"}
    without_shell = {f"{shell}:ro": Path(os.devnull) for shell in ("/bin/sh", "/bin/bash")}
    container = Container(environment, {SCRATCH: scratch, **without_shell})
    result = container.run("org/model")
    assert result.returncode == 0, result.stdout + result.stderr
    client = s3_server.client()

    def read(key: str) -> bytes:
        return client.get_object(Bucket=s3_bucket, Key=f"surveys/{key}")["Body"].read()

    manifest = json.loads(read("org/model/latest.json"))
    files = {name: read(manifest["artifacts"][name]["key"]) for name in ARTIFACTS}
    assert_is_survey_of(load((checkpoint / "model.safetensors").read_bytes())["lm_head.weight"], files)
    assert uploads(client, s3_bucket) == []
    assert list(scratch.iterdir()) == []


def test_a_volume_can_be_filled_by_any_user(served: LoopbackHub) -> None:
    volume = f"survey-volume-{os.getpid()}"
    container = Container(
        {"HF_ENDPOINT": served.endpoint},
        user="12345:12345",
        options=("--volume", f"{volume}:/surveys", "--tmpfs", f"{SCRATCH}:mode=1777"),
    )
    try:
        result = container.run("org/model")
        assert result.returncode == 0, result.stdout + result.stderr
    finally:
        tell_engine("volume", "rm", volume)


STATUSES = {
    "missing model": (["org/missing"], 65, "ModelUnavailable"),
    "rate limit for a day": (["org/model"], 75, "TransientError"),
    "read-only output": (["org/model", "--output", "/app/surveys"], 78, "ConfigError"),
    "no list": ([], 78, "ConfigError"),
}


@pytest.mark.parametrize(("arguments", "status", "kind"), STATUSES.values(), ids=STATUSES)
def test_the_jobs_exit_status_is_the_containers(
    served: LoopbackHub, scratch: Path, tmp_path: Path, arguments: list[str], status: int, kind: str
) -> None:
    if status == 75:
        served.faults.append(Fault("*", host="hub", status=429, headers={"Retry-After": "86400"}, times=None))
    mounts = {SCRATCH: scratch, "/surveys": writable(tmp_path / "surveys")}
    result = Container({"HF_ENDPOINT": served.endpoint}, mounts).run(*arguments)
    assert result.returncode == status, result.stdout + result.stderr
    assert kind in result.stdout + result.stderr
    assert list(tmp_path.rglob("manifest.json")) == []


@pytest.mark.parametrize("store", ["folder", "s3"])
@pytest.mark.parametrize("told_by", ["kill", "stop"])
def test_sigterm_to_pid_1_ends_it_in_time_with_143_and_leaves_store_and_scratch_clean(
    served: LoopbackHub,
    s3_server: SeaweedServer,
    s3_bucket: str,
    scratch: Path,
    tmp_path: Path,
    store: str,
    told_by: str,
) -> None:
    client = s3_server.client()
    output = writable(tmp_path / "surveys")
    environment = {**s3_server.environment(), "HF_ENDPOINT": served.endpoint, "CONNECTIONS": "1"}
    environment |= {"OUTPUT": f"s3://{s3_bucket}/surveys"} if store == "s3" else {}
    container = Container(environment, {SCRATCH: scratch, "/surveys": output})
    with container.start("org/model") as process:
        wait_until(process, lambda: any(request.host == "cdn" for request in served.log))
        served.latency = 2.0  # of each of five ranges
        wait_until(process, lambda: bool(unfinished(output) or uploads(client, s3_bucket)))
        read_pid_1 = ["exec", container.name, "python", "-c", "print(open('/proc/1/cmdline').read().split('\\0'))"]
        assert tell_engine(*read_pid_1).startswith("['python', '/app/entrypoint.py', 'org/model'")
        began = time.monotonic()
        tell_engine(*(["kill", "--signal", "TERM"] if told_by == "kill" else ["stop", "--time", "30"]), container.name)
        assert process.wait(40) == 143
        assert time.monotonic() - began < 25
    told = {"index.html", "surveys.parquet", "surveys.csv", "outcomes-0.json"}
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket).get("Contents", [])]
    assert {name.rpartition("/")[2] for name in [*map(str, unfinished(output)), *keys]} == told
    assert uploads(client, s3_bucket) == []
    assert list(scratch.iterdir()) == []


def unfinished(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if path.is_file()]


def uploads(client: S3Client, bucket: str) -> list[str]:
    """The keys of multipart uploads that were begun and neither completed nor aborted, but for the job's own check."""
    begun = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [upload["Key"] for upload in begun if not upload["Key"].endswith("write-check")]


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


LARGE = StoredTensor("lm_head.weight", "BF16", (9_000, 32_768))
"""Its 590 MB are more than the container may have, let alone beside the 400 MB of the libraries."""


def test_a_w_larger_than_all_of_the_memory_is_surveyed(hub: LoopbackHub, scratch: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "large", torch.zeros(1, 1))
    config = json.loads((folder / "config.json").read_text())
    config |= {"vocab_size": LARGE.shape[0], "hidden_size": LARGE.shape[1]}
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header([LARGE], {}))
        file.truncate(file.tell() + LARGE.nbytes)  # a sparse file: every row is zero
    hub.add("org/large", folder)
    output = writable(tmp_path / "surveys")
    limited = Container({"HF_ENDPOINT": hub.endpoint}, {SCRATCH: scratch, "/surveys": output}, memory="512m")
    refused = limited.run("org/large", "--tensors", "mu", "--dedup", "torch-unique")
    assert (refused.returncode, "expected at most 537 MB" in refused.stdout) == (65, True), refused.stdout
    result = limited.run("org/large", "--tensors", "W,black_holes")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = manifest_in(output)
    assert manifest["statistics"]["black_hole_tokens"] == LARGE.shape[0]
    assert (output / manifest["artifacts"]["W"]["key"]).stat().st_size > LARGE.nbytes


def test_the_example_is_surveyed_from_a_folder_that_is_mounted_read_only(scratch: Path, tmp_path: Path) -> None:
    output, folder = writable(tmp_path / "surveys"), EXAMPLES / "SmolLM2-135M-Instruct"
    container = Container({}, {SCRATCH: scratch, "/surveys": output, "/models/SmolLM2:ro": folder})
    result = container.run("/models/SmolLM2", "--show-tokens", "3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert '4 black holes\n  1. 7 rows: 8 "<issue_start>"' in result.stdout


def test_where_names_do_not_settle_it_the_model_class_is_asked_and_transformers_reads_the_tokenizer(
    scratch: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "tied", writable(tmp_path / "surveys")
    folder.mkdir()
    config = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": 1500, "hidden_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"model.embed_tokens.weight": planted(1500, 64, GROUPS)}, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)  # which is not how safetensors writes it
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + [f"token{number}" for number in range(5, 1500)]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    container = Container({}, {SCRATCH: scratch, "/surveys": output, "/models/tied:ro": folder})
    result = container.run("/models/tied")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = manifest_in(output)
    assert manifest["tensor"]["reason"].startswith("Gemma2ForCausalLM ties lm_head.weight to its embedding")
    assert manifest["tokenizer"]["kind"].startswith("transformers BertTokenizer")
    assert [token["text"] for token in manifest["black_holes"][0]["tokens"]] == ["token5", "token700", "token1400"]


ASK_CLASSES = """
import json, sys
from job.checkpoints.head.architecture import ask_model_class
from job.checkpoints.head.model_class import ModelClassUnusable
from transformers.models.auto import modeling_auto

types = {}
for kind in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "IMAGE_TEXT_TO_TEXT", "PRETRAINING"):
    for model_type, names in getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES").items():
        types |= dict.fromkeys([names] if isinstance(names, str) else names, model_type)
answers = {}
for name in sorted(types)[::4]:
    try:
        answer = ask_model_class({"architectures": [name], "model_type": types[name]}, ["lm_head.weight"])
    except ModelClassUnusable as reason:
        answer = reason
    answers[name] = str(answer)
json.dump(answers, sys.stdout)
"""


def test_architectures_are_built_in_the_image_as_they_are_outside(scratch: Path) -> None:
    """Every fourth of transformers' classes, whatever each of them imports."""
    python = Container({"PYTHONPATH": "/app"}, {SCRATCH: scratch}, options=("--entrypoint", "python"))
    with python.start("-c", ASK_CLASSES) as inside:
        outside = subprocess.run(
            [sys.executable, "-c", ASK_CLASSES], cwd=ROOT, capture_output=True, text=True, check=True
        )
        printed = inside.communicate(timeout=SECONDS)[0]
    expected = json.loads(outside.stdout)
    assert len(expected) > 80
    assert json.loads(printed[printed.index('{"') :]) == expected


def test_boto3_has_the_services_that_give_it_credentials() -> None:
    python = Container(options=("--entrypoint", "python"))
    made = "import boto3; [boto3.client(name, region_name='x') for name in ('s3', 'sts', 'sso', 'sso-oidc', 'signin')]"
    assert python.run("-c", made).returncode == 0
