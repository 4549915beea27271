"""A file that is needed is there, is readable, and was downloaded whole; what is not needed does not matter."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub._local_folder import get_local_download_paths
from safetensors.torch import save_file

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.adapters import read_adapter
from job.checkpoints.head.needed_files import unfinished_download
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint
from tests.ggufs import planted_rows, write_gguf

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
REASON = "a link to a file that is not there"


def write(folder: Path, *, index: bool = True) -> Checkpoint:
    """The embedding in the first shard, the head in the second."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({EMBEDDING: torch.ones(6, 4)}, folder / FIRST)
    save_file({HEAD: torch.ones(6, 4)}, folder / SECOND)
    if index:
        (folder / INDEX).write_text(json.dumps({"weight_map": {EMBEDDING: FIRST, HEAD: SECOND}}))
    return open_folder(folder)


def without(checkpoint: Checkpoint, *names: str) -> Checkpoint:
    """The checkpoint with these names set aside."""
    files = {name: file for name, file in checkpoint.files.items() if name not in names}
    return replace(checkpoint, files=files, set_aside=dict.fromkeys(names, REASON))


@pytest.mark.parametrize("name", ["config.json", INDEX, SECOND, "model.safetensors"])
def test_a_needed_file_that_was_set_aside_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=f"'{name}' is needed and cannot be read: {REASON}"):
        find_unembedding(without(write(tmp_path), name), None)


def test_a_shard_of_a_set_without_an_index_that_was_set_aside_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=f"'{FIRST}' is needed"):
        find_unembedding(without(write(tmp_path, index=False), FIRST), None)


@pytest.mark.parametrize("name", [FIRST, "tokenizer.json", "pytorch_model.bin", "onnx\\model.onnx", "a\\b.safetensors"])
def test_a_file_that_is_not_needed_may_be_set_aside(tmp_path: Path, name: str) -> None:
    assert find_unembedding(without(write(tmp_path), name), None).location.file == SECOND


def test_other_weights_are_not_read_in_place_of_those_that_were_set_aside(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save({HEAD: torch.ones(6, 4)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CorruptCheckpoint, match=r"'model.safetensors' is needed"):
        find_unembedding(without(open_folder(tmp_path), "model.safetensors"), None)


def test_gguf_files_are_not_read_in_place_of_weights_that_were_set_aside(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"output.weight": (planted_rows("F32", 6), "F32")})
    assert find_unembedding(open_folder(tmp_path), None).location.file == "m.gguf"
    with pytest.raises(CorruptCheckpoint, match=r"'model.safetensors' is needed"):
        find_unembedding(without(open_folder(tmp_path), "model.safetensors"), None)
    with pytest.raises(CorruptCheckpoint, match=r"'m.gguf' is needed"):
        find_unembedding(without(open_folder(tmp_path), "m.gguf"), None)
    with pytest.raises(CorruptCheckpoint, match=r"'m.gguf' is needed"):
        find_unembedding(without(open_folder(tmp_path), "m.gguf"), None, "m.gguf")


def test_an_adapter_beside_weights_that_were_set_aside_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    adapter = open_folder(tmp_path)
    assert read_adapter(adapter) is not None
    assert read_adapter(without(adapter, "model.safetensors")) is None
    with pytest.raises(CorruptCheckpoint, match=r"'adapter_config.json' is needed"):
        read_adapter(without(adapter, "adapter_config.json"))


def test_a_shard_that_an_index_names_with_a_backslash_and_that_was_set_aside_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {HEAD: "parts\\b.safetensors"}}))
    with pytest.raises(CorruptCheckpoint, match=r"'parts\\\\b.safetensors' is needed"):
        find_unembedding(without(open_folder(tmp_path), "parts\\b.safetensors"), None)


MARKERS = [".aria2", ".incomplete", ".part", ".partial", ".crdownload", ".!qB", ".5f9d3a1b.partial"]


@pytest.mark.parametrize("marker", MARKERS)
def test_a_needed_file_with_an_unfinished_download_beside_it_is_refused(tmp_path: Path, marker: str) -> None:
    write(tmp_path)
    (tmp_path / f"{SECOND}{marker}").touch()
    with pytest.raises(CorruptCheckpoint, match=f"found '{SECOND}{marker}' beside {SECOND}, .* finish it"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize("marker", MARKERS)
def test_an_unfinished_download_of_another_file_does_not_matter(tmp_path: Path, marker: str) -> None:
    write(tmp_path)
    for other in (
        FIRST,
        "tokenizer.json",
        "original/consolidated.pth",
        f"old-{SECOND}",
        SECOND.replace("model", "mode"),
    ):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / f"{other}{marker}").touch()
    assert find_unembedding(open_folder(tmp_path), None).location.file == SECOND


def test_a_shard_of_which_there_is_only_an_unfinished_download_is_refused_for_that(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SECOND).rename(tmp_path / f"{SECOND}.part")
    with pytest.raises(CorruptCheckpoint, match=f"found '{SECOND}.part' beside"):
        find_unembedding(open_folder(tmp_path), None)


def test_a_gguf_file_with_an_unfinished_download_beside_it_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"output.weight": (planted_rows("F32", 6), "F32")})
    (tmp_path / "m.gguf.aria2").touch()
    with pytest.raises(CorruptCheckpoint, match=r"found 'm.gguf.aria2' beside"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize("name", ["model.safetensors", f"original/{FIRST}"])
def test_what_the_hubs_client_has_not_finished_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    incomplete = get_local_download_paths(tmp_path, name).incomplete_path("etag")
    marker = incomplete.relative_to(tmp_path.resolve()).as_posix()
    assert unfinished_download(name, [name, marker]) == marker
    assert unfinished_download("config.json", [name, marker]) is None
    older = f".cache/huggingface/download/{name}.etag.incomplete"
    assert unfinished_download(name, [name, older]) == older


def test_missing_weights_are_to_be_downloaded(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SECOND).unlink()
    with pytest.raises(CorruptCheckpoint, match=r"which the index names; .* download the missing files"):
        find_unembedding(open_folder(tmp_path), None)
    (tmp_path / INDEX).unlink()
    with pytest.raises(CorruptCheckpoint, match="download the missing ones, starting with number 2"):
        find_unembedding(open_folder(tmp_path), None)
    (tmp_path / FIRST).unlink()
    with pytest.raises(UnsupportedCheckpoint, match=r"found no weights, .* `hf download`"):
        find_unembedding(open_folder(tmp_path), None)
