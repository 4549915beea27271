"""Where each tensor lies among several shards: the index is a hint, the shards' own headers decide."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.weight_index import MAX_SHARDS, numbered_set, shard_file
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, NoUnembedding
from tests.checkpoints import recorded

# Importing what builds model classes takes seconds: one of pytest's workers does it for all of these tests.
pytestmark = pytest.mark.xdist_group("model classes")

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
LLAMA: dict[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
UNTIED = LLAMA | {"tie_word_embeddings": False}
TIED = LLAMA | {"tie_word_embeddings": True}
W = torch.arange(40 * 8, dtype=torch.float32).reshape(40, 8)


def shard(number: int, total: int) -> str:
    return f"model-{number:05}-of-{total:05}.safetensors"


def write(
    folder: Path,
    shards: Sequence[Mapping[str, torch.Tensor]],
    index: Mapping[str, str] | None = None,
    config: Mapping[str, object] = UNTIED,
) -> Checkpoint:
    for number, tensors in enumerate(shards, 1):
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / shard(number, len(shards)))
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    return open_folder(folder)


@pytest.mark.parametrize("config", [TIED, UNTIED, LLAMA], ids=["tied", "untied", "silent"])
@pytest.mark.parametrize("listed", [True, False], ids=["in a listed shard", "in a shard that is not listed"])
def test_a_head_that_the_index_omits_is_w(tmp_path: Path, config: dict[str, object], listed: bool) -> None:
    index = {EMBEDDING: shard(1, 2)} | ({NORM: shard(2, 2)} if listed else {})
    found = find_unembedding(write(tmp_path, [{EMBEDDING: W}, {NORM: W[0], HEAD: -W}], index, config), None)
    assert (found.name, found.location.file) == (HEAD, shard(2, 2))


def test_a_head_that_the_index_omits_and_that_is_asked_for_is_found(tmp_path: Path) -> None:
    index = {EMBEDDING: shard(1, 2), HEAD: shard(1, 2)}
    checkpoint = write(tmp_path, [{EMBEDDING: W, HEAD: W}, {"other.weight": -W}], index)
    assert find_unembedding(checkpoint, "other.weight").location.file == shard(2, 2)
    with pytest.raises(NoUnembedding, match="found no tensor 'another'"):
        find_unembedding(checkpoint, "another")


def test_a_quantised_head_that_the_index_omits_is_not_passed_over(tmp_path: Path) -> None:
    index = {EMBEDDING: shard(1, 2), NORM: shard(2, 2)}
    checkpoint = write(tmp_path, [{EMBEDDING: W}, {NORM: W[0], "lm_head.qweight": W.int()}], index, TIED)
    with pytest.raises(Exception, match="found the output head stored quantised"):
        find_unembedding(checkpoint, None)


def test_a_missing_shard_leaves_it_open_whether_a_head_is_stored(tmp_path: Path) -> None:
    write(tmp_path, [{EMBEDDING: W}, {NORM: W[0]}], {EMBEDDING: shard(1, 2), NORM: shard(2, 2)}, TIED)
    (tmp_path / shard(2, 2)).unlink()
    with pytest.raises(CorruptCheckpoint, match=f"found no file '{shard(2, 2)}', which the index names"):
        find_unembedding(open_folder(tmp_path), None)


def test_two_hundred_shards_cost_two_headers_where_the_index_finds_the_head(tmp_path: Path) -> None:
    n_shards = 200
    shards = [{f"model.layers.{n}.weight": W[0]} for n in range(n_shards)]
    shards[0][EMBEDDING], shards[-1][HEAD] = W, -W
    index = {name: shard(number, n_shards) for number, stored in enumerate(shards, 1) for name in stored}
    remote, ranges = recorded(replace(write(tmp_path, shards, index), local_paths={}))
    assert find_unembedding(remote, None).name == HEAD
    assert {file for file, _, _ in ranges if not file.endswith(".json")} == {
        shard(1, n_shards),
        shard(n_shards, n_shards),
    }


SIZES: dict[str, object] = {"vocab_size": 40, "hidden_size": 8}
SLICES = {
    "rows": [W[:20], W[20:]],
    "columns": [W[:, :4], W[:, 4:]],
    "rows of two lengths": [W[:30], W[30:]],
}


@pytest.mark.parametrize("slices", SLICES.values(), ids=SLICES)
@pytest.mark.parametrize("indexed", [True, False], ids=["with an index", "without an index"])
def test_a_slice_of_the_head_in_each_shard_is_never_taken_for_the_head(
    tmp_path: Path, slices: list[torch.Tensor], indexed: bool
) -> None:
    index = {HEAD: shard(1, 2), EMBEDDING: shard(2, 2)} if indexed else None
    checkpoint = write(tmp_path, [{HEAD: part, EMBEDDING: -part} for part in slices], index, UNTIED | SIZES)
    with pytest.raises(CorruptCheckpoint, match=r"found lm_head.weight in 2 shards \(F32 .* merge them"):
        find_unembedding(checkpoint, None)


def test_an_embedding_in_slices_is_not_taken_for_a_tied_head(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, [{EMBEDDING: W[:20]}, {EMBEDDING: W[20:]}], None, TIED | SIZES)
    with pytest.raises(CorruptCheckpoint, match="in 2 shards"):
        find_unembedding(checkpoint, None)


def test_heads_of_one_shape_that_differ_in_the_last_byte_are_refused(tmp_path: Path) -> None:
    other = W.clone()
    other[-1, -1] += 1
    with pytest.raises(CorruptCheckpoint, match="with different content"):
        find_unembedding(write(tmp_path, [{HEAD: W}, {HEAD: other}]), None)


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("other", [-W, W.half(), W[:20]], ids=["content", "dtype", "shape"])
def test_a_head_that_another_shard_holds_too_is_refused_whichever_the_index_names(
    tmp_path: Path, other: torch.Tensor, first: int
) -> None:
    index = {EMBEDDING: shard(1, 3), NORM: shard(3, 3), HEAD: shard(first, 3)}
    shards = [{EMBEDDING: W + 1, HEAD: W}, {HEAD: other}, {NORM: W[0]}]
    with pytest.raises(CorruptCheckpoint, match=r"found lm_head\.weight in 2 shards"):
        find_unembedding(write(tmp_path, shards, index), None)


def test_equal_heads_in_two_shards_and_a_shard_that_is_missing_do_not_matter(tmp_path: Path) -> None:
    index = {EMBEDDING: shard(1, 3), HEAD: shard(1, 3), NORM: shard(3, 3)}
    write(tmp_path, [{EMBEDDING: W + 1, HEAD: W}, {HEAD: W}, {NORM: W[0]}], index)
    assert find_unembedding(open_folder(tmp_path), None).name == HEAD
    (tmp_path / shard(3, 3)).unlink()
    assert find_unembedding(open_folder(tmp_path), None).name == HEAD


def test_heads_in_two_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"F32 \[40, 8\], F16 \[40, 8\]"):
        find_unembedding(write(tmp_path, [{HEAD: W}, {HEAD: W.half()}]), None)


@pytest.mark.parametrize("config", [UNTIED, UNTIED | SIZES | {"vocab_size": 41}], ids=["plain", "shorter than stated"])
def test_copies_of_the_head_in_several_shards_are_one_head(tmp_path: Path, config: dict[str, object]) -> None:
    checkpoint = write(tmp_path, [{HEAD: W, EMBEDDING: -W}, {HEAD: W, NORM: W[0]}], None, config)
    assert find_unembedding(checkpoint, None).location.shape == (40, 8)


def test_slices_of_what_is_not_w_do_not_matter(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, [{HEAD: W, "model.layers.0.weight": W[:20]}, {"model.layers.0.weight": W[20:]}])
    assert find_unembedding(checkpoint, None).name == HEAD
    sliced = write(tmp_path, [{HEAD: W, EMBEDDING: W[:20]}, {EMBEDDING: W[20:]}])
    assert "could not be compared" in find_unembedding(sliced, None).tie_evidence
    tied = [{EMBEDDING: W, "projection.weight": W[:20]}, {"projection.weight": W[20:]}]
    assert find_unembedding(write(tmp_path, tied, config=TIED), None).name == EMBEDDING


@pytest.mark.parametrize("n_whole", [1, 2])
def test_a_shard_that_is_left_of_another_set_does_not_hide_a_whole_one(tmp_path: Path, n_whole: int) -> None:
    save_file({EMBEDDING: W}, tmp_path / shard(1, 3))
    for number in range(1, n_whole + 1):
        name = "pytorch_model.bin" if n_whole == 1 else f"pytorch_model-{number:05}-of-{n_whole:05}.bin"
        torch.save({HEAD: -W, EMBEDDING: W} if number == 1 else {NORM: W[0]}, tmp_path / name)
    found = find_unembedding(open_folder(tmp_path), None)
    assert (found.name, found.location.file.startswith("pytorch_model")) == (HEAD, True)
    assert any(f"not read: {shard(1, 3)}" in warning for warning in found.warnings)


def test_shards_that_are_left_of_two_sets_are_refused(tmp_path: Path) -> None:
    save_file({EMBEDDING: W}, tmp_path / shard(1, 3))
    torch.save({HEAD: W}, tmp_path / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(CorruptCheckpoint, match="found 1 of 3 shards and no index"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize("path", ["./{}", "{}", "sub/../{}", "./sub/./../{}", ".//{}"])
def test_a_shard_is_found_by_any_path_that_leads_to_it(tmp_path: Path, path: str) -> None:
    index = {EMBEDDING: path.format(shard(1, 2)), HEAD: path.format(shard(2, 2))}
    found = find_unembedding(write(tmp_path, [{EMBEDDING: W}, {HEAD: -W}], index), None)
    assert found.location.file == shard(2, 2)


@pytest.mark.parametrize("path", ["../x.safetensors", "a/../../x.safetensors", "/x.safetensors", ".\\a.safetensors"])
def test_a_path_out_of_the_checkpoint_leads_to_no_file(tmp_path: Path, path: str) -> None:
    save_file({HEAD: W}, tmp_path / "x.safetensors")
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(CorruptCheckpoint, match=r"found no file .*, which the index names"):
        find_unembedding(write(inner, [{EMBEDDING: W}], {HEAD: path}), None)


@given(st.text(alphabet="a./\\", max_size=12), st.sampled_from(["", "sub/"]))
def test_no_path_of_an_index_is_spelled_in_two_ways(path: str, folder: str) -> None:
    name = shard_file(folder, path)
    assert shard_file("", name) == name


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({shard(2, 3)}, {shard(1, 3), shard(2, 3), shard(3, 3)}),
        ({"a-00000-of-00002.bin"}, {"a-00000-of-00002.bin", "a-00001-of-00002.bin"}),
        ({"sub/m-1-of-2.fp16.safetensors"}, {"sub/m-1-of-2.fp16.safetensors", "sub/m-2-of-2.fp16.safetensors"}),
        ({"model.safetensors"}, set()),
        ({f"m-00001-of-{MAX_SHARDS + 1}.bin"}, set()),
        ({f"{stem}-00001-of-01500.bin" for stem in "ab"}, set()),
        ({"m-00001-of-999999999.bin"}, set()),
    ],
)
def test_the_other_shards_of_a_set_are_known_by_their_numbers(listed: set[str], expected: set[str]) -> None:
    assert numbered_set(listed) == expected
