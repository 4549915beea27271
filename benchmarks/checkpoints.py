"""Writes the checkpoints that the benchmarks read: Qwen3-4B's in names and number of rows, with a W of any size."""

import json
from dataclasses import dataclass
from itertools import chain, islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import IO, Final

import numpy as np
import tokenizers
from tokenizers.models import BPE

from job.store.safetensors_file import StoredTensor, header

N_ROWS: Final = 151_936
"""W grows by its columns, as memory for each row does not: 2,560 columns of BF16 have 0.78 GB."""
HOLES: Final = (814, 704, 306, 228, 11, 10, 6, 5, 4, 4, 3, 3, 2)
"""The populations of the black holes of Qwen3-4B-Instruct-2507."""
W_NAME: Final = "model.embed_tokens.weight"
BLOCK_ROWS: Final = 1_024


@dataclass(frozen=True)
class Written:
    """A checkpoint, and where W lies in it."""

    folder: Path
    begin: int
    end: int

    @property
    def file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def w_nbytes(self) -> int:
        return self.end - self.begin


def write_large(folder: Path, gigabytes: float, n_layers: int = 0) -> Written:
    """A checkpoint whose W has about so many gigabytes, and ``n_layers`` layers of Qwen3-4B's: zeros, as a hole in the
    file, which takes no disk."""
    return _write(folder, N_ROWS, 256 * max(1, round(gigabytes * 1e9 / 2 / N_ROWS / 256)), n_layers)


def write_small(folder: Path, number: int) -> Written:
    """The ``number``-th small checkpoint: a W of 512 rows and 64 columns, 66 kB, unlike that of any other."""
    return _write(folder, 512, 64, n_layers=0, seed=number)


def _write(folder: Path, n_rows: int, hidden_size: int, n_layers: int, seed: int = 0) -> Written:
    folder.mkdir(parents=True)
    sizes = {"hidden_size": hidden_size, "intermediate_size": 9728, "num_hidden_layers": n_layers, "head_dim": 128}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": n_rows, "tie_word_embeddings": True}
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config | sizes | heads))
    _write_tokenizer(folder / "tokenizer.json", n_rows)
    tensors = [StoredTensor(W_NAME, "BF16", (n_rows, hidden_size)), *_body(n_layers, hidden_size)]
    head = header(tensors, {})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(head)
        _write_rows(file, n_rows, hidden_size, seed)
        file.truncate(len(head) + sum(tensor.nbytes for tensor in tensors))
    return Written(folder, len(head), len(head) + tensors[0].nbytes)


def _write_rows(file: IO[bytes], n_rows: int, hidden_size: int, seed: int) -> None:
    """Random rows. Their first four numbers say which row each is; the rows of a hole say the same one."""
    random = np.random.default_rng(seed)
    ids = np.arange(n_rows)
    first = 100
    for population in HOLES if n_rows >= sum(HOLES) * 2 else (7, 2):
        ids[first : first + population] = first
        first += population + 1
    noise = _bf16(random.standard_normal((BLOCK_ROWS, hidden_size), np.float32))
    digits = _bf16(np.stack([ids >> shift & 127 for shift in (0, 7, 14)] + [np.full(n_rows, seed)], 1))
    for begin in range(0, n_rows, BLOCK_ROWS):
        # The rows of a hole have one and the same noise, whatever block they are in.
        rows = noise[ids[begin : begin + BLOCK_ROWS] % BLOCK_ROWS]
        rows[:, :4] = digits[begin : begin + BLOCK_ROWS]
        file.write(rows.tobytes())


def _bf16(numbers: np.typing.NDArray[np.generic]) -> np.typing.NDArray[np.uint16]:
    """The upper halves of the numbers as float32."""
    return (np.ascontiguousarray(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def _write_tokenizer(path: Path, n_rows: int) -> None:
    """A token for each row, and a merge for each token of several letters."""
    tokens = chain.from_iterable(product(ascii_lowercase, repeat=length) for length in range(1, 6))
    vocabulary = {"".join(letters): index for index, letters in enumerate(islice(tokens, n_rows))}
    merges = [(token[0], token[1:]) for token in vocabulary if len(token) > 1]
    tokenizers.Tokenizer(BPE(vocabulary, merges)).save(str(path))


def _body(n_layers: int, hidden_size: int) -> list[StoredTensor]:
    """Everything but W, by the names of Qwen3."""
    shapes = {
        "input_layernorm": (hidden_size,),
        "post_attention_layernorm": (hidden_size,),
        "self_attn.q_norm": (128,),
        "self_attn.k_norm": (128,),
        "self_attn.q_proj": (4096, hidden_size),
        "self_attn.k_proj": (1024, hidden_size),
        "self_attn.v_proj": (1024, hidden_size),
        "self_attn.o_proj": (hidden_size, 4096),
        "mlp.gate_proj": (9728, hidden_size),
        "mlp.up_proj": (9728, hidden_size),
        "mlp.down_proj": (hidden_size, 9728),
    }
    layers = [
        StoredTensor(f"model.layers.{layer}.{name}.weight", "BF16", shape)
        for layer in range(n_layers)
        for name, shape in shapes.items()
    ]
    return [*layers, StoredTensor("model.norm.weight", "BF16", (hidden_size,))]
