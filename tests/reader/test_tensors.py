"""Tensors and rows of a survey in a folder."""

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from black_hole_survey import CorruptArtifact, MissingPackage, NotPublished, QuantisedW, open_surveys
from entrypoint import main
from tests.checkpoints import planted
from tests.ggufs import planted_rows, write_gguf
from tests.reader.conftest import GROUPS, IN_HOLES, Publish

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
NUMPY_DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
NAMES = {
    "W": ["W"],
    "mu": ["mu"],
    "gamma_centered": ["gamma_centered"],
    "black_holes": ["black_hole_mask", "black_hole_id", "black_hole_centroids"],
}


def flat_bytes(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    return np.ascontiguousarray(array).tobytes()


def torch_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tensor_is_what_the_safetensors_library_loads(publish: Publish, dtype: str) -> None:
    folder = publish("model", planted(40, 8, GROUPS, DTYPES[dtype]))
    survey = open_surveys(folder)["local/model"]
    arrays = open_surveys(folder, framework="numpy")["local/model"]
    for artifact, names in NAMES.items():
        expected = load_file(folder / survey.manifest["artifacts"][artifact]["key"])
        for name in names:
            tensor, array = getattr(survey, name), getattr(arrays, name)
            assert isinstance(tensor, torch.Tensor)
            assert isinstance(array, np.ndarray)
            assert (tensor.dtype, torch_bytes(tensor)) == (expected[name].dtype, torch_bytes(expected[name]))
            assert tensor.shape == array.shape == expected[name].shape
            assert flat_bytes(array) == torch_bytes(expected[name])
    assert arrays.W.dtype == NUMPY_DTYPES[dtype]
    assert survey.dtype == dtype


def test_a_survey_without_holes_has_centroids_of_no_rows(publish: Publish) -> None:
    folder = publish("model", planted(40, 8, []))
    assert open_surveys(folder)["local/model"].black_hole_centroids.shape == (0, 8)
    assert open_surveys(folder, framework="numpy")["local/model"].black_hole_centroids.shape == (0, 8)


def test_writing_to_a_tensor_changes_neither_the_file_nor_another_reader(publish: Publish) -> None:
    surveys = open_surveys(publish())
    survey = surveys["local/model"]
    before = survey.W.clone()
    survey.W.zero_()
    assert survey.W.count_nonzero() == 0  # the same object each time, as an attribute is
    assert torch.equal(surveys["local/model"].W, before)
    assert torch.equal(survey.rows([0, 1, 2]), before[:3])
    survey.verify()


@pytest.mark.parametrize("framework", ["torch", "numpy"])
@pytest.mark.parametrize("ids", [[7], [0, 1, 2, 39], [5, 5, 3, 4, 0, 5], [], range(40), np.array([39, 0]), [3, 9, 21]])
def test_rows_are_those_asked_for_in_that_order(publish: Publish, framework: str, ids: list[int]) -> None:
    survey = open_surveys(publish(), framework=framework)["local/model"]  # type: ignore[arg-type]
    for matrix in ("W", "gamma_centered"):
        whole, rows = survey.tensor(matrix), survey.rows(ids, of=matrix)
        assert type(rows) is type(whole)
        assert (rows.dtype, rows.shape) == (whole.dtype, (len(ids), 8))
        assert rows.tolist() == [whole[index].tolist() for index in ids]


def test_rows_are_chosen_by_a_mask(publish: Publish) -> None:
    survey = open_surveys(publish())["local/model"]
    assert torch.equal(survey.rows(survey.black_hole_mask), survey.W[IN_HOLES])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([40], IndexError, "found row 40, expected 0 to 39"),
        ([3, -1], IndexError, "found row -1, expected 0 to 39"),
        ([True, False], IndexError, "found a mask of shape"),
        ([0.5], TypeError, "found ids as float64"),
        ([[1, 2]], TypeError, "expected a list of integers"),
    ],
)
def test_ids_that_are_none_are_refused(publish: Publish, ids: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_surveys(publish())["local/model"].rows(ids)


def test_rows_of_a_small_tensor_are_refused(publish: Publish) -> None:
    with pytest.raises(ValueError, match="found the matrix 'mu', expected 'W' or 'gamma_centered'"):
        open_surveys(publish())["local/model"].rows([0], of="mu")


def test_a_tensor_that_was_not_published_is_refused_with_what_to_do(publish: Publish) -> None:
    survey = open_surveys(publish("model", None, "--tensors", "W,mu"))["local/model"]
    with pytest.raises(
        NotPublished, match=r"found W, mu, expected gamma_centered; .* gamma_centered among the TENSORS"
    ):
        _ = survey.gamma_centered
    with pytest.raises(NotPublished, match="found no tensor 'nonsense', expected one of W, mu, "):
        survey.tensor("nonsense")


def test_bf16_without_torch_and_ml_dtypes_is_refused_with_what_to_install(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish()
    for package in ("torch", "ml_dtypes"):
        monkeypatch.setitem(sys.modules, package, None)
    survey = open_surveys(folder)["local/model"]
    assert isinstance(survey.black_hole_id, np.ndarray)  # because there is no torch; in one file with BF16
    with pytest.raises(MissingPackage, match=r"W\.safetensors: found BF16, .* pip install ml_dtypes"):
        _ = survey.W


def test_a_quantised_w_is_given_as_bytes_only_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = planted_rows("Q8_0", 40, GROUPS)
    write_gguf(tmp_path / "model" / "model.gguf", {"output.weight": (rows, "Q8_0")})
    assert main([str(tmp_path / "model"), "--output", str(tmp_path / "out")]) == 0
    survey = open_surveys(tmp_path / "out")["local/model"]
    for ask in (lambda: survey.W, lambda: survey.rows([0]), lambda: survey.export(tmp_path, "workshop")):
        with pytest.raises(QuantisedW, match=r"found W quantised as Q8_0, expected a matrix .* gamma_centered \+ mu"):
            ask()
    assert survey.tensor("W").numpy().tobytes() == rows.tobytes()
    assert torch.equal(survey.rows([3, 9], of="gamma_centered"), survey.gamma_centered[[3, 9]])
    assert survey.black_hole_centroids.dtype == torch.float32


@pytest.mark.parametrize("damage", ["truncated", "missing", "another header", "no header"])
def test_a_file_that_is_not_as_the_manifest_says_is_refused(publish: Publish, damage: str) -> None:
    folder = publish()
    survey = open_surveys(folder)["local/model"]
    path = folder / survey.manifest["artifacts"]["W"]["key"]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "another header":
        path.write_bytes(content.replace(b"[40,8]", b"[8,40]"))
    else:
        path.write_bytes(b"\xff" * len(content))
    expected = {"truncated": f"{len(content) - 1:,} bytes, expected {len(content):,} bytes", "missing": "found no file"}
    expected |= {
        "another header": r"W as BF16 \[8, 40\], expected BF16 \[40, 8\]",
        "no header": "no usable safetensors",
    }
    with pytest.raises(CorruptArtifact, match=expected[damage]) as refused:
        _ = survey.W
    assert str(path) in str(refused.value)
    if damage in ("truncated", "missing"):
        with pytest.raises(CorruptArtifact, match=expected[damage]):
            survey.rows([39])


@pytest.mark.parametrize("name", ["tokens", "dead_tokens", "report", "w"])
def test_what_is_no_tensor_is_refused_with_those_that_are(publish: Publish, name: str) -> None:
    survey = open_surveys(publish())["local/model"]
    with pytest.raises(NotPublished, match=f"found no tensor '{name}', expected one of W, mu, gamma_centered"):
        survey.tensor(name)


@pytest.mark.parametrize("ids", [7, None, slice(0, 3)])
def test_ids_that_are_no_list_are_refused_with_what_to_write(publish: Publish, ids: Any) -> None:
    survey = open_surveys(publish())["local/model"]
    with pytest.raises(TypeError, match=r"local/model@\w+: found ids as .*, expected a list of integers; for one row"):
        survey.rows(ids)
