"""Builds a model class without weights, and asks it which parameter is the output embedding and which stored tensors
load into it. Runs in a process of its own, with no code but transformers'. Reads no files.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MAX_REGISTRATIONS = 40_000
"""How many modules and parameters a model may have: two seconds of work. NLLB-MoE, the largest of 325 classes, has
7,868."""

MAX_NUMBER = 2**20
"""Larger numbers in a config are replaced by this one: classes loop over some, and names and ties do not depend on
them."""

IGNORED_SETTINGS = frozenset(
    {
        "auto_map",  # names code in the repository
        "trust_remote_code",
        "attn_implementation",  # may name a kernel to download; so may the next three
        "_attn_implementation",
        "experts_implementation",
        "_experts_implementation",
        "use_pretrained_backbone",  # downloads a backbone
        "quantization_config",  # changes how weights are stored, not which there are
        "torch_dtype",
        "dtype",
    }
)
"""Settings that the class is built without."""

INNER_HEAD = re.compile(r"(^|\.)lm_head\.weight$")
"""The head of a language model inside a class without output embedding, which the class ties (ShieldGemma 2)."""


class ModelClassUnusable(Exception):
    """The model class cannot answer. The message says why, as the end of a sentence."""


class Question(TypedDict):
    """What a model class is asked about."""

    config: dict[str, object]
    """The content of config.json."""
    architectures: list[str]
    """The classes that config.json names."""
    is_generative: bool
    """Whether one of them has a language model's head, judged by its name."""
    stored: list[str]
    """The names of tensors in the checkpoint, in their order, without those in numbered layers."""


class Answer(TypedDict):
    """The fields of an ``OutputEmbedding``, or whether the config ties it, or why the class cannot answer."""

    unusable: NotRequired[str]
    is_tied_by_default: NotRequired[bool]
    class_name: NotRequired[str]
    parameter: NotRequired[str | None]
    is_tied: NotRequired[bool]
    stored_head: NotRequired[list[str]]
    stored_embeddings: NotRequired[list[str]]
    loaded: NotRequired[list[str]]


def describe_output_embedding(question: Question) -> Answer:
    """Build the architecture on the meta device and ask it for its output embedding."""
    return _unless_unusable(_describe, question)


def describe_default_tie(question: Question) -> Answer:
    """Whether the config class, with these settings, ties the output head to the embedding."""
    return _unless_unusable(_default_tie, question)


def _unless_unusable(describe: Callable[[Question], Answer], question: Question) -> Answer:
    try:
        return describe(question)
    except ModelClassUnusable as why:
        return {"unusable": str(why)}


def _describe(question: Question) -> Answer:
    from torch.nn import Embedding

    model = _build(question)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers has no types here
    weight = getattr(head, "weight", None)
    own = next((f"{name}.weight" for name, module in model.named_modules() if module is head), None)
    if head is None and len(inner := [name for name in model.all_tied_weights_keys if INNER_HEAD.search(name)]) == 1:
        # The class answers for another task with the logits of a language model inside it.
        (own,) = inner
        weight = dict(model.named_parameters(remove_duplicate=False)).get(own)
    if weight is None or own is None:
        return {"class_name": type(model).__name__, "parameter": None, "is_tied": False}
    shared = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is weight]
    # The class ties all of these to one source. If several copies are stored, transformers loads the source.
    source = model.all_tied_weights_keys.get(own)
    embeddings = sorted((name for name in shared if name != own), key=lambda name: name != source)
    loads = _stored_by_parameter(model, question["stored"])
    return {
        "class_name": type(model).__name__,
        "parameter": own,
        "is_tied": bool(embeddings) or isinstance(head, Embedding),
        "stored_head": loads[own],
        "stored_embeddings": [name for embedding in embeddings for name in loads[embedding]],
        "loaded": [name for names in loads.values() for name in names],
    }


def _default_tie(question: Question) -> Answer:
    model_class = _model_class(question)
    try:
        built = _config_of(model_class, question["config"])
        parts = (built, built.get_text_config(decoder=True))
        return {"is_tied_by_default": all(part.tie_word_embeddings is True for part in parts)}
    except _build_errors() as error:
        raise ModelClassUnusable(f"config.json is not valid for {model_class.__name__} ({_one_line(error)})") from error


