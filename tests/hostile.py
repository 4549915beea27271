"""Checkpoints that are made to take a worker's memory, time or disk, and what each of them ends in."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from job.store.safetensors_file import StoredTensor, header
from tests.checkpoints import planted

SCRATCH_LIMIT: Final = 300_000_000
EMBEDDING: Final = "model.embed_tokens.weight"
LLAMA: Final = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
INDEX: Final = "model.safetensors.index.json"


def headless(folder: Path, config: bytes) -> None:
    """Only an embedding, so that the model class is asked."""
    (folder / "config.json").write_bytes(config)
    save_file({EMBEDDING: planted(40, 8, [])}, folder / "model.safetensors")


def zeros(folder: Path, shape: tuple[int, int], **settings: int) -> None:
    """A W of nothing but zeros, which takes no room on this disk."""
    (folder / "config.json").write_text(json.dumps(LLAMA | settings))
    start = header([StoredTensor("lm_head.weight", "BF16", shape)], {})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(start)
        file.truncate(len(start) + 2 * shape[0] * shape[1])


def slow_config(folder: Path) -> None:
    """600 bytes that make a class compute 60 million numbers one by one."""
    depths = {"architectures": ["SwinForMaskedImageModeling"], "model_type": "swin", "depths": [2**20] * 60}
    headless(folder, json.dumps(depths).encode())


def deep_config(folder: Path) -> None:
    headless(folder, b'{"text_config": ' * 100_000 + b"1" + b"}" * 100_000)


def many_layers(folder: Path) -> None:
    headless(folder, json.dumps(LLAMA | {"num_hidden_layers": 10**12}).encode())


def full_config(folder: Path) -> None:
    headless(folder, b'{"a": [' + b"[]," * 3_000_000 + b"[]]}")


def huge_index(folder: Path) -> None:
    headless(folder, b"{}")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_bytes(b'{"weight_map": {' + b'"a":"b",' * 11_000_000 + b'"a":"b"}}')


def huge_header(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(LLAMA))
    content = b"{" + b",".join(b'"%d":{}' % number for number in range(2_000_000)) + b"}"
    (folder / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)


def pickle_of_a_program(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(LLAMA))
    torch.save({"lm_head.weight": torch.ones(4, 4), "run": print}, folder / "pytorch_model.bin")


def long_pickle(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(LLAMA))
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"}" * 19_000_000)


def too_large_for_scratch(folder: Path) -> None:
    """400 MB stored column by column, which needs twice as much disk."""
    zeros(folder, (200, 1_000_000), vocab_size=1_000_000, hidden_size=200)


def tokenizer_bomb(folder: Path) -> None:
    zeros(folder, (40, 8), vocab_size=40, hidden_size=8)
    model = b'{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","unk_token":"0","vocab":{%s}}}'
    vocabulary = b",".join(b'"%d":%d' % (number, number) for number in range(8_000_000))
    (folder / "tokenizer.json").write_bytes(model % vocabulary)


def rows_all_alike(folder: Path) -> None:
    zeros(folder, (1_000_000, 4), vocab_size=1_000_000, hidden_size=4)


REFUSED: Final[dict[Callable[[Path], None], str]] = {
    slow_config: "NoUnembedding",
    many_layers: "NoUnembedding",
    deep_config: "CorruptCheckpoint",
    full_config: "UnsupportedCheckpoint",
    huge_index: "UnsupportedCheckpoint",
    huge_header: "UnsupportedCheckpoint",
    pickle_of_a_program: "UnsupportedCheckpoint",
    long_pickle: "UnsupportedCheckpoint",
    too_large_for_scratch: "UnsupportedCheckpoint",
}
"""The kind of error that each ends in, in a gigabyte of memory and with this limit of scratch."""

SURVEYED: Final = (tokenizer_bomb, rows_all_alike)
"""Those that cost no more than the names of tokens, or nothing."""
