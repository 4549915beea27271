"""Of several GGUF files the model is the one whose header says so, whatever the files are called."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, NoUnembedding
from tests.checkpoints import recorded
from tests.ggufs import Rows, write_gguf

Tensors = Mapping[str, tuple[Rows, str]]
V, D = 64, 64


def rows(dtype: str = "BF16", n_rows: int = V, width: int = D) -> tuple[Rows, str]:
    numbers = np.random.default_rng(n_rows).standard_normal((n_rows, width), np.float32)
    return quantize(numbers, GGMLQuantizationType[dtype]).view(np.uint8), dtype


def layers(numbers: range, width: int = D, part: str = "attn_q.weight") -> dict[str, tuple[Rows, str]]:
    return {f"blk.{number}.{part}": rows("Q8_0", width, width) for number in numbers}


def model(dtype: str, n_layers: int = 4, n_rows: int = V, width: int = D) -> Tensors:
    head = rows(dtype, n_rows, width)
    return {"token_embd.weight": head, "output.weight": head, **layers(range(n_layers), width)}


def find(folder: Path, file: str | None = None) -> Unembedding:
    return find_unembedding(open_folder(folder), None, file)


MTP = {f"blk.4.nextn.{part}.weight": rows() for part in ("eh_proj", "shared_head_head")}
MAP: tuple[Rows, str] = (np.zeros(V // 2 * 8, np.uint8), "I64")

NOT_THE_MODEL: dict[str, tuple[str, str, Tensors, dict[str, int | float | bool | str]]] = {
    "a projector": ("big-vision-BF16.gguf", "clip", {"v.patch_embd.weight": rows(), "mm.0.weight": rows()}, {}),
    "a projector by its type": ("big-f16.gguf", "qwen3", model("F16"), {"general.type": "mmproj"}),
    "statistics": ("big-BF16-data.gguf", "", {"blk.0.x.in_sum2": rows("F32")}, {"general.type": "imatrix"}),
    "a LoRA by its type": ("big-f16-style.gguf", "qwen3", {"output.weight": rows()}, {"general.type": "adapter"}),
    "a LoRA by its tensors": ("a-BF16.gguf", "qwen3", {"output.weight.lora_a": rows(), "output.weight": rows()}, {}),
    "a drafter by its architecture": ("a-BF16.gguf", "eagle3", {"output.weight": rows(), **layers(range(1))}, {}),
    "a drafter by its map": ("a-BF16.gguf", "llama", {"output.weight": rows("BF16", 32), "d2t": MAP}, {}),
    "layers for further tokens": ("big-BF16.gguf", "qwen3", {"token_embd.weight": rows(), **MTP}, {}),
    "those, counted from 0": (
        "x-BF16.gguf", "qwen3", {"token_embd.weight": rows(), "blk.0.nextn.eh_proj.weight": rows()}, {},
    ),
    "those, with their own layer": (
        "x-BF16.gguf", "qwen3", {"output.weight": rows(), **MTP, **layers(range(4, 5))}, {},
    ),
    "an encoder": ("embed-f32.gguf", "bert", model("F32"), {}),
    "a vocabulary": ("tokens-BF16.gguf", "llama", {"blk.0.x": rows()}, {}),
    "an embedding without layers": ("part-BF16.gguf", "qwen3", {"token_embd.weight": rows()}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "architecture", "tensors", "keys"), NOT_THE_MODEL.values(), ids=NOT_THE_MODEL)
def test_what_lies_beside_the_model_is_told_by_its_header(
    tmp_path: Path, name: str, architecture: str, tensors: Tensors, keys: dict[str, int | float | bool | str]
) -> None:
    write_gguf(tmp_path / "m-Q8_0.gguf", model("Q8_0"), architecture="qwen3")
    write_gguf(tmp_path / name, tensors, keys, architecture=architecture)
    found = find(tmp_path)
    assert found.location.file == "m-Q8_0.gguf"
    assert found.warnings[0].startswith(f"{name} is not the model but ")


SMALLER = {
    "of another vocabulary": model("BF16", 2, 48),
    "of another width": model("BF16", 4, V, 32),
    "of fewer layers": model("F32", 1),
}


@pytest.mark.parametrize("drafter", SMALLER.values(), ids=SMALLER)
def test_a_smaller_model_beside_several_of_one_size_is_not_taken(tmp_path: Path, drafter: Tensors) -> None:
    for dtype in ("Q8_0", "Q4_0", "F16"):
        write_gguf(tmp_path / f"m-{dtype}.gguf", model(dtype))
    write_gguf(tmp_path / "m-draft-BF16.gguf", drafter)
    found = find(tmp_path)
    assert found.location.file == "m-F16.gguf"
    assert found.warnings[0].startswith("m-draft-BF16.gguf is not the model but a smaller model: ")


@pytest.mark.parametrize("drafter", SMALLER.values(), ids=SMALLER)
def test_where_sizes_do_not_tell_which_is_the_model_it_is_asked_for(tmp_path: Path, drafter: Tensors) -> None:
    write_gguf(tmp_path / "m-Q8_0.gguf", model("Q8_0"))
    write_gguf(tmp_path / "m-draft-BF16.gguf", drafter)
    with pytest.raises(NoUnembedding, match=r"found 2 GGUF models .*`file: m-Q8_0\.gguf`|`file: m-draft-BF16\.gguf`"):
        find(tmp_path)
    assert find(tmp_path, "m-Q8_0.gguf").location.dtype == "Q8_0"


def test_several_drafters_do_not_outvote_the_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-Q8_0.gguf", model("Q8_0"))
    for dtype in ("Q8_0", "BF16"):
        write_gguf(tmp_path / f"draft-{dtype}.gguf", model(dtype, 1))
    with pytest.raises(NoUnembedding, match="found 3 GGUF models"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["mtp-m-BF16.gguf", "m-eagle3-BF16.gguf", "m-draft-imatrix-BF16.gguf", "m.gguf"])
def test_a_whole_model_is_one_whatever_its_name_says(tmp_path: Path, name: str) -> None:
    write_gguf(tmp_path / name, {**model("BF16"), **MTP}, architecture="qwen3")
    write_gguf(tmp_path / "m-Q8_0.gguf", model("Q8_0"), architecture="qwen3")
    assert find(tmp_path).location.file == name


def test_the_type_of_the_head_counts_and_not_the_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-BF16.gguf", model("Q8_0"))
    write_gguf(tmp_path / "m-Q8_0.gguf", model("F16"))
    write_gguf(tmp_path / "m-Q4_0.gguf", model("Q4_0"))
    assert find(tmp_path).location.file == "m-Q8_0.gguf"


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-BF16.gguf", model("BF16"))
    (tmp_path / "m-Q4_0.gguf").write_bytes(b"GGUF")
    found = find(tmp_path)
    assert found.location.file == "m-BF16.gguf"
    assert found.warnings[0].startswith("m-Q4_0.gguf is not read: ")


def test_a_file_that_cannot_be_read_may_be_the_model_beside_a_quantised_one(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-Q8_0.gguf", model("Q8_0"))
    (tmp_path / "m-BF16.gguf").write_bytes(b"GGUF")
    with pytest.raises(NoUnembedding, match="found 2 GGUF models"):
        find(tmp_path)
    with pytest.raises(CorruptCheckpoint):
        find(tmp_path, "m-BF16.gguf")


def test_files_that_are_all_no_model_are_refused_with_what_they_are(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", model("BF16"), architecture="eagle3")
    write_gguf(tmp_path / "b.gguf", model("BF16"), architecture="clip")
    with pytest.raises(NoUnembedding, match=r"a\.gguf is a drafter.*b\.gguf is of the architecture clip"):
        find(tmp_path)


@pytest.mark.parametrize("keep", [1, 0], ids=["one of them not quantised by its name", "none"])
def test_of_very_many_files_only_those_are_read_whose_names_promise_floats(tmp_path: Path, keep: int) -> None:
    write_gguf(tmp_path / "m-BF16.gguf", model("BF16"))
    write_gguf(tmp_path / "m-Q4_0.gguf", model("Q4_0"))
    for number in range(60):
        (tmp_path / f"m-Q4_{number}-x.gguf").hardlink_to(tmp_path / "m-Q4_0.gguf")
    if not keep:
        (tmp_path / "m-BF16.gguf").unlink()
        with pytest.raises(NoUnembedding, match="found 61 GGUF models"):
            find(tmp_path)
    else:
        assert find(tmp_path).location.file == "m-BF16.gguf"


def test_the_header_of_a_single_model_is_read_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", model("Q8_0"))
    (tmp_path / "mmproj-m.gguf").write_bytes(b"GGUF")
    folder, ranges = recorded(open_folder(tmp_path))
    assert find_unembedding(folder, None).name == "output.weight"
    assert [file for file, _, _ in ranges] == ["m.gguf"]


def test_a_part_of_a_model_alone_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-mtp.gguf", {"token_embd.weight": rows(), **MTP})
    with pytest.raises(NoUnembedding, match="a part of a model: all its layers predict further tokens, expected"):
        find(tmp_path)


def test_the_rows_of_a_drafter_are_not_tokens(tmp_path: Path) -> None:
    tensors = {"output.weight": rows("BF16", V // 2), "d2t": MAP, **layers(range(1))}
    write_gguf(tmp_path / "a" / "m.gguf", tensors, architecture="eagle3")
    assert "d2t says which token each row stands for" in str(find(tmp_path / "a").rows_are_not_tokens)
    write_gguf(tmp_path / "b" / "m.gguf", model("BF16"), tokens=[f"t{number}" for number in range(3 * V)])
    assert "W has 64 rows of the 192" in str(find(tmp_path / "b").rows_are_not_tokens)
    write_gguf(tmp_path / "c" / "m.gguf", model("BF16"), tokens=[f"t{number}" for number in range(V)])
    assert find(tmp_path / "c").rows_are_not_tokens is None


def test_a_gguf_without_known_head_is_refused_with_what_could_be_given(tmp_path: Path) -> None:
    tensors = {"out.weight": rows(), "emb.weight": rows(), "pos.weight": rows("BF16", 8)}
    write_gguf(tmp_path / "m.gguf", tensors, tokens=[f"t{number}" for number in range(V)])
    with pytest.raises(NoUnembedding, match=r"by `tensor:`.*are emb\.weight \[64, 64\], out\.weight \[64, 64\]$"):
        find(tmp_path)


ALONE: dict[str, tuple[str, Tensors, dict[str, int | float | bool | str], str]] = {
    "a drafter": ("eagle3", {"token_embd.weight": rows(), **layers(range(1))}, {}, "a drafter, of the architecture"),
    "an assistant": ("gemma4-assistant", {"token_embd.weight": rows(), **layers(range(1))}, {}, "a drafter"),
    "an adapter": ("llama", {"token_embd.weight": rows(), "x.lora_a": rows()}, {"adapter.type": "lora"}, "an adapter"),
    "an adapter by its tensors": ("llama", {"output.weight": rows(), "output.weight.lora_b": rows()}, {}, "an adapter"),
    "a reranker": (
        "qwen3", {"token_embd.weight": rows(), **layers(range(1)), "cls.output.weight": rows("BF16", 2)}, {},
        "a classifier: it holds cls.output.weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("architecture", "tensors", "keys", "what"), ALONE.values(), ids=ALONE)
def test_what_is_no_model_is_none_where_it_is_alone(
    tmp_path: Path, architecture: str, tensors: Tensors, keys: dict[str, int | float | bool | str], what: str
) -> None:
    write_gguf(tmp_path / "m.gguf", tensors, keys, architecture=architecture)
    for file in (None, "m.gguf"):
        with pytest.raises(NoUnembedding, match=f"found {what}"):
            find(tmp_path, file)
    name = next(iter(tensors))
    assert find_unembedding(open_folder(tmp_path), name).name == name
