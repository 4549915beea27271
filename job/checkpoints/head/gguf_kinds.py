"""What a GGUF file is, by its header: a whole language model, or a part, a drafter, an adapter, a projector. Reads
nothing; knows no file names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.gguf_file import GgufFile
from job.checkpoints.head.row_meaning import is_draft_map

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
"""ggml's names for them. If a model has no ``output.weight``, llama.cpp uses the embedding in its place."""

ARCHITECTURES_WITHOUT_HEAD = frozenset({
    "clip", "t5encoder", "wavtokenizer-dec",
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "gemma-embedding", "llama-embed",
})  # fmt: skip
"""Architectures, by ``general.architecture``, that embed texts, images or sounds. They give no logits over tokens,
whatever their tensors are called."""

_DRAFTER = re.compile(r"eagle|medusa|dflash|(^|[-_])(draft|mtp|assistant)", re.IGNORECASE)
"""Part of the name of an architecture that drafts for another model."""
_LAYER = re.compile(r"(?:^|\.)blk\.(?P<number>\d+)\.(?P<rest>.+)")


@dataclass(frozen=True)
class Size:
    """What a model shares with its other conversions, and with no drafter of another size."""

    n_rows: int
    hidden_size: int
    n_layers: int
    """Without the layers that predict further tokens; conversions leave those out or not."""

    def __str__(self) -> str:
        return f"{self.n_layers:,} layers and a head of {self.n_rows:,} × {self.hidden_size:,}"


def why_not_the_model(model: GgufFile) -> str | None:
    """What a GGUF file is instead of a whole language model; None if it is one as far as its own header tells."""
    kind = model.metadata.get("general.type", "model")
    tensors, architecture = model.tensors, model.architecture
    if kind != "model":
        return f"a file of type {kind!r:.80}"
    if "adapter.type" in model.metadata or any(name.endswith((".lora_a", ".lora_b")) for name in tensors):
        return "an adapter"
    if architecture in ARCHITECTURES_WITHOUT_HEAD:
        return f"of the architecture {architecture}, which has no output head"
    if _DRAFTER.search(architecture):
        return f"a drafter, of the architecture {architecture!r:.80}"
    if maps := draft_maps(model):
        return f"a drafter: {min(maps)} maps its vocabulary to the model's"
    if HEAD not in tensors and EMBEDDING not in tensors:
        return f"without {HEAD} and {EMBEDDING}"
    if HEAD not in tensors and (labels := sorted(name for name in tensors if name.startswith("cls."))):
        return f"a classifier: it holds {labels[0]} and no {HEAD}"
    return why_a_part(model)


def why_a_part(model: GgufFile) -> str | None:
    """What a file is that lacks the model's own layers, such as one with the layers that predict further tokens."""
    layers, own = _layers(model.tensors), _own_layers(model.tensors)
    if layers and not own:
        return "a part of a model: all its layers predict further tokens"
    if layers and 0 not in layers:
        return f"a part of a model: it holds layer {min(layers):,} and no layer 0"
    return None


def draft_maps(model: GgufFile) -> dict[str, TensorLocation]:
    """The tensors that map a shortened draft vocabulary, by their names without the ending of some conversions."""
    return {
        short: location
        for name, location in model.tensors.items()
        if is_draft_map(short := name.removesuffix(".weight"))
    }


def size_of(model: GgufFile) -> Size:
    shape = (model.tensors.get(HEAD) or model.tensors[EMBEDDING]).shape
    n_rows, hidden_size = shape if len(shape) == 2 else (0, 0)
    return Size(n_rows, hidden_size, len(_own_layers(model.tensors)))


def n_layers(model: GgufFile) -> int:
    """The number of layers that a file holds, those that predict further tokens among them."""
    return len(_layers(model.tensors))


def n_weights(model: GgufFile) -> int:
    return sum(prod(location.shape) for location in model.tensors.values())


def _layers(tensors: Mapping[str, TensorLocation]) -> set[int]:
    return {int(found["number"]) for name in tensors if (found := _LAYER.search(name))}


def _own_layers(tensors: Mapping[str, TensorLocation]) -> set[int]:
    """The numbers of the layers that the model needs for the next token."""
    found = [match for name in tensors if (match := _LAYER.search(name))]
    return {int(match["number"]) for match in found} - {
        int(match["number"]) for match in found if match["rest"].startswith("nextn.")
    }
