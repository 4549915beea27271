"""Which tensor of a checkpoint is the unembedding matrix W, and why. Reads config.json and headers, never weights.

The order of evidence: the tensor that was asked for; the table of names; the model class. The tensors that are there
are believed over what config.json says of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from job.checkpoints.architecture import INSIDE_A_LAYER, CannotTell, ask_model_class, is_generative, is_tied_by_default
from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.gguf import Vocabulary, find_gguf_head
from job.checkpoints.names import bias_of, embeddings_among, heads_among, quantised_heads_among, scales_of
from job.checkpoints.weights import Weights, open_weights, parse_json_object
from job.errors import NoUnembedding, UnsupportedCheckpoint

CONFIG = "config.json"

LONGEST_CONFIG = 10_000_000
"""Bytes. Most have a few thousand; label names and lists of quantised modules make some a hundred times as long."""

DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
"""The dtypes in which a stored row is the row, with no scale beside it."""

CHANGES_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier_scale",
    "dim_model_base",
)
"""Settings that scale the hidden state before the product with W, or the logits: Gemma, Cohere, Granite, MiniCPM."""

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
"""Where a composite config keeps what concerns the language model."""

GIVE_IT = "give the tensor's name with the model"


@dataclass(frozen=True)
class Unembedding:
    """The tensor that is W."""

    name: str
    location: TensorLocation
    reason: str
    """One sentence for people: what was seen, and why it is this tensor."""
    tied: bool
    """Whether an embedding is the unembedding too, with no head stored."""
    notes: tuple[str, ...] = ()
    """What else was seen that a reader of the results may want to know; none of it changes W."""
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    """The tokens that the weight file itself names, as GGUF files do."""


def find_unembedding(checkpoint: Checkpoint, tensor: str | None, file: str | None = None) -> Unembedding:
    """Decide which tensor is W: ``tensor`` where it is given, else what the stored names or the model class say.

    ``file``: the weight file to look in, where it is given.

    Raises:
        NoUnembedding: there is none, or the evidence does not single one out.
        UnsupportedCheckpoint: it is quantised, or its weights are in a format that cannot be read.
        CorruptCheckpoint: config.json, the index or a header is not sound.
    """
    if head := find_gguf_head(checkpoint, tensor, file):
        return Unembedding(head.name, head.location, head.reason, head.tied, head.notes, head.vocabulary)
    weights = open_weights(checkpoint, file)
    config = _read_config(checkpoint)
    if tensor is not None:
        return _given(weights, config, tensor)
    heads = [name for name in heads_among(weights.names) if weights.find(name)]
    if len(heads) == 1:
        reason = f"{heads[0]} is stored, and by its name it is the output head"
        return _checked(weights, config, heads[0], reason, tied=False)
    if heads:
        return _as_the_class_says(weights, config, heads)
    _refuse_quantised_head(weights)
    embeddings = [name for name in embeddings_among(weights.names) if weights.find(name)]
    if len(embeddings) == 1 and is_generative(config) and _says_tied(config):
        reason = f"no output head is stored and {CONFIG} ties it to the embedding, which is {embeddings[0]}"
        return _checked(weights, config, embeddings[0], reason, tied=True)
    return _as_the_class_says(weights, config, embeddings)


def _given(weights: Weights, config: Mapping[str, object], tensor: str) -> Unembedding:
    if weights.find(tensor) is None:
        few = [name for name in weights.names if not INSIDE_A_LAYER.search(name)]
        similar = get_close_matches(tensor, few, n=3) or heads_among(few)
        raise NoUnembedding(
            f"{weights.checkpoint.source}: has no tensor {tensor!r:.200}, which was asked for;"
            f" {'give one it has, such as ' + _listed(similar) if similar else 'see its files for the names it has'}"
        )
    return _checked(weights, config, tensor, f"{tensor} was asked for", tied=tensor in embeddings_among(weights.names))


def _as_the_class_says(weights: Weights, config: Mapping[str, object], candidates: list[str]) -> Unembedding:
    source = weights.checkpoint.source
    try:
        answer = ask_model_class(config, weights.names)
    except CannotTell as why:
        return _without_the_class(weights, config, candidates, why)
    if answer.parameter is None:
        raise NoUnembedding(
            f"{source}: {answer.class_name} has no output embedding; survey a language model, or {GIVE_IT}"
        )
    stored_heads = [name for name in answer.stored_head if weights.find(name)]
    stored_embeddings = [name for name in answer.stored_embeddings if weights.find(name)]
    if len(stored_heads) > 1:
        raise NoUnembedding(
            f"{source}: {_listed(stored_heads)} are all stored for {answer.parameter} of {answer.class_name}; {GIVE_IT}"
        )
    if stored_heads:
        reason = f"{answer.class_name} takes its logits from {answer.parameter}, stored as {stored_heads[0]}"
        return _checked(weights, config, stored_heads[0], reason, tied=answer.is_tied and not stored_embeddings)
    if stored_embeddings:
        reason = f"{answer.class_name} ties {answer.parameter} to its embedding, stored as {stored_embeddings[0]}"
        return _checked(weights, config, stored_embeddings[0], reason, tied=True)
    untied = "" if answer.is_tied else " and not tied to the embedding"
    raise NoUnembedding(
        f"{source}: {answer.class_name} takes its logits from {answer.parameter}, which is not stored{untied};"
        f" an embedding or reward model has no unembedding, otherwise {GIVE_IT}"
    )


def _without_the_class(
    weights: Weights, config: Mapping[str, object], candidates: list[str], why: CannotTell
) -> Unembedding:
    """The one candidate, where it is an embedding and the config class alone says that it is tied."""
    if len(candidates) == 1 and is_generative(config) and _is_tied_by_default(config):
        reason = f"no output head is stored and the config class ties it to the embedding, which is {candidates[0]}"
        found = _checked(weights, config, candidates[0], reason, tied=True)
        return replace(found, notes=(*found.notes, f"the model class could not be asked: {why}"))
    seen = f"{_listed(candidates)} could be it" if candidates else "no output head is stored under a known name"
    raise NoUnembedding(
        f"{weights.checkpoint.source}: {seen}, and the model class cannot tell: {why}; {GIVE_IT}"
    ) from why


def _refuse_quantised_head(weights: Weights) -> None:
    if quantised := quantised_heads_among(weights.names):
        raise UnsupportedCheckpoint(
            f"{weights.checkpoint.source}: the output head is stored quantised, as {_listed(quantised)},"
            f" one of {', '.join(sorted(DTYPES))} was expected; survey the model it was quantised from"
        )


def _checked(weights: Weights, config: Mapping[str, object], name: str, reason: str, *, tied: bool) -> Unembedding:
    location = weights.find(name)
    assert location is not None, name  # noqa: S101 - every caller has seen it
    where = f"{weights.checkpoint.source}: {name} in {location.file}"
    scales = scales_of(name, weights.names)
    if location.dtype not in DTYPES:
        beside = f" beside {_listed(scales)}" if scales else ""
        raise UnsupportedCheckpoint(
            f"{where}: is stored as {location.dtype}{beside}, one of {', '.join(sorted(DTYPES))} was expected;"
            " survey the model it was quantised from"
        )
    if len(location.shape) != 2 or 0 in location.shape:
        raise NoUnembedding(f"{where}: has the shape {list(location.shape)}, a matrix was expected; {GIVE_IT}")
    return Unembedding(name, location, reason, tied, tuple(_notes(weights, config, name, scales)))


def _notes(weights: Weights, config: Mapping[str, object], name: str, scales: list[str]) -> Iterator[str]:
    if scales:
        yield f"{_listed(scales)} beside {name} may scale it; what is measured are the stored values"
    if bias_of(name) in weights.names:
        yield f"{bias_of(name)} is added to the logits; it is no part of W"
    for settings in _text_settings(config):
        for key in CHANGES_LOGITS:
            value = settings.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{CONFIG} sets {key} to {value}: it changes the logits, not W"


def _read_config(checkpoint: Checkpoint) -> dict[str, object]:
    if CONFIG not in checkpoint.files:
        return {}
    return parse_json_object(checkpoint.read(CONFIG, LONGEST_CONFIG), f"{checkpoint.source}: {CONFIG}")


def _text_settings(config: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield config
    for part in TEXT_PARTS:
        inner = config.get(part)
        if isinstance(inner, dict):
            yield from _text_settings(inner)


def _is_tied_by_default(config: Mapping[str, object]) -> bool:
    try:
        return is_tied_by_default(config)
    except CannotTell:
        return False


def _says_tied(config: Mapping[str, object]) -> bool:
    """Whether config.json says so outright; where it is silent or contradicts itself, the class has to be asked."""
    return {settings.get("tie_word_embeddings") for settings in _text_settings(config)} - {None} == {True}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
