"""What a reader of the results should know of W, beyond which tensor it is. None of it changes W."""

from collections.abc import Iterator, Mapping

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.gguf_file import GgufFile
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.architecture import class_without_logits, is_generative
from job.checkpoints.head.config import (
    EMBEDDING_SIZE_NAMES,
    HIDDEN_SIZE_NAMES,
    VOCAB_SIZE_NAMES,
    stated_number,
    stated_numbers,
    text_settings,
)
from job.checkpoints.head.names import bias_of, heads_over_labels_among
from job.checkpoints.head.quantisation import companions_of
from job.checkpoints.head.tie import TieState
from job.checkpoints.head.weights import Weights
from job.errors import join_limited

CHANGES_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier_scale",
    "lm_head_multiplier",
    "dim_model_base",
)
"""Settings that scale the logits, or the hidden state before its product with W: Gemma, Cohere, Granite, Falcon-H1,
MiniCPM. GGUF files have the first two, with the architecture's name before them."""

NORMALISED_HEAD = ("baichuan", 125_696)
"""The model type whose head is normalised row by row before it is used, and its vocabulary; Baichuan 1 has 64,000."""


def warn_of_weights(
    weights: Weights, config: Mapping[str, object], name: str, location: TensorLocation, tie: TieState
) -> Iterator[str]:
    """Warnings about W, the tensor ``name`` of safetensors or ``torch.save`` files. Each is a sentence."""
    yield from _warn_of_weight_set(weights)
    yield from _warn_of_classifier(weights, config, name)
    if tie.tie == "config_says_tied_but_differ":
        yield f"{tie.evidence}: transformers 4 loads the embedding in place of the head, 5 keeps both"
    if scales := companions_of(name, weights.names):
        yield f"{join_limited(scales)} beside {name} may scale it; the survey measures the stored values"
    if bias_of(name) in weights.names:
        yield f"{bias_of(name)} is added to the logits; it is not part of W"
    yield from _warn_of_settings(config)
    yield from _warn_of_shape(location, config)


def warn_of_gguf(name: str, location: TensorLocation, model: GgufFile) -> Iterator[str]:
    """Warnings about W, the tensor ``name`` of a GGUF model. Each is a sentence."""
    if location.dtype not in FLOAT_DTYPES:
        row_nbytes = location.nbytes // location.shape[0]
        yield (
            f"W is quantised, as {location.dtype}: W.safetensors holds its rows as stored, {row_nbytes:,} bytes each,"
            " and black holes are rows whose bytes are identical; mu, gamma_centered and black_hole_centroids are"
            " computed from the numbers that the gguf package reads from them. Quantising merges rows that were nearly"
            " equal, so the black holes are exact for the matrix as shipped, and not those of the model before"
        )
    elif location.dtype == "F16":
        yield (
            "W is F16 in this GGUF file, whatever the model was released in: F16 holds fewer small numbers than BF16"
            " and F32, so the conversion may have merged rows"
        )
    for beside in (f"{name.removesuffix('weight')}scale", bias_of(name)):
        if beside in model.tensors:
            yield f"{beside} is stored beside {name}; it is not part of what is measured"
    for key in CHANGES_LOGITS:
        value = model.metadata.get(f"{model.architecture}.{key}")
        if value is not None:
            yield f"{model.architecture}.{key} is {value}: it changes the logits, not W"


def _warn_of_weight_set(weights: Weights) -> Iterator[str]:
    chosen = weights.chosen
    if chosen.others:
        yield f"{chosen.reason}; other weights are there and not read: {join_limited(chosen.others)}"
    elif not chosen.is_default:
        yield chosen.reason


def _warn_of_classifier(weights: Weights, config: Mapping[str, object], name: str) -> Iterator[str]:
    """Warn if the model is no language model, so that its head is one that it was made from."""
    over_labels = heads_over_labels_among(weights.names)
    if class_name := class_without_logits(config):
        yield f"{class_name} gives no logits over tokens: {name} is left over from the model that it was made from"
    elif over_labels and not is_generative(config):
        yield (
            f"{join_limited(over_labels)} is stored too, as in a classifier or a reward model, and {CONFIG} names no"
            f" class with a language model's head: {name} may be left over from the model that it was made from"
        )


def _warn_of_settings(config: Mapping[str, object]) -> Iterator[str]:
    for settings in text_settings(config):
        for key in CHANGES_LOGITS:
            value = settings.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{CONFIG} sets {key} to {value}: it changes the logits, not W"
    vocabulary = stated_number(config, ("vocab_size",))
    if vocabulary and (config.get("model_type"), vocabulary[1]) == NORMALISED_HEAD:
        yield "Baichuan 2 normalises the rows of its head before it uses them; W is as stored"


def _warn_of_shape(location: TensorLocation, config: Mapping[str, object]) -> Iterator[str]:
    """Warn if W has not as many rows as the config has tokens, or not as many columns as its hidden state."""
    rows, columns = location.shape
    stated_rows, stated_width = stated_number(config, VOCAB_SIZE_NAMES), stated_number(config, HIDDEN_SIZE_NAMES)
    if location.strides == (1, rows):
        yield f"W is stored as {columns:,} × {rows:,}, the vocabulary along its columns; it is published transposed"
    if stated_rows and stated_rows[1] != rows:
        kind = "padded" if rows > stated_rows[1] else "short"
        yield f"W has {rows:,} rows, {CONFIG} sets {stated_rows[0]} to {stated_rows[1]:,}: it is {kind}"
    if stated_width and stated_width[1] != columns:
        same = [name for name, number in stated_numbers(config, EMBEDDING_SIZE_NAMES).items() if number == columns]
        why = f", and {same[0]} to {columns:,}: a projection lies between them" if same else ""
        yield f"W has {columns:,} columns, {CONFIG} sets {stated_width[0]} to {stated_width[1]:,}{why}"
