"""The layouts that notebooks of this field load, loaded by their own lines."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from black_hole_survey import ExportRefused, NotPublished, open_surveys
from black_hole_survey.export import slug
from tests.checkpoints import planted
from tests.reader.conftest import GROUPS, Publish

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def as_the_library_writes(path: Path, tmp_path: Path) -> bool:
    """Whether a file has the bytes that safetensors writes for its tensors and metadata, whose order it leaves open."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    again = tmp_path / "again.safetensors"
    save_file(load_file(path), again, metadata)
    (length, header, data), (_, other_header, other_data) = (parts(each.read_bytes()) for each in (path, again))
    assert length % 8 == 0
    return list(header.items())[1:] == list(other_header.items())[1:] and data == other_data


def parts(content: bytes) -> tuple[int, dict[str, object], bytes]:
    length = int.from_bytes(content[:8], "little")
    return length, json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_4b_instruct_2507"),
        ("google/gemma-2.0-2b_it", "gemma_2_0_2b_it"),
        ("gpt2", "gpt2"),
    ],
)
def test_a_slug_is_the_name_without_its_organisation(model: str, expected: str) -> None:
    assert slug(model) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_workshop_is_one_file_of_w_and_the_black_holes(publish: Publish, tmp_path: Path, dtype: str) -> None:
    w = planted(40, 8, GROUPS, DTYPES[dtype])
    survey = open_surveys(publish("Qwen3-4B", w))["local/Qwen3-4B"]
    (path,) = survey.export(tmp_path / "tensors", layout="workshop")
    assert path == tmp_path / "tensors" / "qwen3_4b.safetensors"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    tensors = load_file(path)
    assert tensors.keys() == {"W", "black_hole_mask", "black_hole_id", "black_hole_centroids"}
    assert (tensors["W"].dtype, tensors["black_hole_id"].dtype) == (w.dtype, torch.uint8)
    assert torch.equal(tensors["W"], w)
    # As the notebook makes the others.
    ids = torch.zeros(40, dtype=torch.uint8)
    for number, group in enumerate(GROUPS, 1):
        ids[group] = number
    assert torch.equal(tensors["black_hole_id"], ids)
    assert torch.equal(tensors["black_hole_mask"], ids > 0)
    assert torch.equal(tensors["black_hole_centroids"], w[[group[0] for group in GROUPS]])
    assert as_the_library_writes(path, tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_azimuth_is_loaded_by_the_notebooks_lines(publish: Publish, tmp_path: Path, dtype: str) -> None:
    w = planted(40, 8, GROUPS, DTYPES[dtype])
    survey = open_surveys(publish("Qwen3-4B", w))["local/Qwen3-4B"]
    data_dir = tmp_path / "data" / "tensors"
    paths = survey.export(str(data_dir), layout="azimuth")
    assert all(as_the_library_writes(path, tmp_path) for path in paths)

    gamma = load_file(data_dir / "gamma_qwen3_4b.safetensors")["gamma"]
    mu = load_file(data_dir / "gamma_centroid_mu.safetensors")["mu"]
    gamma_centered = load_file(data_dir / "gamma_centered_qwen3_4b.safetensors")["gamma_centered"]
    mask = load_file(data_dir / "black_hole_mask.safetensors")["mask"]

    assert (gamma.dtype, mu.dtype, gamma_centered.dtype, mask.dtype) == (*[torch.float32] * 3, torch.bool)
    assert torch.equal(gamma, w.to(torch.float32))
    assert torch.equal(gamma_centered, gamma - mu)
    assert torch.allclose(mu, w.to(torch.float64).mean(dim=0).to(torch.float32))
    vector_to_tokens: dict[bytes, list[int]] = {}
    for token_id in range(40):
        vector_to_tokens.setdefault(w[token_id].view(torch.uint8).numpy().tobytes(), []).append(token_id)
    dead = sorted(token for group in vector_to_tokens.values() if len(group) > 1 for token in group)
    assert mask.nonzero().flatten().tolist() == dead


def test_more_than_255_holes_keep_their_numbers(publish: Publish, tmp_path: Path) -> None:
    w = planted(600, 8, [[2 * index, 2 * index + 1] for index in range(300)])
    survey = open_surveys(publish("model", w))["local/model"]
    (path,) = survey.export(tmp_path, layout="workshop")
    ids = load_file(path)["black_hole_id"]
    assert (ids.dtype, int(ids.max())) == (torch.int32, 300)
    assert as_the_library_writes(path, tmp_path)


def test_rows_of_several_blocks_are_written_whole(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("black_hole_survey.export.BLOCK_NBYTES", 7 * 8 * 8)  # 7 rows
    w = planted(40, 8, GROUPS)
    survey = open_surveys(publish("model", w))["local/model"]
    survey.export(tmp_path, layout="azimuth")
    assert torch.equal(load_file(tmp_path / "gamma_model.safetensors")["gamma"], w.float())
    assert torch.equal(
        load_file(tmp_path / "gamma_centered_model.safetensors")["gamma_centered"], survey.gamma_centered
    )


def test_exporting_again_writes_the_same_bytes(publish: Publish, tmp_path: Path) -> None:
    survey = open_surveys(publish())["local/model"]
    before = [path.read_bytes() for path in survey.export(tmp_path, layout="azimuth")]
    assert [path.read_bytes() for path in survey.export(tmp_path, layout="azimuth")] == before


def test_a_file_of_another_model_is_not_replaced(publish: Publish, tmp_path: Path) -> None:
    publish("first")
    surveys = open_surveys(publish("second", planted(40, 8, [[1, 2]])))
    surveys["local/first"].export(tmp_path / "data", layout="azimuth")
    before = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    with pytest.raises(ExportRefused, match=r"mu.safetensors: found a file of local/first@\w+, .* another folder"):
        surveys["local/second"].export(tmp_path / "data", layout="azimuth")
    assert {path: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"my notes", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_that_somebody_else_wrote_is_not_replaced(publish: Publish, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ExportRefused, match="found another file, expected none or one of local/model@"):
        open_surveys(publish())["local/model"].export(tmp_path, layout="workshop")
    assert path.read_bytes() == content


def test_an_unknown_layout_and_a_missing_tensor_are_refused_before_anything_is_written(
    publish: Publish, tmp_path: Path
) -> None:
    survey = open_surveys(publish("model", None, "--tensors", "W,mu,black_holes"))["local/model"]
    with pytest.raises(ValueError, match="found 'notebook', expected 'workshop' or 'azimuth'"):
        survey.export(tmp_path / "out", layout="notebook")  # type: ignore[arg-type]
    with pytest.raises(NotPublished, match="expected gamma_centered"):
        survey.export(tmp_path / "out", layout="azimuth")
    assert not (tmp_path / "out").exists()
