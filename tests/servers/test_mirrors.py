"""Mirrors of the Hub that list files without sizes and ids: these are asked of the files that are needed."""

import json
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from entrypoint import main
from job.checkpoints.checkpoint import Checkpoint, StoredFile
from job.checkpoints.sources.hub import open_hub
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import CorruptCheckpoint, ModelUnavailable, SurveyError, UnsupportedCheckpoint
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub
from tests.servers.olah import running_olah
from tests.surveys import survey

IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05)
N_SHARDS = 40
HEAD_SHARD = f"model-{N_SHARDS:05}-of-{N_SHARDS:05}.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of many shards, of which the last holds the head."""
    folder = write_checkpoint(tmp_path / "model", planted(400, 8, [[1, 2], [5, 7, 9]]), n_tokens=400)
    w = load_file(folder / "model.safetensors")["lm_head.weight"]
    (folder / "model.safetensors").unlink()
    shards = [f"model-{n:05}-of-{N_SHARDS:05}.safetensors" for n in range(1, N_SHARDS)]
    for n, shard in enumerate(shards):
        save_file({f"model.layers.{n}.mlp.up_proj.weight": torch.zeros(4)}, folder / shard)
    save_file({"lm_head.weight": w}, folder / HEAD_SHARD)
    weight_map = {f"model.layers.{n}.mlp.up_proj.weight": shard for n, shard in enumerate(shards)}
    index = {"weight_map": weight_map | {"lm_head.weight": HEAD_SHARD}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def list_names_alone(hub: LoopbackHub, repo_id: str) -> None:
    """As a mirror does that does not pass ``?blobs=true`` on."""
    repo = hub.repos[repo_id]
    repo.about["siblings"] = [{"rfilename": name} for name in repo.commits[repo.refs["main"]]]


@pytest.fixture
def open_model(hub: LoopbackHub, folder: Path) -> Callable[[], Checkpoint]:
    hub.add("org/model", folder)
    list_names_alone(hub, "org/model")
    return lambda: open_hub(
        "org/model", None, endpoint=hub.endpoint, token=None, read_timeout=5.0, retry_policy=IMPATIENT
    )


def files_asked(hub: LoopbackHub) -> set[str]:
    return {request.path.rpartition("/")[2] for request in hub.log if "/resolve/" in request.path}


def test_a_model_is_surveyed_through_olah_as_from_the_hub(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = hub.add("org/model", folder)
    hub.add("org/gated", folder, access="gated")
    hub.tokens = {"hf_good": set()}
    needed = {"config.json", "model.safetensors.index.json", HEAD_SHARD, "tokenizer.json"}
    with running_olah(hub, tmp_path) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert main(["plan", "org/model", "--format", "json", "--output", str(tmp_path / "surveys")]) == 0
        assert json.loads(capsys.readouterr().out)["models"][0]["need"]["checkpoint_nbytes"] is None
        assert main(["org/model", "org/gated", "org/none", "--output", str(tmp_path / "surveys")]) == 65
    summary = capsys.readouterr().out
    assert "a gated model" in summary.replace("\n", " ")
    assert "no such repository" in summary.replace("\n", " ")
    assert files_asked(hub) - {".gitattributes"} == needed
    manifest = json.loads((tmp_path / "surveys/org/model/latest.json").read_text())
    own = survey(folder, tmp_path / "own")
    assert (manifest["commit"], manifest["w_sha256"]) == (commit, own["w_sha256"])
    assert manifest["statistics"] == own["statistics"]
    assert manifest["tensor"]["content_id"] == hub.repos["org/model"].commits[commit][HEAD_SHARD].sha256
    assert manifest["checkpoint"]["nbytes"] is None
    (page,) = (tmp_path / "surveys").rglob("report.md")
    assert "the checkpoint has an unknown number" in page.read_text()
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert main(["org/model", "--output", str(tmp_path / "surveys")]) == 0
    assert "already published" in capsys.readouterr().out


def test_only_files_that_are_needed_are_asked_for_and_each_once(
    hub: LoopbackHub, open_model: Callable[[], Checkpoint]
) -> None:
    checkpoint = open_model()
    assert HEAD_SHARD in checkpoint.files
    assert len(checkpoint.files) == N_SHARDS + 3
    assert "model.safetensors" not in checkpoint.files
    assert checkpoint.nbytes is None
    assert files_asked(hub) == set()
    served = hub.repos["org/model"].commits[checkpoint.commit]
    for file in (HEAD_SHARD, "config.json"):
        stored, in_lfs = served[file], served[file].in_lfs
        assert checkpoint.files[file] == StoredFile(
            stored.size, stored.sha256 if in_lfs else stored.oid, "sha256" if in_lfs else "git"
        )
        assert checkpoint.read(file, 10**6) == stored.path.read_bytes()
        assert [request.method for request in hub.log if request.path.endswith(f"/resolve/{checkpoint.commit}/{file}")]
    assert files_asked(hub) == {HEAD_SHARD, "config.json"}
    assert sum(request.method == "HEAD" and "/resolve/" in request.path for request in hub.log) == 2
    assert sum(request.method == "HEAD" for request in hub.log) == 3  # of a small file, the first answer says no size


def test_what_a_listing_says_of_some_files_is_believed(hub: LoopbackHub, open_model: Callable[[], Checkpoint]) -> None:
    siblings = hub.repos["org/model"].about["siblings"]
    assert isinstance(siblings, list)
    siblings[0] = {"rfilename": "config.json", "size": 5, "blobId": "0" * 40}
    checkpoint = open_model()
    assert checkpoint.files["config.json"] == StoredFile(5, "0" * 40, "git")
    assert files_asked(hub) == set()


def test_a_mirror_may_name_small_files_by_their_sha_1(hub: LoopbackHub, open_model: Callable[[], Checkpoint]) -> None:
    checkpoint = open_model()
    content = hub.repos["org/model"].commits[checkpoint.commit]["config.json"].path.read_bytes()
    etag = sha1(content, usedforsecurity=False).hexdigest()
    hub.faults = [Fault("/api/*/config.json", host="hub", headers={"ETag": f'W/"{etag}"'}, times=None)]
    assert checkpoint.files["config.json"].content_id == etag
    assert checkpoint.read("config.json", 10**6) == content


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            Fault("/api/*/config.json", "hub", headers={"ETag": ""}),
            UnsupportedCheckpoint,
            "found size .* and ETag None",
        ),
        (
            Fault("/api/*/config.json", "hub", headers={"X-Repo-Commit": "f" * 40}),
            UnsupportedCheckpoint,
            "of commit ffff",
        ),
        (Fault("*/config.json", "hub", status=404, headers={"X-Error-Code": "EntryNotFound"}), ModelUnavailable, "not"),
        (Fault("*/config.json", "hub", status=403, headers={"X-Error-Code": "GatedRepo"}), ModelUnavailable, "gated"),
    ],
    ids=["no-id", "another-commit", "gone", "gated"],
)
def test_a_file_that_no_answer_identifies_is_refused_when_it_is_needed(
    hub: LoopbackHub, open_model: Callable[[], Checkpoint], fault: Fault, error: type[SurveyError], message: str
) -> None:
    checkpoint = open_model()
    hub.faults = [Fault(**{**vars(fault), "times": 1})]
    assert checkpoint.files["config.json"].size
    checkpoint = open_model()
    hub.faults = [Fault(**{**vars(fault), "times": None})]
    with pytest.raises(error, match=message):
        checkpoint.files["config.json"]


def test_a_file_that_is_asked_for_stays_the_one_that_it_was(
    hub: LoopbackHub, open_model: Callable[[], Checkpoint]
) -> None:
    checkpoint = open_model()
    size = checkpoint.files[HEAD_SHARD].size
    hub.expire_signatures()
    hub.faults = [Fault(f"*/{HEAD_SHARD}", "hub", headers={"X-Linked-ETag": f'"{"f" * 64}"'}, times=None)]
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        checkpoint.fetch(HEAD_SHARD, 0, size)
