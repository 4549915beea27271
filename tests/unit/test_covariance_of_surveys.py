"""The covariance in a survey: published only if it is asked for, and then for every kind of W."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from entrypoint import main
from job.checkpoints.formats.gguf_rows import dequantised
from job.limits.need import memory_of_covariance
from tests import hostile
from tests.checkpoints import planted, write_checkpoint
from tests.ggufs import planted_rows, write_gguf
from tests.surveys import survey


def published(output: Path, manifest: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with safe_open(output / manifest["artifacts"]["covariance"]["key"], "np") as file:
        assert sorted(file.keys()) == ["covariance", "eigenvalues"]
        return file.get_tensor("covariance"), file.get_tensor("eigenvalues")


def check(covariance: NDArray[np.float64], w: NDArray[np.float64], mu: NDArray[np.float32]) -> None:
    """A covariance is that of the rows of ``w`` about ``mu``, which are those published."""
    centred = w - mu.astype(np.float64)
    deviations = np.linalg.norm(centred, axis=0) / np.sqrt(len(w))
    assert np.abs(covariance - centred.T @ centred / len(w)).max() < 1e-12 * deviations.max() ** 2


@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
@pytest.mark.parametrize("kind", ["by rows", "by columns"])
def test_a_survey_publishes_the_covariance_about_the_published_mu(tmp_path: Path, kind: str, dedup: str) -> None:
    w = planted(3000, 24, [[3, 9, 21]])
    checkpoint, output = write_checkpoint(tmp_path / "model", w), tmp_path / "out"
    if kind == "by columns":
        (checkpoint / "model.safetensors").unlink()
        torch.save({"lm_head.weight": w.T.contiguous().T}, checkpoint / "pytorch_model.bin")
    manifest = survey(checkpoint, output, "--tensors", "mu,covariance", "--dedup", dedup)
    assert manifest["artifacts"].keys() == {"mu", "covariance"}
    assert manifest["seconds"]["covariance"] > 0
    covariance, eigenvalues = published(output, manifest)
    with safe_open(output / manifest["artifacts"]["mu"]["key"], "np") as file:
        check(covariance, w.to(torch.float64).numpy(), file.get_tensor("mu"))
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-12)


def test_its_file_says_where_it_comes_from_and_of_which_eigenvalues_it_is(tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model", planted(50, 8, [])), tmp_path / "out"
    manifest = survey(checkpoint, output, "--tensors", "covariance")
    with safe_open(output / manifest["artifacts"]["covariance"]["key"], "np") as file:
        metadata = file.metadata()
        assert metadata.pop("eigenvalues_sha256") == hashlib.sha256(file.get_tensor("eigenvalues")).hexdigest()
    assert metadata == {
        "model": "local/model",
        "commit": manifest["commit"],
        "tensor": "lm_head.weight",
        "version": manifest["tool"]["version"],
        "w_sha256": manifest["w_sha256"],
    }


def test_the_covariance_of_a_quantised_head_is_that_of_its_numbers(tmp_path: Path) -> None:
    rows = planted_rows("Q8_0", 600, [[3, 9]])
    folder, output = tmp_path / "quantised", tmp_path / "out"
    write_gguf(folder / "model.gguf", {"output.weight": (rows, "Q8_0")})
    manifest = survey(folder, output, "--tensors", "mu,covariance")
    with safe_open(output / manifest["artifacts"]["mu"]["key"], "np") as file:
        check(published(output, manifest)[0], dequantised(rows, "Q8_0").astype(np.float64), file.get_tensor("mu"))


def test_it_is_added_to_a_survey_when_it_is_asked_for_and_is_no_part_of_it_otherwise(tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model", planted(400, 8, [[1, 2]])), tmp_path / "out"
    first = survey(checkpoint, output)
    assert "covariance" not in first["artifacts"]
    assert "covariance" not in first["seconds"]
    second = survey(checkpoint, output, "--tensors", "covariance")
    assert second["artifacts"] == {**first["artifacts"], "covariance": second["artifacts"]["covariance"]}
    alone = survey(checkpoint, tmp_path / "alone", "--tensors", "covariance")
    assert alone["artifacts"]["covariance"]["sha256"] == second["artifacts"]["covariance"]["sha256"]
    assert survey(checkpoint, output, "--tensors", "covariance") == second


def test_a_nan_costs_a_warning_and_no_more(tmp_path: Path) -> None:
    w = planted(400, 8, [])
    w[5, 5] = float("nan")
    manifest = survey(write_checkpoint(tmp_path / "odd", w), tmp_path / "out", "--tensors", "covariance")
    covariance, eigenvalues = published(tmp_path / "out", manifest)
    assert np.isnan(covariance).sum() == 15
    assert np.isnan(eigenvalues).all()
    assert any("what follows from them are NaN" in warning for warning in manifest["warnings"])


def plan(model: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", str(model), *arguments, "--format", "json"]) == 0
    need: dict[str, Any] = json.loads(capsys.readouterr().out)["models"][0]["need"]
    return need


def test_a_plan_states_its_memory_its_room_and_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = write_checkpoint(tmp_path / "model", planted(4000, 64, [])), str(tmp_path / "out")
    tensors = ("--output", output, "--tensors", "mu,covariance")
    without, planned = plan(model, capsys, "--output", output, "--tensors", "mu"), plan(model, capsys, *tensors)
    assert planned["output_nbytes"] - without["output_nbytes"] == 64 * 65 * 8
    assert planned["memory_nbytes"] - without["memory_nbytes"] == memory_of_covariance(64)
    assert (without["covariance_flop"], planned["covariance_flop"]) == (0, 3 * 4000 * 64**2)
    assert main(["plan", str(model), *tensors]) == 0
    assert "Covariance: " in capsys.readouterr().out
    assert main([str(model), *tensors]) == 0
    assert plan(model, capsys, *tensors)["covariance_flop"] == 0
    assert main(["plan", str(model), "--output", output]) == 0
    assert "Covariance: " not in capsys.readouterr().out


def test_what_cannot_hold_the_covariance_is_refused_before_w_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    hostile.zeros(wide, (4, 1_000_000), vocab_size=4, hidden_size=1_000_000)
    arguments = [str(wide), "--output", str(tmp_path / "out"), "--tensors", "covariance"]
    assert main(arguments) == 65
    assert "leave covariance out of TENSORS" in caplog.text
