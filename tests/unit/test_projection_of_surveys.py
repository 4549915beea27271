"""The projection in a survey: published by default, for every kind of W, and added to what is published without it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from entrypoint import main
from job.limits.need import memory_of_projection, memory_of_w
from tests.checkpoints import planted, write_checkpoint
from tests.ggufs import planted_rows, write_gguf
from tests.surveys import survey
from tests.unit.test_covariance_of_surveys import plan


def tensors(output: Path, manifest: dict[str, Any], *artifacts: str) -> dict[str, np.ndarray[Any, Any]]:
    files = [load_file(output / manifest["artifacts"][artifact]["key"]) for artifact in artifacts]
    return {name: tensor for file in files for name, tensor in file.items()}


def check(output: Path, manifest: dict[str, Any]) -> None:
    """The projection is that of the published γ′, and the manifest states what it explains."""
    found = tensors(output, manifest, "projection", "gamma_centered")
    gamma = found["gamma_centered"].astype(np.float64)
    expected = np.linalg.eigvalsh(gamma.T @ gamma / len(gamma))[::-1]
    assert {name: (tensor.dtype.name, tensor.shape) for name, tensor in found.items() if name != "gamma_centered"} == {
        "coordinates": ("float32", (len(gamma), 3)),
        "directions": ("float32", (3, gamma.shape[1])),
        "explained_variance": ("float64", (3,)),
    }
    np.testing.assert_allclose(found["explained_variance"], expected[:3], rtol=0.01)
    np.testing.assert_allclose(found["coordinates"], gamma @ found["directions"].T, atol=1e-5 * np.abs(gamma).max())
    stated = manifest["statistics"]["projection"]
    assert stated["explained_variance"] == found["explained_variance"].tolist()
    np.testing.assert_allclose(stated["share_of_variance"], expected[:3] / expected.sum(), rtol=0.01)


@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
@pytest.mark.parametrize("kind", ["by rows", "by columns"])
def test_a_survey_publishes_the_projection_of_gamma(tmp_path: Path, kind: str, dedup: str) -> None:
    w = planted(3000, 24, [[3, 9, 21]])
    checkpoint, output = write_checkpoint(tmp_path / "model", w), tmp_path / "out"
    if kind == "by columns":
        (checkpoint / "model.safetensors").unlink()
        torch.save({"lm_head.weight": w.T.contiguous().T}, checkpoint / "pytorch_model.bin")
    manifest = survey(checkpoint, output, "--dedup", dedup)
    assert manifest["seconds"]["principal directions"] > 0
    check(output, manifest)


def test_the_projection_of_a_quantised_head_is_that_of_its_numbers(tmp_path: Path) -> None:
    folder, output = tmp_path / "quantised", tmp_path / "out"
    write_gguf(folder / "model.gguf", {"output.weight": (planted_rows("Q8_0", 600, [[3, 9]]), "Q8_0")})
    check(output, survey(folder, output))


def test_its_file_says_where_it_comes_from_and_of_which_bits_it_is(tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model", planted(50, 8, [])), tmp_path / "out"
    manifest = survey(checkpoint, output, "--tensors", "projection")
    with safe_open(output / manifest["artifacts"]["projection"]["key"], "np") as file:
        content = b"".join(file.get_tensor(name).tobytes() for name in ("coordinates", "directions"))
        content += file.get_tensor("explained_variance").tobytes()
        assert file.metadata() == {
            "model": "local/model",
            "commit": manifest["commit"],
            "tensor": "lm_head.weight",
            "version": manifest["tool"]["version"],
            "w_sha256": manifest["w_sha256"],
            "projection_sha256": hashlib.sha256(content).hexdigest(),
        }


def test_it_is_added_to_a_survey_without_it_and_stays_when_something_else_is_added(tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model", planted(400, 8, [[1, 2]])), tmp_path / "out"
    first = survey(checkpoint, output, "--tensors", "W,mu,gamma_centered,black_holes")
    assert "projection" not in first["artifacts"]
    assert "principal directions" not in first["seconds"]
    assert first["statistics"]["projection"] is None
    second = survey(checkpoint, output, "--tensors", "projection")
    assert second["artifacts"] == {**first["artifacts"], "projection": second["artifacts"]["projection"]}
    alone = survey(checkpoint, tmp_path / "alone", "--tensors", "projection")
    assert alone["artifacts"]["projection"]["sha256"] == second["artifacts"]["projection"]["sha256"]
    check(output, second)
    assert survey(checkpoint, output, "--tensors", "projection") == second
    third = survey(checkpoint, output, "--tensors", "covariance")
    assert third["artifacts"]["projection"] == second["artifacts"]["projection"]
    assert third["statistics"]["projection"] == second["statistics"]["projection"]


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_what_is_not_finite_costs_the_projection_and_not_the_survey(tmp_path: Path, special: float) -> None:
    w = planted(400, 8, [])
    w[5, 5] = special
    manifest = survey(write_checkpoint(tmp_path / "odd", w), tmp_path / "out")
    assert np.isnan(tensors(tmp_path / "out", manifest, "projection")["coordinates"]).all()
    assert manifest["statistics"]["projection"]["explained_variance"] == [None] * 3


def test_beside_one_huge_number_only_its_own_direction_is_told(tmp_path: Path) -> None:
    w = planted(400, 8, [])
    w[5, 5], w[6, 5] = 3e38, -3e38
    manifest = survey(write_checkpoint(tmp_path / "huge", w), tmp_path / "out")
    variance = tensors(tmp_path / "out", manifest, "projection")["explained_variance"]
    assert variance.tolist() == [pytest.approx(2 * 3e38**2 / 400, rel=0.01), 0, 0]
    assert manifest["statistics"]["projection"]["share_of_variance"][0] == pytest.approx(1)


def test_a_plan_states_its_memory_and_its_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = write_checkpoint(tmp_path / "model", planted(4000, 64, [])), str(tmp_path / "out")
    arguments = ("--output", output, "--connections", "1")
    without = plan(model, capsys, *arguments, "--tensors", "mu")
    planned = plan(model, capsys, *arguments, "--tensors", "mu,projection")
    assert planned["output_nbytes"] - without["output_nbytes"] == 4000 * 12 + 64 * 12 + 24
    shape, nbytes = (4000, 64), 4000 * 64 * 2
    of_w = [memory_of_w(shape, nbytes, "byte-hash", 1, 0, projection=projection) for projection in (False, True)]
    assert planned["memory_nbytes"] - without["memory_nbytes"] == of_w[1] - of_w[0]
    assert of_w[1] - of_w[0] == memory_of_projection(*shape) - 4_800_000
    assert main([str(model), *arguments]) == 0
