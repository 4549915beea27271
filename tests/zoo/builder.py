"""Every architecture of the installed transformers, built small, with rows planted that are bit for bit identical.

Knows how to shrink any config; what does not follow from a rule stands in ``overrides.py``, a line each.
"""

import re
from collections.abc import Mapping

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from tests.zoo.overrides import OVERRIDES

N_ROWS = 128

PLANTED = ((3, 17, 40, 41), (7, 8, 9), (5, 60))
"""Token ids whose rows are made identical: holes of four, three and two rows."""

TASKS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM")
"""The tables of ``modeling_auto`` whose classes may have an unembedding."""

SMALL = (
    # what a number's name contains: its largest value when small, or None to leave it alone
    (re.compile(r"rope|window|stride|kernel|patch|merge|theta|version|group|factor|expand|conv"), None),
    (re.compile(r"vocab|n_words|embeddings_size$"), N_ROWS),
    (re.compile(r"layers?$|depths?$|num_blocks|n_layer"), 2),
    (re.compile(r"per_tok|top_?k|moe_k"), 2),
    (re.compile(r"experts$"), 4),
    (re.compile(r"key_value_heads|kv_heads|num_kv|n_head_kv|num_global_kv"), 2),
    (re.compile(r"head_dim|head_size|kv_channels|d_kv|d_head|head_width"), 8),
    (re.compile(r"heads|n_head$"), 4),
)
LARGEST = 64
OTHERWISE = 32
TOKEN_ID = re.compile(r"(token|eos|bos|pad|sep|cls|mask|start|end|unk)(_token)?_(id|index|idx)s?$")
LAYERS = re.compile(r"layer|depth")
PER_LAYER = frozenset({"layer_types", "per_layer_config"})


def architectures(tasks: tuple[str, ...] = TASKS) -> list[str]:
    """The names of the model classes of some tasks, each once, in the order of transformers' tables."""
    names: dict[str, None] = {}
    for task in tasks:
        for entry in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").values():
            names |= dict.fromkeys([entry] if isinstance(entry, str) else entry)
    return list(names)


def build_small(architecture: str, *, tied: bool, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of some ten thousand random weights, with the ``PLANTED`` holes in its output embedding.

    ``tied`` sets tie_word_embeddings; some classes tie, or do not, whatever it says.
    """
    torch.manual_seed(0)
    model_class = getattr(transformers, architecture)
    model: PreTrainedModel = model_class(small_config(architecture, tied=tied)).to(dtype)
    weight = output_embedding(model)
    if weight is not None:
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape))
            for rows in PLANTED:
                weight[list(rows)] = weight[rows[0]].clone()
    return model


def output_embedding(model: PreTrainedModel) -> torch.nn.Parameter | None:
    """The oracle: what the model itself calls its output embedding, (n_rows, hidden_size)."""
    weight = getattr(model.get_output_embeddings(), "weight", None)  # type: ignore[no-untyped-call]  # as transformers has it
    return weight if isinstance(weight, torch.nn.Parameter) else None


def is_an_embedding(weight: torch.nn.Parameter, model: PreTrainedModel) -> bool:
    """Whether the model looks tokens up in ``weight`` as well."""
    return any(
        "Embedding" in type(module).__name__ and module._parameters.get("weight") is weight
        for module in model.modules()
    )


def small_config(architecture: str, *, tied: bool) -> PretrainedConfig:
    config_class: type[PretrainedConfig] = getattr(transformers, architecture).config_class
    settings = _small(config_class().to_dict())
    for path, value in OVERRIDES.get(architecture, {}).items():
        *parents, key = path.split(".")
        target = settings
        for parent in parents:
            inner = target[parent]
            assert isinstance(inner, dict)
            target = inner
        target[key] = value
    config = config_class.from_dict(settings)
    for part in (config, config.get_text_config()):
        part.tie_word_embeddings = tied
    return config


def _small(settings: Mapping[str, object]) -> dict[str, object]:
    """The same settings with small numbers, and without lists that have one entry a layer: the class derives those."""
    n_layers = {value for key, value in settings.items() if isinstance(value, int) and LAYERS.search(str(key))}
    return {
        key: _small_value(key, value)
        for key, value in settings.items()
        if isinstance(key, str)
        and key not in PER_LAYER
        and not (isinstance(value, list | tuple) and len(value) > 2 and len(value) in n_layers)
    }


def _small_value(key: str, value: object) -> object:
    if isinstance(value, dict):
        return _small(value)
    if isinstance(value, list | tuple):
        return [_small_value(key, item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if TOKEN_ID.search(key):
        return value % (N_ROWS - 8) if value >= 0 else value
    for pattern, largest in SMALL:
        if pattern.search(key):
            return value if largest is None else min(value, largest)
    return value if value <= LARGEST else OTHERWISE
