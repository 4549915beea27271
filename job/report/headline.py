"""What a summary leads with: what is new among a run's models, in a few lines."""

from collections.abc import Sequence
from typing import Final, get_args

from job.manifest.comparison import HoleChange
from job.manifest.filing import Novelty
from job.outcome import Outcome
from job.report.text import escape, join_limited

_MAX_NAMED: Final = 8
"""Models named for each kind of news."""
_MAX_IDS: Final = 8
"""Token ids named; the manifest has them all."""


def headline(outcomes: Sequence[Outcome], most_changes: int) -> list[str]:
    """The models, revisions and tensors that were not published before, and a line for each model whose black holes
    changed, as far as ``most_changes`` goes."""
    new = [_new(outcomes, what) for what in get_args(Novelty)]
    if not any(new):
        return ["Nothing new"]
    changes = [
        f"Black holes changed in {escape(str(outcome.ref))}: {format_change(outcome.diff.hole_change)}"
        for outcome in outcomes
        if outcome.diff and outcome.diff.hole_change
    ]
    left = len(changes) - most_changes
    more = [f"… and in {left:,} more"] if left > 0 else []
    return [f"New: {', '.join(filter(None, new))}", *changes[:most_changes], *more]


def format_change(change: HoleChange) -> str:
    """A change of black holes in words."""
    moved = [
        f"{word} {join_limited(ids, _MAX_IDS)}"
        for word, ids in (("joined", change.joined), ("left", change.left))
        if ids
    ]
    holes, tokens = (" → ".join(f"{number:,}" for number in numbers) for numbers in (change.holes, change.tokens))
    return f"{holes} holes, {tokens} tokens ({'; '.join(moved) or 'the same tokens, grouped otherwise'})"


def _new(outcomes: Sequence[Outcome], what: Novelty) -> str:
    refs = [escape(str(outcome.ref)) for outcome in outcomes if outcome.diff and outcome.diff.novelty == what]
    return f"{len(refs):,} {what}{'s' if len(refs) > 1 else ''} ({join_limited(refs, _MAX_NAMED)})" if refs else ""
