"""An Indexed Job over six models: a container for each index, with the rendered manifest's environment and limits."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mypy_boto3_s3 import S3Client
from safetensors.torch import load

from tests.checkpoints import planted, write_checkpoint
from tests.container.indexed_job import IndexedJob
from tests.manifests.rendering import BASE, MANIFESTS, render
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.meddling_store import Asked, meddling_store
from tests.servers.seaweed import ADMIN, REGION, SeaweedServer

MODELS = ["org/sound-1", "org/gated", "org/sound-2", "org/corrupt", "org/unlucky", "org/sound-3"]
PUBLISHED = ["org/sound-1", "org/sound-2", "org/sound-3", "org/unlucky"]
BUCKET, PREFIX = "black-hole-surveys", "v1/"
"""What k8s/base has for OUTPUT."""
CREDENTIALS = {"survey-credentials": {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}}


def overlay(folder: Path, models: list[Any], workers: int, environment: dict[str, str]) -> Path:
    """k8s/base with another list, other numbers of workers and a few variables more."""
    folder.mkdir()
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": models}))
    variables = {"JOB_COMPLETIONS": str(workers), **environment}
    survey = {"name": "survey", "env": [{"name": name, "value": value} for name, value in variables.items()]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "black-hole-survey"},
        "spec": {
            "completions": workers,
            "parallelism": min(3, workers),
            "template": {"spec": {"containers": [survey]}},
        },
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    kustomization = {
        "resources": [os.path.relpath(BASE, folder)],
        "configMapGenerator": [{"name": "survey-models", "behavior": "replace", "files": ["models.yaml"]}],
        "patches": [{"path": "job.yaml"}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def scheduled(folder: Path, below: Path) -> Path:
    """The same as a CronJob."""
    folder.mkdir()
    component = os.path.relpath(MANIFESTS / "components" / "scheduled", folder)
    kustomization = {"resources": [os.path.relpath(below, folder)], "components": [component]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


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
    def fails_twice(asked: Asked) -> int | None:
        failures = [attempt for attempt in job.attempts if attempt.status == 75]
        is_write = asked.method in ("PUT", "POST") and "/org/unlucky/" in asked.path
        return 503 if is_write and len(failures) < 2 else None

    with meddling_store(s3_server.endpoint, fails_twice) as store:
        environment = {"HF_ENDPOINT": six.endpoint, "AWS_ENDPOINT_URL": store.endpoint, "AWS_DEFAULT_REGION": REGION}
        objects = render(overlay(tmp_path / "overlay", MODELS, 6, environment))
        job = IndexedJob(objects, tmp_path / "pods", CREDENTIALS)
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
    assert store.meddled
    messages = {attempt.index: attempt.message for attempt in ended.attempts}
    assert "ModelUnavailable" in messages[index_of["org/gated"]]
    assert "CorruptCheckpoint" in messages[index_of["org/corrupt"]]
    assert all(name in messages[index_of[name]] for name in PUBLISHED)

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
    objects = render(overlay(tmp_path / "overlay", MODELS, 6, environment))
    ended = IndexedJob(objects, tmp_path / "pods", {"survey-credentials": wrong}).run()
    assert ended.condition == "Failed: PodFailurePolicy"
    assert {attempt.status for attempt in ended.attempts} == {78}
    assert len(ended.attempts) <= 3
    assert "mistyped" not in "".join(attempt.log + attempt.message for attempt in ended.attempts)
    assert keys(bucket) == []


def test_a_second_tick_reads_no_tensor_and_the_one_after_a_release_surveys_that_alone(
    hub: LoopbackHub, s3_server: SeaweedServer, bucket: S3Client, tmp_path: Path
) -> None:
    environment = {"HF_ENDPOINT": hub.endpoint, "AWS_ENDPOINT_URL": s3_server.endpoint, "AWS_DEFAULT_REGION": REGION}
    below = overlay(tmp_path / "overlay", [{"query": {"author": "org"}}], 2, environment)
    objects = render(scheduled(tmp_path / "scheduled", below))

    released: dict[str, str] = {}

    def release(name: str, n_rows: int) -> None:
        folder = write_checkpoint(tmp_path / name, planted(n_rows, 2048, [[1, 2]]))
        hub.add(name, folder)
        sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        released[f"/blobs/{sha256}/model.safetensors"] = name

    def tick() -> tuple[str, set[str]]:
        """How the Job ended, and the models of whose weights more was read than a header."""
        hub.log.clear()
        ended = IndexedJob(objects, tmp_path / "pods", CREDENTIALS).run()
        return ended.condition, {released[read.path] for read in hub.log if read.host == "cdn" and read.nbytes > 10**6}

    release("org/first", 1000)
    release("org/second", 1100)
    assert tick() == ("Complete", {"org/first", "org/second"})
    assert tick() == ("Complete", set())
    release("org/third", 1200)
    assert tick() == ("Complete", {"org/third"})
    assert len([key for key in keys(bucket) if key.endswith("/plan.json")]) == 3
    assert len([key for key in keys(bucket) if key.endswith("/latest.json")]) == 3
