"""An Indexed Job over six models: a container for each index, with the rendered manifest's environment and limits."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mypy_boto3_s3 import S3Client
from safetensors.torch import load

from tests.checkpoints import planted, write_checkpoint
from tests.container.indexed_job import IndexedJob
from tests.container.pod import Json
from tests.container.refusing_store import RefusingStore
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import ADMIN, REGION, SeaweedServer

ROOT = Path(__file__).parents[2]
MODELS = ["org/sound-1", "org/gated", "org/sound-2", "org/corrupt", "org/unlucky", "org/sound-3"]
PUBLISHED = ["org/sound-1", "org/sound-2", "org/sound-3", "org/unlucky"]
BUCKET, PREFIX = "black-hole-surveys", "v1/"
"""What k8s/base has for OUTPUT."""

OVERLAY = {
    "resources": [],
    "configMapGenerator": [{"name": "survey-models", "behavior": "replace", "files": ["models.yaml"]}],
    "patches": [{"path": "job.yaml"}],
}


def rendered(folder: Path, environment: dict[str, str]) -> list[Json]:
    """k8s/base for six models and six workers, three at once, with a few variables more, as kustomize renders it."""
    folder.mkdir()
    base = os.path.relpath(ROOT / "k8s" / "base", folder)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**OVERLAY, "resources": [base]}))
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": MODELS}))
    variables = {"JOB_COMPLETIONS": str(len(MODELS)), **environment}
    survey = {"name": "survey", "env": [{"name": name, "value": value} for name, value in variables.items()]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "black-hole-survey"},
        "spec": {"completions": len(MODELS), "parallelism": 3, "template": {"spec": {"containers": [survey]}}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    kubectl = ROOT / ".venv" / "bin" / "kubectl"
    output = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    return list(yaml.safe_load_all(output))


@pytest.fixture
def six(hub: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    """Six models of different sizes on the Hub: one is gated; the header of one places W beyond the end of its file."""
    for number, name in enumerate(MODELS):
        folder = write_checkpoint(tmp_path / name, planted(1000 + 300 * number, 512, [[1, 2, 3]]))
        if name == "org/corrupt":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100_000])
        hub.add(name, folder, access="gated" if name == "org/gated" else "public")
    return hub


@pytest.fixture
def bucket(s3_server: SeaweedServer) -> Iterator[S3Client]:
    client = s3_server.client()
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)


def keys(client: S3Client) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def read(client: S3Client, key: str) -> bytes:
    return client.get_object(Bucket=BUCKET, Key=PREFIX + key)["Body"].read()


def test_of_six_models_four_are_surveyed_two_fail_for_good_and_a_store_that_fails_twice_costs_two_retries(
    six: LoopbackHub, s3_server: SeaweedServer, bucket: S3Client, tmp_path: Path
) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}

    def refuses(method: str, path: str) -> bool:
        failures = [attempt for attempt in job.attempts if attempt.status == 75]
        return method in ("PUT", "POST") and "/org/unlucky/" in path and len(failures) < 2

    with RefusingStore(s3_server.endpoint, refuses) as store:
        environment = {"HF_ENDPOINT": six.endpoint, "AWS_ENDPOINT_URL": store.endpoint, "AWS_DEFAULT_REGION": REGION}
        objects = rendered(tmp_path / "overlay", environment)
        job = IndexedJob(objects, tmp_path / "pods", {"survey-credentials": secrets})
        ended = job.run()

    logs = "\n".join(f"--- index {attempt.index}: {attempt.status}\n{attempt.log}" for attempt in ended.attempts)
    (plan_key,) = (key.removeprefix(PREFIX) for key in keys(bucket) if key.endswith("/plan.json"))
    plan: dict[str, Any] = json.loads(read(bucket, plan_key))
    assert plan_key == f"runs/{job.pod(0).environment()['RUN']}/plan.json"
    index_of = {entry["model"].partition("@")[0]: entry["worker"] for entry in plan["models"]}
    assert sorted(index_of) == sorted(MODELS)
    assert sorted(index_of.values()) == list(range(6)), "each index has a model of its own"

    assert {name: ended.statuses(index) for name, index in index_of.items()} == {
        "org/sound-1": [0],
        "org/sound-2": [0],
        "org/sound-3": [0],
        "org/gated": [65],
        "org/corrupt": [65],
        "org/unlucky": [75, 75, 0],
    }, logs
    assert ended.condition == "Failed: FailedIndexes"
    assert store.refused
    messages = {attempt.index: attempt.message for attempt in ended.attempts if attempt.status == 65}
    assert "ModelUnavailable" in messages[index_of["org/gated"]]
    assert "CorruptCheckpoint" in messages[index_of["org/corrupt"]]

    latest = [key.removeprefix(PREFIX) for key in keys(bucket) if key.endswith("/latest.json")]
    assert sorted(key.removesuffix("/latest.json") for key in latest) == PUBLISHED
    assert {"/".join(key.removeprefix(PREFIX).split("/")[:2]) for key in keys(bucket) if "/org/" in key} == set(
        PUBLISHED
    )
    for name in PUBLISHED:
        manifest = json.loads(read(bucket, f"{name}/latest.json"))
        w = load((tmp_path / name / "model.safetensors").read_bytes())["lm_head.weight"]
        assert load(read(bucket, manifest["artifacts"]["W"]["key"]))["W"].equal(w)
        assert [hole["population"] for hole in manifest["black_holes"]] == [3]
    assert bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    assert list((tmp_path / "pods").iterdir()) == []


def test_a_wrong_setting_ends_the_job_and_no_index_is_tried_again(
    six: LoopbackHub, s3_server: SeaweedServer, bucket: S3Client, tmp_path: Path
) -> None:
    environment = {"HF_ENDPOINT": six.endpoint, "AWS_ENDPOINT_URL": s3_server.endpoint, "AWS_DEFAULT_REGION": REGION}
    wrong = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": "mistyped"}
    objects = rendered(tmp_path / "overlay", environment)
    ended = IndexedJob(objects, tmp_path / "pods", {"survey-credentials": wrong}).run()
    assert ended.condition == "Failed: PodFailurePolicy"
    assert {attempt.status for attempt in ended.attempts} == {78}
    assert len(ended.attempts) <= 3
    assert "mistyped" not in "".join(attempt.log + attempt.message for attempt in ended.attempts)
    assert keys(bucket) == []
