"""From an adapter to the model that it adapts. Knows what adapters say and how models are named, and opens neither."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.adapters import Adapter, read_adapter
from job.errors import UnsupportedCheckpoint
from job.models.references import ModelRef, parse_reference

MAX_STEPS: Final = 4
"""Adapters of adapters that are followed; one is the rule."""


def follow_base(checkpoint: Checkpoint, open_model: Callable[[ModelRef], Checkpoint]) -> Checkpoint:
    """The checkpoint itself where it is a whole model, else the one that it adapts, and so on.

    Raises:
        UnsupportedCheckpoint: an adapter names no model on the Hub, or leads back to where it came from.
        SurveyError: the base model cannot be opened.
    """
    passed: list[str] = []
    while adapter := read_adapter(checkpoint):
        passed.append(f"{checkpoint.repo_id}@{checkpoint.commit}")
        if len(passed) > MAX_STEPS:
            raise UnsupportedCheckpoint(
                f"{' → '.join(passed)}: adapters of adapters, at most {MAX_STEPS} were expected; name the base model"
            )
        checkpoint = open_model(base_reference(adapter, checkpoint.source))
        if f"{checkpoint.repo_id}@{checkpoint.commit}" in passed:
            raise UnsupportedCheckpoint(
                f"{checkpoint.source}: the adapters {' → '.join(passed)} lead back to it, a whole model was expected;"
                " name the base model"
            )
    return replace(checkpoint, followed_from=tuple(passed))


def base_reference(adapter: Adapter, source: str) -> ModelRef:
    """The model on the Hub that an adapter names. What it says may be anything: nothing else is opened.

    Raises:
        UnsupportedCheckpoint: it names none: a path, say, on the machine where it was trained.
    """
    base, revision = adapter.base, adapter.revision
    problem = "a model on the Hub was expected"
    try:
        if isinstance(base, str) and isinstance(revision, str | None):
            ref = parse_reference(f"{base}@{revision}" if revision else base)
            if ref.source == "hub" and (ref.location, ref.revision) == (base, revision or None):
                return ref
    except ValueError as error:
        problem = str(error)
    raise UnsupportedCheckpoint(
        f"{source}: adapter_config.json names as base model {base!r:.200}, revision {revision!r:.80}; {problem};"
        " survey the base model by its own reference"
    )
