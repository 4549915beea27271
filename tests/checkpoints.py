"""Small checkpoints with real files: config, tokenizer, weights."""

import json
from dataclasses import replace
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers.models import WordLevel

from job.checkpoints.checkpoint import Checkpoint


def planted(
    n_rows: int, hidden_size: int, groups: list[list[int]], dtype: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """A random W in which the rows of each group are identical and all others differ."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(n_rows, hidden_size, generator=generator).to(dtype)
    w[:, 0] = torch.arange(n_rows) % 251
    w[:, 1] = torch.arange(n_rows) // 251
    for group in groups:
        w[group] = w[group[0]].clone()
    return w


def write_checkpoint(folder: Path, w: torch.Tensor, *, n_tokens: int | None = None, filler_nbytes: int = 0) -> Path:
    """A checkpoint whose untied head is ``w``, with as many other bytes as told, and a tokenizer of ``n_tokens``."""
    folder.mkdir(parents=True, exist_ok=True)
    n_rows, hidden_size = w.shape
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    config |= {"vocab_size": n_rows, "hidden_size": hidden_size}
    (folder / "config.json").write_text(json.dumps(config))
    filler = torch.zeros(filler_nbytes, dtype=torch.uint8)
    save_file({"lm_head.weight": w, "model.layers.0.mlp.up_proj.weight": filler}, folder / "model.safetensors")
    if n_tokens is not None:
        vocabulary = {f"token{index}": index for index in range(n_tokens)}
        tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="token0")).save(str(folder / "tokenizer.json"))
    return folder


def recorded(checkpoint: Checkpoint) -> tuple[Checkpoint, list[tuple[str, int, int]]]:
    """The same checkpoint, and the ranges that are read of it: file, begin, end."""
    ranges: list[tuple[str, int, int]] = []

    def fill(file: str, begin: int, buffer: memoryview) -> None:
        ranges.append((file, begin, begin + len(buffer)))
        checkpoint.fill(file, begin, buffer)

    return replace(checkpoint, fill=fill), ranges
