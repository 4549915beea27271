"""What the layout of a repository brings and costs on a Hub: adapters that are followed, embeddings compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import LoopbackHub


@pytest.fixture
def hub_of_the_job(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoopbackHub:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    return hub


def latest(output: Path, name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((output / name / "latest.json").read_text())
    return manifest


def test_a_list_can_ask_for_the_model_that_an_adapter_adapts(
    hub_of_the_job: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base_commit = hub_of_the_job.add("org/base", write_checkpoint(tmp_path / "base", planted(90, 8, [[3, 9]])))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "revision": null}')
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    adapter_commit = hub_of_the_job.add("me/tuned", adapter)
    models, output = tmp_path / "models.yaml", tmp_path / "out"

    assert main(["me/tuned", "--output", str(output)]) == 65
    told = " ".join(capsys.readouterr().out.split())
    assert "survey its base model, 'org/base', or give follow_base: true" in told

    models.write_text("- model: me/tuned\n  follow_base: true\n")
    assert main(["--models-file", str(models), "--output", str(output)]) == 0
    manifest = latest(output, "org/base")
    assert (manifest["model"], manifest["commit"]) == ("org/base", base_commit)
    assert manifest["followed_from"] == [f"me/tuned@{adapter_commit}"]
    assert "the base model of the adapter me/tuned" in manifest["warnings"][0]
    assert f"| base model of | me/tuned@{adapter_commit} |" in (output / manifest["pages"]["report"]).read_text()


def test_an_embedding_compared_in_full_is_not_compared_again_for_a_commit_that_leaves_it_as_it_was(
    hub_of_the_job: LoopbackHub, tmp_path: Path
) -> None:
    w, folder, output = planted(60_000, 16, [[3, 9]]), tmp_path / "model", tmp_path / "out"
    write_checkpoint(folder, w)
    save_file({"lm_head.weight": w, "model.embed_tokens.weight": w.clone()}, folder / "model.safetensors")
    hub_of_the_job.add("org/model", folder)
    assert main(["org/model", "--output", str(output)]) == 0
    before = latest(output, "org/model")
    assert before["tensor"]["tie"] == "tied_copy"
    assert before["checkpoint"]["bytes_fetched"] > 2 * w.nbytes

    (folder / "README.md").write_text("only this is new")
    commit = hub_of_the_job.add("org/model", folder)
    assert main(["org/model", "--output", str(output)]) == 0
    after = latest(output, "org/model")
    assert after["commit"] == commit != before["commit"]
    assert after["tensor"] == before["tensor"]
    assert after["checkpoint"]["bytes_fetched"] < w.nbytes / 10