def _build_errors() -> tuple[type[Exception], ...]:
    """A config can make a class raise any of these while it is built. Only transformers' code runs there, so no error
    of this program is hidden. Whoever limits this process knows what a MemoryError means."""
    from huggingface_hub.errors import StrictDataclassError  # noqa: TID251 - what transformers' config classes raise

    return (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
        StrictDataclassError, TypeError, ValueError,
    )  # fmt: skip


def _build(question: Question) -> "PreTrainedModel":
    import accelerate  # type: ignore[import-untyped]  # it ships no types

    model_class = _model_class(question)
    try:
        with _limited_size(), accelerate.init_empty_weights(include_buffers=True):
            return model_class(_config_of(model_class, question["config"]))
    except _build_errors() as error:
        raise ModelClassUnusable(
            f"{model_class.__name__} cannot be built from config.json ({_one_line(error)})"
        ) from error


def _model_class(question: Question) -> "type[PreTrainedModel]":
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names, model_type = list(question["architectures"]), question["config"].get("model_type")
    if question["is_generative"] and isinstance(model_type, str):
        # Only the repository's code knows the class, but transformers knows the model type (MPT, early Falcon).
        known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
        names += [known] if isinstance(known, str) else []
    for name in names:
        try:
            found = getattr(transformers, name, None)
        except (ImportError, RuntimeError) as error:
            raise ModelClassUnusable(f"transformers cannot import {name} ({_one_line(error)})") from error
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if not question["architectures"]:
        raise ModelClassUnusable("config.json names no architecture")
    unknown = ", ".join(question["architectures"])
    raise ModelClassUnusable(f"transformers {transformers.__version__} does not know {unknown}")


def _config_of(model_class: "type[PreTrainedModel]", config: Mapping[str, object]) -> "PretrainedConfig":
    from transformers import PretrainedConfig

    config_class = model_class.config_class or PretrainedConfig
    return config_class.from_dict(_own_part(config_class, _safe_settings(config)))


def _own_part(config_class: type, config: dict[str, object]) -> dict[str, object]:
    """The part of a composite config that a class for the text model uses, chosen as transformers chooses it."""
    part = config.get(getattr(config_class, "base_config_key", ""))
    if isinstance(part, dict):
        return part
    own_type = getattr(config_class, "model_type", None)
    if config.get("model_type") != own_type:
        for value in config.values():
            if isinstance(value, dict) and value.get("model_type") == own_type:
                return value
    return config


def _safe_settings(config: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _safe_value(value)
        for key, value in config.items()
        if key not in IGNORED_SETTINGS and not (key == "model_type" and not isinstance(value, str))
    }


def _safe_value(value: object) -> object:
    if isinstance(value, dict):
        special = value.get("__float__")  # transformers writes infinities and NaN this way
        return float(special) if special in ("Infinity", "-Infinity", "NaN") else _safe_settings(value)
    if isinstance(value, list):
        return [_safe_value(item) for item in value]
    if isinstance(value, int) and value > MAX_NUMBER:
        return MAX_NUMBER
    return value


@contextmanager
def _limited_size() -> Iterator[None]:
    """Stop building a model when it has more modules and parameters than ``MAX_REGISTRATIONS``."""
    from torch.nn.modules import module

    registered = 0

    def count(_owner: object, name: str, _registered: object) -> None:
        nonlocal registered
        registered += 1
        if registered > MAX_REGISTRATIONS:
            raise ModelClassUnusable(
                f"config.json asks for more than {MAX_REGISTRATIONS:,} modules and parameters (at {name})"
            )

    hooks = (
        module.register_module_module_registration_hook(count),
        module.register_module_parameter_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stored_by_parameter(model: "PreTrainedModel", stored: Sequence[str]) -> Mapping[str, list[str]]:
    """The stored tensors that transformers would load unchanged into each parameter, renamed as its loader does it
    (``transformers.core_model_loading.convert_and_load_state_dict_in_model``).
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    conversions = get_model_conversion_mapping(model)
    renamings = [step for step in conversions if isinstance(step, WeightRenaming)]
    converters = [step for step in conversions if isinstance(step, WeightConverter)]
    parameters, prefix = model.state_dict(), model.base_model_prefix
    loads: defaultdict[str, list[str]] = defaultdict(list)
    for name in stored:
        parameter, converter = rename_source_key(name, renamings, converters, prefix, parameters)
        if parameter not in parameters and name in parameters:
            parameter, converter = rename_source_key(name, [], [], prefix, parameters)
        if parameter in parameters and converter is None:
            loads[parameter].append(name)
    return loads


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
