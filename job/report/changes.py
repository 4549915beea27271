"""The first lines of a summary: new models, revisions and tensors, and changed black holes."""

from collections.abc import Sequence
from typing import Final, get_args

from job.errors import join_limited
from job.manifest.comparison import BlackHoleChange, SurveyChanges
from job.manifest.published import NewItem
from job.outcome import Outcome
from job.report.text import escape

_MAX_NAMES: Final = 8
"""The number of models named for each kind of new item."""
_MAX_IDS: Final = 8
"""The number of token ids printed; the manifest has more."""


def list_changes(outcomes: Sequence[Outcome], max_models: int) -> list[str]:
    """A line that names the new models, revisions and tensors, and a line for each model that changed, those with
    changed black holes first.

    ``max_models``: the maximum number of lines for models that changed.
    """
    new_items = [_new_items(outcomes, kind) for kind in get_args(NewItem)]
    if not any(new_items):
        return ["Nothing new"]
    changed = [outcome for outcome in outcomes if outcome.changes and outcome.changes.black_hole_change]
    changed += [
        outcome
        for outcome in outcomes
        if outcome.changes and outcome.changes.page and not outcome.changes.black_hole_change
    ]
    changes = [_change(str(outcome.ref), outcome.changes) for outcome in changed if outcome.changes]
    n_more = len(changes) - max_models
    more = [f"… and in {n_more:,} more"] if n_more > 0 else []
    return [f"New: {', '.join(filter(None, new_items))}", *changes[:max_models], *more]


def _change(model: str, changes: SurveyChanges) -> str:
    if changes.black_hole_change:
        text = f"Black holes changed in {escape(model)}: {format_change(changes.black_hole_change)}"
    else:
        text = f"Changed, but not in its black holes: {escape(model)}"
    return f"{text}; what changed: {escape(changes.page)}" if changes.page else text


def format_change(change: BlackHoleChange) -> str:
    """A change of black holes as text."""
    moved = [
        f"{verb} {', '.join(map(str, ids[:_MAX_IDS]))}"
        + (f" and {count - _MAX_IDS:,} more" if count > _MAX_IDS else "")
        for verb, ids, count in (("joined", change.joined, change.n_joined), ("left", change.left, change.n_left))
        if ids
    ]
    holes, tokens = (" → ".join(f"{number:,}" for number in numbers) for numbers in (change.holes, change.tokens))
    return f"{holes} holes, {tokens} tokens ({'; '.join(moved) or 'the same tokens in other groups'})"


def _new_items(outcomes: Sequence[Outcome], kind: NewItem) -> str:
    refs = [escape(str(outcome.ref)) for outcome in outcomes if outcome.changes and outcome.changes.new_item == kind]
    return f"{len(refs):,} {kind}{'s' if len(refs) > 1 else ''} ({join_limited(refs, _MAX_NAMES)})" if refs else ""
