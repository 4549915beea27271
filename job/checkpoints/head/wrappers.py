"""Heads that something wraps: trained copies, adapters that were not merged, parametrisations. They forbid to take the
embedding for W in their place. Reads the headers of what is stored below a head."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.architecture import ask_model_class
from job.checkpoints.head.config import VOCAB_SIZE_NAMES, stated_number
from job.checkpoints.head.model_class import ModelClassUnusable
from job.checkpoints.head.names import is_head, may_be_unlisted_head, parts_of_heads, trained_weight
from job.checkpoints.head.quantisation import weight_of
from job.checkpoints.head.suggestions import TENSOR_ADVICE
from job.checkpoints.head.tie import NamedTensor, compare
from job.checkpoints.head.weights import Weights
from job.errors import CorruptCheckpoint, NoUnembedding, join_limited

UNDERSTOOD = re.compile(r"\.(bias|\w*scales?|\w*scale_inv|\w*zeros?|\w*zero_points?|\w*amax|inv_freq)$")
"""The end of the name of a tensor that lies below a head and is no head: its bias, scales of quantisation."""

UNTRAINED = "original_module"
"""What PEFT calls the module of which it stores a trained copy."""


@dataclass(frozen=True)
class TrainedHead:
    """A head that was trained beside the model's own, by PEFT's ``modules_to_save``."""

    head: NamedTensor
    reason: str
    warning: str


def trained_head(weights: Weights, config: Mapping[str, object]) -> TrainedHead | None:
    """The trained copy of the output head, if exactly one is stored and nothing else that is not understood.

    Raises:
        NoUnembedding: there are several, or an adapter lies beside the one.
    """
    below = parts_of_heads(weights.names)
    copies = [
        (NamedTensor(name, location), *found)
        for name in below
        if (found := trained_weight(name)) and is_head(found[0]) and (location := weights.find(name))
    ]
    if not copies:
        return None
    copy, weight, adapter = copies[0]
    untrained = f"{weight.removesuffix('weight')}{UNTRAINED}"
    rest = [name for name in below if name != copy.name and not name.startswith(f"{untrained}.")]
    is_whole = len(copy.location.shape) == 2 and _is_long_enough(copy.location, config)
    unread = _not_understood(weights, rest, copy) if is_whole else {}
    if unread or not is_whole:
        raise refuse_wrapped(weights, [copy.name, *unread], "an output head that is wrapped")
    return TrainedHead(
        copy,
        f"{copy.name} is stored, which PEFT uses in place of {weight}",
        f"{copy.name} is the head that was trained with the adapter {adapter!r}; PEFT's modules_to_save wraps it. The"
        f" head before that training, {untrained}, is not surveyed. transformers without PEFT loads neither",
    )


def refuse_unread_heads(
    weights: Weights, config: Mapping[str, object], embedding: NamedTensor, loaded: Collection[str] | None
) -> None:
    """Make sure that nothing is stored below an output head which could take the place of its tied embedding.

    ``loaded``: the tensors that the model class loads; None if it was not asked.

    Raises:
        NoUnembedding: something is.
    """
    unread: Collection[str] = _not_understood(weights, parts_of_heads(weights.names, embedding.name), embedding)
    if unread and loaded is None:
        loaded = _loaded_by_class(weights, config)
    unread = [name for name in unread if name != embedding.name and name not in (loaded or ())]
    if unread:
        raise refuse_wrapped(weights, unread, "parts of an output head that are not understood")


def rivals_of_embedding(weights: Weights, embedding: NamedTensor, loaded: Collection[str]) -> list[str]:
    """The matrices of the embedding's shape that may be the output head under a name of their own: those that are no
    copy of the embedding, and that the model class does not load.
    """
    shape = embedding.location.shape
    if shape[0] == shape[1]:
        return []
    rivals = []
    for name in sorted(name for name in weights.names if may_be_unlisted_head(name)):
        if name == embedding.name or name in loaded:
            continue
        try:
            location = weights.find(name)
        except CorruptCheckpoint:  # several shards hold slices of it, and the embedding is whole
            continue
        if location is None or location.shape not in (shape, shape[::-1]):
            continue
        if location.shape == shape and {location.dtype, embedding.location.dtype} <= FLOAT_DTYPES:
            found = compare(weights.checkpoint, embedding, NamedTensor(name, location), lambda: None)
            if found.tie == "tied" or found.copy is not None:
                continue
        rivals.append(name)
    return rivals


def parts_beside(weights: Weights, tensor: NamedTensor) -> dict[str, TensorLocation]:
    """The tensors below the same module as W that may change what the module does."""
    module = tensor.name.removesuffix("weight")
    if not module.endswith("."):
        return {}
    beside = (name for name in weights.names if name.startswith(module) and name != tensor.name)
    return _not_understood(weights, sorted(beside), tensor)


def _not_understood(weights: Weights, names: Iterable[str], matrix: NamedTensor) -> dict[str, TensorLocation]:
    """Those of these tensors that are more than a bias, a scale, or the square layer of a masked language model's head.

    ``matrix``: W, or what would be W without them.
    """
    n_rows, width = matrix.location.shape
    found = {}
    for name in names:
        weight = weight_of(name) or UNDERSTOOD.sub(".weight", name)
        if name != weight and (weight == matrix.name or is_head(weight)):
            continue
        location = weights.find(name)
        if location is None:
            continue
        is_square_layer = set(location.shape) == {width} and width != n_rows
        is_large = len(location.shape) > 1 or prod(location.shape) > max(n_rows, width)
        if is_large and not is_square_layer:
            found[name] = location
    return found


def _is_long_enough(location: TensorLocation, config: Mapping[str, object]) -> bool:
    stated = stated_number(config, VOCAB_SIZE_NAMES)
    return stated is None or 2 * max(location.shape) >= stated[1]


def _loaded_by_class(weights: Weights, config: Mapping[str, object]) -> Collection[str]:
    try:
        return ask_model_class(config, weights.names).loaded
    except ModelClassUnusable:
        return ()


def refuse_wrapped(weights: Weights, names: Iterable[str], what: str) -> NoUnembedding:
    """The refusal of a checkpoint that stores these tensors, which are ``what``."""
    found = sorted(names)
    return NoUnembedding(
        f"{weights.checkpoint.source}: found {join_limited(found)}, {what}; expected one matrix that is the whole head,"
        f" or none; merge what wraps it and save again, or {TENSOR_ADVICE}, such as `tensor: {found[0]}`"
    )
