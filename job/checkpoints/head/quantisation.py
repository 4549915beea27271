"""How quantised weights are recognised: by their dtype and by what is stored beside them."""

import re
from collections.abc import Collection, Mapping

from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.names import HEADS, is_head, parts_of_heads
from job.checkpoints.head.weights import Weights
from job.errors import UnsupportedCheckpoint, join_limited

COMPANION = re.compile(
    r"\.(qweight|qzeros|scales|biases|g_idx|SCB|weight_\w+|weight\.[\w.]+|q_\w+|qdata|W_q|trellis|suh|svh|mcg|mul1|codes"
    r"|codebooks|Qidxs|SU|SV)$"
)
"""The end of the name of a tensor that quantised layers store beside or instead of their weight."""

SCHEMES = (
    # scheme, start of the dtype of its weight, end of the name of a tensor beside or instead of it
    ("EXL3", "", r"\.trellis$"),
    ("EXL2", "", r"\.q_weight$"),
    ("GPTQ", "", r"\.g_idx$"),
    ("GPTQ or AWQ", "", r"\.qweight$"),
    ("HQQ", "", r"\.W_q$"),
    ("AQLM", "", r"\.codebooks$"),
    ("QuIP#", "", r"\.Qidxs$"),
    ("torchao", "", r"\.(weight_)?qdata$"),
    ("Quanto", "", r"\.weight\._data$"),
    ("bitsandbytes, 4 bits", "", r"\.weight\.(absmax|quant_state\.\w+|quant_map)$"),
    ("bitsandbytes, 8 bits", "", r"\.SCB$"),
    ("NVFP4", "", r"\.weight_(scale_2|global_scale)$"),
    ("MXFP4", "", r"\.weight_blocks$"),
    ("compressed-tensors", "", r"\.weight_packed$"),
    ("MLX", "U32", r"\.scales$"),
    ("MXFP4", "U8", r"\.weight_scale$"),
    ("FP8", "F8_", ""),
    ("integers of 8 bits", "I8", ""),
)


def refuse_quantised_head(weights: Weights, config: Mapping[str, object]) -> None:
    """Make sure that no output head is stored only in a quantised form, under other names than its own.

    Raises:
        UnsupportedCheckpoint: one is.
    """
    parts = parts_of_heads(weights.names)
    heads = {name for part in parts if (name := weight_of(part)) and is_head(name)}
    heads |= {name for other in weights.names if (name := weight_of(other)) in HEADS and name}
    if heads:
        raise UnsupportedCheckpoint(
            f"{weights.checkpoint.source}: found the output head stored quantised, as"
            f" {describe_quantised(weights, config, min(heads), None)}"
        )


def describe_quantised(weights: Weights, config: Mapping[str, object], name: str, dtype: str | None) -> str:
    """The end of a message that refuses the weight ``name``: what was found, what was expected, what to do.

    ``dtype``: None if the weight itself is not stored.
    """
    companions = companions_of(name, weights.names)
    dtypes = [f"{other} ({found.dtype})" for other in companions if (found := weights.find(other))]
    scheme, method = scheme_of(dtype, companions), stated_method(config)
    said = [f"recognised as {scheme}"] if scheme else []
    said += [f"{CONFIG} names {method}"] if method else []
    how = f" ({', '.join(said)})" if said else ""
    return (
        f"{' beside '.join(filter(None, [dtype, join_limited(dtypes)]))}{how},"
        f" expected one of {', '.join(sorted(FLOAT_DTYPES))}; survey the model it was quantised from"
    )


def scheme_of(dtype: str | None, companions: Collection[str]) -> str | None:
    """The scheme that quantised a weight of this dtype, with these tensors beside it; None if none is recognised.

    ``dtype``: None if the weight itself is not stored.
    """
    for scheme, dtype_start, name_end in SCHEMES:
        has_companion = not name_end or any(re.search(name_end, name) for name in companions)
        if has_companion and (dtype or "").startswith(dtype_start):
            return scheme
    return None


def companions_of(name: str, names: Collection[str]) -> list[str]:
    """The tensors which show that the weight ``name`` is quantised, whether or not it is stored itself."""
    return sorted(other for other in names if weight_of(other) == name)


def weight_of(name: str) -> str | None:
    """The weight that a tensor such as ``lm_head.qweight`` belongs to; None if it is not such a tensor."""
    found = COMPANION.search(name)
    return f"{name[: found.start()]}.weight" if found else None


def stated_method(config: Mapping[str, object]) -> str | None:
    """The quantisation method that config.json names; None if it mentions no quantisation."""
    for key in ("quantization_config", "quantization", "compression_config"):
        settings = config.get(key)
        if isinstance(settings, dict):
            method = settings.get("quant_method") or settings.get("quant_algo")
            return f"{method!r:.40}" if isinstance(method, str) else "an unnamed method"
    return None
