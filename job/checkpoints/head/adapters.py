"""Adapters: what an adapter says of itself, and the way to the model that it adapts. The caller opens that model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.file_names import ADAPTER_CONFIG
from job.checkpoints.formats.json_text import parse_unambiguous_object
from job.checkpoints.head.needed_files import names_of, refuse_unreadable
from job.checkpoints.head.weight_sets import choose_weights
from job.errors import UnsupportedCheckpoint
from job.models.references import ModelRef, parse_reference

MAX_ADAPTER_CONFIG = 1_000_000
"""Bytes. Most have about a thousand; lists of target modules make some larger."""

MAX_STEPS: Final = 4
"""How many adapters are followed, each the base of the one before. Usually there is one."""

HEAD_MODULES = ("lm_head", "embed_out", "embed_tokens", "wte", "word_embeddings", "output_layer")
"""Modules that are the output head or tied to it, and that an adapter may train or replace."""


@dataclass(frozen=True)
class Adapter:
    """An adapter without the weights of a whole model. ``base`` and ``revision`` are as the file has them: anything."""

    base: object
    """The model that it adapts: a name on the Hub, or a path on the machine where it was trained."""
    revision: object
    head_modules: tuple[str, ...]
    """Those of ``HEAD_MODULES`` that the adapter changes."""

    @property
    def refusal(self) -> str:
        """The end of a message that refuses to survey the adapter."""
        base = f"its base model, {self.base!r:.200}" if self.base else "its base model, which it does not name"
        own_head = f" (it has its own {self.head_modules[0]}, which the base lacks)" if self.head_modules else ""
        return (
            f"found an adapter, expected a whole model; survey {base}, or give follow_base: true beside its name in a"
            f" list{own_head}"
        )


def read_adapter(checkpoint: Checkpoint) -> Adapter | None:
    """What the checkpoint's adapter_config.json says; None for a whole model, such as a merged adapter.

    Raises:
        CorruptCheckpoint: adapter_config.json is invalid.
        UnsupportedCheckpoint: the checkpoint holds several sets of weights, and nothing says which one to read.
    """
    names = names_of(checkpoint)
    if ADAPTER_CONFIG not in names or choose_weights(names, checkpoint.source):
        return None
    refuse_unreadable(checkpoint, ADAPTER_CONFIG)
    text = checkpoint.read(ADAPTER_CONFIG, MAX_ADAPTER_CONFIG)
    config = parse_unambiguous_object(text, f"{checkpoint.source}: {ADAPTER_CONFIG}")
    changed: set[str] = set()
    for key in ("modules_to_save", "target_modules"):
        modules = config.get(key)
        if isinstance(modules, list):
            changed |= {name.rpartition(".")[2] for name in modules if isinstance(name, str)} & set(HEAD_MODULES)
    base = config.get("base_model_name_or_path") or config.get("model_name")  # as AdapterHub calls it
    return Adapter(base, config.get("revision"), tuple(sorted(changed)))


def follow_base(checkpoint: Checkpoint, open_model: Callable[[ModelRef], Checkpoint]) -> Checkpoint:
    """The checkpoint itself if it is a whole model, else the model that it adapts, and so on.

    Raises:
        UnsupportedCheckpoint: an adapter names no model on the Hub, or leads back to where it came from.
        SurveyError: the base model cannot be opened.
    """
    passed: list[str] = []
    while adapter := read_adapter(checkpoint):
        passed.append(f"{checkpoint.repo_id}@{checkpoint.commit}")
        if len(passed) > MAX_STEPS:
            raise UnsupportedCheckpoint(
                f"{' → '.join(passed)}: found adapters of adapters, expected at most {MAX_STEPS}; name the base model"
            )
        checkpoint = open_model(base_reference(adapter, checkpoint.source))
        if f"{checkpoint.repo_id}@{checkpoint.commit}" in passed:
            raise UnsupportedCheckpoint(
                f"{checkpoint.source}: found that the adapters {' → '.join(passed)} lead back to it, expected a whole"
                " model; name the base model"
            )
    return replace(checkpoint, followed_from=tuple(passed))


def base_reference(adapter: Adapter, source: str) -> ModelRef:
    """The model on the Hub that an adapter names. Nothing but a model on the Hub is ever opened for an adapter.

    Raises:
        UnsupportedCheckpoint: it names something else, such as a path on the machine where it was trained.
    """
    base, revision = adapter.base, adapter.revision
    problem = "expected a model on the Hub"
    try:
        if isinstance(base, str) and isinstance(revision, str | None):
            ref = parse_reference(f"{base}@{revision}" if revision else base)
            if ref.source == "hub" and (ref.location, ref.revision) == (base, revision or None):
                return ref
    except ValueError as error:
        problem = str(error)
    raise UnsupportedCheckpoint(
        f"{source}: {ADAPTER_CONFIG}: found base model {base!r:.200}, revision {revision!r:.80}; {problem};"
        " survey the base model by its own reference"
    )
