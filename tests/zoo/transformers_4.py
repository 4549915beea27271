"""A saved checkpoint as transformers 4 would have saved it: by torch.save, and a tied head under its own name too."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

INDEX = "model.safetensors.index.json"


def save_as_transformers_4(saved: Path, model: PreTrainedModel, to: Path) -> None:
    """Write the tensors of ``saved``, under the names they have there, to ``to`` as ``pytorch_model*.bin``.

    Tensors that are tied share one storage there. Those that ``saved`` has under another name than the model are not
    repeated.
    """
    to.mkdir()
    (to / "config.json").write_bytes((saved / "config.json").read_bytes())
    weight_map: dict[str, str] = {}
    for file in saved.glob("*.safetensors"):
        tensors = load_file(file)
        for name, same_as in (model.all_tied_weights_keys or {}).items():
            if same_as in tensors:
                tensors.setdefault(name, tensors[same_as])
        shard = f"pytorch_{file.stem}.bin"
        torch.save(tensors, to / shard)
        weight_map |= dict.fromkeys(tensors, shard)
    if (saved / INDEX).exists():
        index = {"metadata": {}, "weight_map": weight_map}
        (to / "pytorch_model.bin.index.json").write_text(json.dumps(index))
