"""What a run over local checkpoints publishes, skips, mends and refuses."""

import json
import logging
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint

GROUPS = [[3, 9, 21], [10, 11]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=20)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


def survey(checkpoint: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """Survey a checkpoint, which must succeed, and return its latest manifest."""
    assert main([str(checkpoint), "--output", str(output), *arguments]) == 0
    manifest: dict[str, Any] = json.loads((output / "local" / checkpoint.name / "latest.json").read_text())
    return manifest


def test_files_say_where_they_come_from(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    for name in ("W", "mu", "gamma_centered", "black_holes"):
        with safe_open(output / manifest["artifacts"][name]["key"], "pt") as file:
            assert file.metadata() == {
                "model": "local/model",
                "commit": manifest["commit"],
                "tensor": "lm_head.weight",
                "w_sha256": manifest["w_sha256"],
                "version": manifest["tool"]["version"],
            }


def test_tokens_are_named_by_the_checkpoints_own_tokenizer(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    assert manifest["tokenizer"]["n_tokens"] == 20
    assert manifest["tokenizer"]["rows_beyond"] == 20
    assert manifest["black_holes"][0]["tokens"] == [
        {"id": 3, "piece": "token3", "text": "token3"},
        {"id": 9, "piece": "token9", "text": "token9"},
        {"id": 21, "piece": None, "text": None},
    ]


def test_a_missing_tokenizer_costs_only_the_decoding(tmp_path: Path, output: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "bare", planted(40, 8, GROUPS))
    manifest = survey(checkpoint, output)
    assert [token["id"] for token in manifest["black_holes"][0]["tokens"]] == [3, 9, 21]
    assert any("not named" in warning for warning in manifest["warnings"])


def test_a_broken_tokenizer_costs_only_the_decoding(checkpoint: Path, output: Path) -> None:
    (checkpoint / "tokenizer.json").write_text('{"model": 7}')
    manifest = survey(checkpoint, output)
    assert "cannot be read" in manifest["tokenizer"]["unusable"]
    assert manifest["statistics"]["black_hole_tokens"] == 5


def test_an_unchanged_folder_is_not_surveyed_again_and_a_changed_one_is(checkpoint: Path, output: Path) -> None:
    first = survey(checkpoint, output)
    assert survey(checkpoint, output) == first
    write_checkpoint(checkpoint, planted(40, 8, [[1, 2]]), n_tokens=20)
    second = survey(checkpoint, output)
    assert second["commit"] != first["commit"]
    assert second["statistics"]["black_holes"] == 1


def test_a_survey_whose_artifact_was_lost_is_made_again(checkpoint: Path, output: Path) -> None:
    lost = output / survey(checkpoint, output)["artifacts"]["W"]["key"]
    lost.unlink()
    survey(checkpoint, output)
    assert torch.equal(load_file(lost)["W"], planted(40, 8, GROUPS))


def test_a_run_killed_before_it_wrote_latest_json_is_mended_by_the_next(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    (output / "local" / "model" / "latest.json").unlink()
    assert survey(checkpoint, output) == manifest


def test_another_tensor_of_the_same_commit_replaces_the_survey(checkpoint: Path, output: Path, tmp_path: Path) -> None:
    other = planted(40, 8, [[0, 1]])
    save_file({"lm_head.weight": planted(40, 8, GROUPS), "my.head": other}, checkpoint / "model.safetensors")
    assert survey(checkpoint, output)["statistics"]["black_hole_tokens"] == 5
    models = tmp_path / "models.yaml"
    models.write_text(f"- model: {checkpoint}\n  tensor: my.head\n")
    assert main(["--models-file", str(models), "--output", str(output)]) == 0
    manifest = json.loads((output / "local" / "model" / "latest.json").read_text())
    assert manifest["tensor"]["name"] == "my.head"
    assert manifest["tensor"]["chosen_by_user"]
    assert torch.equal(load_file(output / manifest["artifacts"]["W"]["key"])["W"], other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
def test_every_dtype_is_published_as_stored(tmp_path: Path, output: Path, dtype: torch.dtype, dedup: str) -> None:
    w = planted(300, 8, GROUPS, dtype)
    checkpoint = write_checkpoint(tmp_path / "typed", w)
    manifest = survey(checkpoint, output, "--dedup", dedup)
    tensors = {
        name: tensor
        for artifact in ("W", "mu", "gamma_centered", "black_holes")
        for name, tensor in load_file(output / manifest["artifacts"][artifact]["key"]).items()
    }
    assert torch.equal(tensors["W"], w)
    assert torch.equal(tensors["mu"], w.to(torch.float64).mean(0).to(torch.float32))
    assert torch.equal(tensors["gamma_centered"], w.to(torch.float32) - tensors["mu"])
    assert torch.equal(tensors["black_hole_centroids"], w[[3, 10]])
    assert tensors["black_hole_id"].dtype == torch.uint8
    assert [tensors["black_hole_id"][group].tolist() for group in GROUPS] == [[1, 1, 1], [2, 2]]
    norms = np.linalg.norm(w.to(torch.float64).numpy(), axis=1)
    assert manifest["statistics"]["row_norm"]["mean"] == pytest.approx(norms.mean())
    assert manifest["statistics"]["row_norm"]["std"] == pytest.approx(norms.std(ddof=1))
    assert manifest["statistics"]["gamma_centered_norm"]["max"] == pytest.approx(
        np.linalg.norm(tensors["gamma_centered"].numpy().astype(np.float64), axis=1).max()
    )


def test_more_than_255_holes_are_numbered_in_int32(tmp_path: Path, output: Path) -> None:
    w = planted(600, 8, [[2 * number, 2 * number + 1] for number in range(300)])
    manifest = survey(write_checkpoint(tmp_path / "many", w), output)
    tensors = load_file(output / manifest["artifacts"]["black_holes"]["key"])
    assert tensors["black_hole_id"].dtype == torch.int32
    assert tensors["black_hole_id"].tolist() == [number for number in range(1, 301) for _ in range(2)]
    assert tensors["black_hole_centroids"].shape == (300, 8)


def test_a_matrix_without_holes_has_tensors_without_rows(tmp_path: Path, output: Path) -> None:
    manifest = survey(write_checkpoint(tmp_path / "none", planted(40, 8, [])), output)
    tensors = load_file(output / manifest["artifacts"]["black_holes"]["key"])
    assert tensors["black_hole_centroids"].shape == (0, 8)
    assert not tensors["black_hole_mask"].any()
    assert manifest["statistics"]["black_holes"] == manifest["statistics"]["duplicate_rows"] == 0


def test_numbers_that_json_cannot_say_become_null_and_are_warned_of(tmp_path: Path, output: Path) -> None:
    w = planted(40, 8, GROUPS)
    w[5, 5], w[6] = math.nan, -w[6] * 0
    manifest = survey(write_checkpoint(tmp_path / "odd", w), output)
    assert manifest["statistics"]["mu"]["norm"] is None
    assert manifest["statistics"]["rows_with_nan"] == 1
    assert any("1 rows hold a NaN" in warning for warning in manifest["warnings"])
    assert "not a number" in (output / manifest["artifacts"]["report"]["key"]).read_text()


def test_a_checkpoint_that_changes_while_it_is_read_publishes_no_manifest(checkpoint: Path, output: Path) -> None:
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "model-00001-of-00001.safetensors")
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))

    class Truncate(logging.Handler):
        """Cuts the weights short as soon as the job says that it found W."""

        def emit(self, record: logging.LogRecord) -> None:
            if "W is lm_head.weight" in record.getMessage():
                (checkpoint / "model-00001-of-00001.safetensors").write_bytes(b"short")

    handler = Truncate()
    logging.getLogger("job").addHandler(handler)
    try:
        assert main([str(checkpoint), "--output", str(output)]) == 65
    finally:
        logging.getLogger("job").removeHandler(handler)
    assert not list(output.rglob("*.json"))


def test_json_logs_carry_the_model_and_the_stage(checkpoint: Path, output: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    arguments = [str(checkpoint), str(tmp_path / "missing"), "--output", str(output), "--log-format", "json"]
    done = subprocess.run(
        [sys.executable, str(root / "entrypoint.py"), *arguments], capture_output=True, text=True, check=False
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 65
    assert {event["model"] for event in events} == {str(checkpoint), str(tmp_path / "missing")}
    assert {event.get("stage") for event in events} >= {"find", "W", "gamma_centered", "find black holes"}
    assert [event["level"] for event in events if "ModelUnavailable" in event["message"]] == ["ERROR"]
