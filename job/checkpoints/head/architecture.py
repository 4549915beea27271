"""What transformers' model class says: which parameter is the output embedding, and which stored tensors load into it.

The only module that builds model classes, without weights and with no code but transformers'. It reads no files.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError  # noqa: TID251 - what transformers' config classes raise

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

GENERATIVE = re.compile(r"ForCausalLM|LMHead|ForConditionalGeneration|ForImageTextToText|ForMaskedLM|ForPreTraining")
"""Part of the name of a class that has a language model's head."""

NOT_GENERATIVE = re.compile(r"For\w*Classification|ForQuestionAnswering|ForMultipleChoice|Reward|ValueModel|Regression")
"""Part of the name of a class that gives no logits over tokens. Most other names do not tell."""

INNER_HEAD = re.compile(r"(^|\.)lm_head\.weight$")
"""The head of a language model inside a class without output embedding, which the class ties (ShieldGemma 2)."""

INSIDE_A_LAYER = re.compile(r"\.\d+\.")
"""Part of the name of a tensor in a numbered layer. None of these is W, and a large checkpoint has 90,000 of them."""

# A config can make a class raise any of these while it is built. Only transformers' code runs there, so no error
# of this program is hidden.
BUILD_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError,
    StrictDataclassError, TypeError, ValueError,
)  # fmt: skip


_TRANSFORMERS_LOCK = Lock()
"""Held while transformers is used. Threads that import its modules at the same time find them half-initialised, and
building is pure computation, which a second thread would not make faster."""


class ModelClassUnusable(Exception):
    """The model class cannot answer. The message says why, as the end of a sentence."""


@dataclass(frozen=True)
class OutputEmbedding:
    """The model class's answer."""

    class_name: str
    parameter: str | None
    """The head's name in the model; None if the class has no output embedding."""
    is_tied: bool
    """Whether the head is the same parameter as an input embedding."""
    stored_head: tuple[str, ...]
    """Stored tensors that transformers would load into the head itself."""
    stored_embeddings: tuple[str, ...]
    """Stored tensors that transformers would load into the embeddings that the head is tied to."""
    loaded: frozenset[str] = frozenset()
    """Stored tensors outside numbered layers that transformers would load into any parameter."""


def is_generative(config: Mapping[str, object]) -> bool:
    """Whether the architecture in config.json has a language model's head, judged by its name."""
    return any(GENERATIVE.search(name) for name in _architectures(config))


def class_without_logits(config: Mapping[str, object]) -> str | None:
    """The class in config.json whose name says that it gives no logits over tokens, if no other has such a head."""
    found = [name for name in _architectures(config) if NOT_GENERATIVE.search(name)]
    return found[0] if found and not is_generative(config) else None


def is_named(class_name: str, config: Mapping[str, object]) -> bool:
    """Whether config.json names this class, which is otherwise only one of the same model type."""
    return class_name in _architectures(config)


def ask_model_class(config: Mapping[str, object], stored: Collection[str]) -> OutputEmbedding:
    """Build the architecture of ``config`` on the meta device and ask it for its output embedding.

    Args:
        config: the content of config.json.
        stored: the names of the tensors in the checkpoint.

    Raises:
        ModelClassUnusable: transformers does not know the architecture, or cannot build it from this config.
    """
    with _TRANSFORMERS_LOCK:
        return _ask(config, stored)


def _ask(config: Mapping[str, object], stored: Collection[str]) -> OutputEmbedding:
    from torch.nn import Embedding

    model = _build(config)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers has no types here
    weight = getattr(head, "weight", None)
    own = next((f"{name}.weight" for name, module in model.named_modules() if module is head), None)
    if head is None and len(inner := [name for name in model.all_tied_weights_keys if INNER_HEAD.search(name)]) == 1:
        # The class answers for another task with the logits of a language model inside it.
        (own,) = inner
        weight = dict(model.named_parameters(remove_duplicate=False)).get(own)
    if weight is None or own is None:
        return OutputEmbedding(type(model).__name__, None, False, (), ())
    shared = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is weight]
    # The class ties all of these to one source. If several copies are stored, transformers loads the source.
    source = model.all_tied_weights_keys.get(own)
    embeddings = sorted((name for name in shared if name != own), key=lambda name: name != source)
    loads = _stored_by_parameter(model, stored)
    return OutputEmbedding(
        class_name=type(model).__name__,
        parameter=own,
        is_tied=bool(embeddings) or isinstance(head, Embedding),
        stored_head=tuple(loads[own]),
        stored_embeddings=tuple(name for embedding in embeddings for name in loads[embedding]),
        loaded=frozenset(name for names in loads.values() for name in names),
    )


def is_tied_by_default(config: Mapping[str, object]) -> bool:
    """Whether the config class, with the settings of ``config``, ties the output head to the embedding.

    For a model class that cannot be built because a part needs a package that is not installed (Gemma 3n: timm).

    Raises:
        ModelClassUnusable: transformers does not know the architecture, or does not accept this config.
    """
    with _TRANSFORMERS_LOCK:
        model_class = _model_class(config)
        try:
            built = _config_of(model_class, config)
            return all(part.tie_word_embeddings is True for part in (built, built.get_text_config(decoder=True)))
        except BUILD_ERRORS as error:
            raise ModelClassUnusable(
                f"config.json is not valid for {model_class.__name__} ({_one_line(error)})"
            ) from error


def _build(config: Mapping[str, object]) -> "PreTrainedModel":
    import accelerate  # type: ignore[import-untyped]  # it ships no types

    model_class = _model_class(config)
    try:
        # With include_buffers it is torch's own device context, which affects only this thread.
        with _limited_size(), accelerate.init_empty_weights(include_buffers=True):
            return model_class(_config_of(model_class, config))
    except BUILD_ERRORS as error:
        raise ModelClassUnusable(
            f"{model_class.__name__} cannot be built from config.json ({_one_line(error)})"
        ) from error


def _model_class(config: Mapping[str, object]) -> "type[PreTrainedModel]":
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures, model_type = _architectures(config), config.get("model_type")
    names = list(architectures)
    if is_generative(config) and isinstance(model_type, str):
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
    if not architectures:
        raise ModelClassUnusable("config.json names no architecture")
    raise ModelClassUnusable(f"transformers {transformers.__version__} does not know {', '.join(architectures)}")


def _architectures(config: Mapping[str, object]) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


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

    this_thread, registered = get_ident(), 0

    def count(_owner: object, name: str, _registered: object) -> None:
        nonlocal registered
        registered += get_ident() == this_thread
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


def _stored_by_parameter(model: "PreTrainedModel", stored: Collection[str]) -> Mapping[str, list[str]]:
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
    for name in sorted(stored):
        if INSIDE_A_LAYER.search(name):
            continue
        parameter, converter = rename_source_key(name, renamings, converters, prefix, parameters)
        if parameter not in parameters and name in parameters:
            parameter, converter = rename_source_key(name, [], [], prefix, parameters)
        if parameter in parameters and converter is None:
            loads[parameter].append(name)
    return loads


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
