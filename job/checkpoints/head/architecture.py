"""Asks transformers' model class which parameter is the output embedding, and which stored tensors load into it.

The class is built in a process of its own: a config of 100 bytes can make it take all memory, or hours.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, cast

from job.checkpoints.head.model_class import (
    Answer,
    ModelClassUnusable,
    Question,
    describe_default_tie,
    describe_output_embedding,
)
from job.errors import TransientError
from job.limits.fork_server import CallFailed, CallNotMade, ForkServer, Limits

GENERATIVE = re.compile(r"ForCausalLM|LMHead|ForConditionalGeneration|ForImageTextToText|ForMaskedLM|ForPreTraining")
"""Part of the name of a class that has a language model's head."""

NOT_GENERATIVE = re.compile(r"For\w*Classification|ForQuestionAnswering|ForMultipleChoice|Reward|ValueModel|Regression")
"""Part of the name of a class that gives no logits over tokens. Most other names do not tell."""

INSIDE_A_LAYER = re.compile(r"\.\d+\.")
"""Part of the name of a tensor in a numbered layer. None of these is W, and a large checkpoint has 90,000 of them."""


_LIMITS: Final = Limits(cpu_seconds=20, seconds=300, nbytes=1 << 29, least_nbytes=120_000_000)
"""Of transformers' classes with their own settings, none takes more than 3 seconds and 100 MB."""

_SERVER: Final = ForkServer(
    preload=(
        "accelerate",
        "transformers.conversion_mapping",
        "transformers.core_model_loading",
        "transformers.models.auto.modeling_auto",
        "transformers.models.llama.modeling_llama",  # whose imports most models have in common
    )
)


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
        TransientError: there is no memory to build any.
    """
    answer = _ask(describe_output_embedding, config, stored)
    return OutputEmbedding(
        class_name=answer["class_name"],
        parameter=answer["parameter"],
        is_tied=answer["is_tied"],
        stored_head=tuple(answer.get("stored_head", ())),
        stored_embeddings=tuple(answer.get("stored_embeddings", ())),
        loaded=frozenset(answer.get("loaded", ())),
    )


def is_tied_by_default(config: Mapping[str, object]) -> bool:
    """Whether the config class, with the settings of ``config``, ties the output head to the embedding.

    For a model class that cannot be built because a part needs a package that is not installed (Gemma 3n: timm).

    Raises:
        ModelClassUnusable: transformers does not know the architecture, or does not accept this config.
        TransientError: as above.
    """
    return _ask(describe_default_tie, config, ())["is_tied_by_default"]


def _ask(describe: Callable[[Question], Answer], config: Mapping[str, object], stored: Collection[str]) -> Answer:
    outside_layers = sorted(name for name in stored if not INSIDE_A_LAYER.search(name))
    question: Question = {
        "config": dict(config),
        "architectures": _architectures(config),
        "is_generative": is_generative(config),
        "stored": outside_layers,
    }
    try:
        answer = cast("Answer", _SERVER.call(describe, question, _LIMITS))
    except CallNotMade as error:
        raise TransientError(
            f"model class: {error}; raise the memory limit of this process, such as the container's, or run again"
        ) from error
    except CallFailed as error:
        raise ModelClassUnusable(f"the model class cannot be built from config.json ({error})") from error
    except RecursionError:
        raise ModelClassUnusable("config.json is nested too deeply") from None
    if "unusable" in answer:
        raise ModelClassUnusable(answer["unusable"])
    return answer


def _architectures(config: Mapping[str, object]) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
