"""A plan, as a table for people and as one JSON document for machines."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from job.outcome import Need, Planned
from job.report.failures import print_failures, status_text
from job.report.text import count_statuses, escape, join_limited

PLAN_JSON_VERSION: Final = 1

_MEMORY_STEP, _SCRATCH_STEP = 2**27, 2**30
"""What Kubernetes' limits are rounded up to multiples of: 128Mi, so that a list may gain a model, and 1Gi."""

_MAX_NAMED: Final = 4
"""Models named beside a reason that holds for many."""

_TITLES: Final = ("W", "dtype", "tie", "rows × columns", "to read", "of checkpoint", "scratch", "memory")
_TEXTS: Final = ("W", "dtype", "tie")
_LEFT_OUT: Final = ((140, ("W", "dtype", "tie", "of checkpoint")), (90, ("scratch", "memory")))
"""What a terminal narrower than that has no room for; the JSON has it, and most of it is said below the table."""


def print_plan(console: Console, plan: Sequence[Planned]) -> None:
    """The table, and under it why each tensor was chosen, what to know of it, and why a model will not be surveyed."""
    console.print(_table(plan, console.width))
    for label, style, texts in (("Why", "cyan", _reasons(plan)), ("Note", "yellow", _notes(plan))):
        for text, models in texts.items():
            console.print(
                Text.assemble((label, style), f"  {escape(f'{text}: {join_limited(models, _MAX_NAMED)}')}"),
                soft_wrap=True,
            )
    print_failures(console, plan)
    totals = plan_totals(plan)
    statuses = count_statuses(planned.status for planned in plan) or "no models"
    console.print(
        f"{statuses}; to read {decimal(totals['read_nbytes'])}, scratch {decimal(totals['scratch_nbytes'])}, "
        f"memory {decimal(totals['memory_nbytes'])}",
        highlight=False,
        soft_wrap=True,
    )
    if any(planned.need for planned in plan):
        limits = kubernetes_limits(totals)
        console.print(
            f"Kubernetes: emptyDir sizeLimit {limits['scratch_size_limit']}, memory {limits['memory']} for the largest "
            "of these models",
            highlight=False,
            soft_wrap=True,
        )


def plan_as_json(plan: Sequence[Planned]) -> str:
    """The plan as one JSON document, its models in the list's order."""
    totals = plan_totals(plan)
    return json.dumps(
        {
            "schema_version": PLAN_JSON_VERSION,
            "models": [_as_object(planned) for planned in plan],
            "totals": {**totals, "kubernetes": kubernetes_limits(totals)},
        },
        indent=1,
        ensure_ascii=False,
    )


def plan_totals(plan: Sequence[Planned]) -> dict[str, int]:
    """What one worker needs for all models: it reads the sum, and holds the largest at a time. In bytes."""
    needs = [planned.need for planned in plan if planned.need]
    return {
        "read_nbytes": sum(need.read_nbytes for need in needs),
        "scratch_nbytes": max((need.scratch_nbytes for need in needs), default=0),
        "memory_nbytes": max((need.memory_nbytes for need in needs), default=0),
    }


def kubernetes_limits(totals: dict[str, int]) -> dict[str, str]:
    """The totals of a plan as quantities for a manifest, rounded up."""
    return {
        "scratch_size_limit": f"{max(1, math.ceil(totals['scratch_nbytes'] / _SCRATCH_STEP))}Gi",
        "memory": f"{math.ceil(totals['memory_nbytes'] / _MEMORY_STEP) * 128}Mi",
    }


def _as_object(planned: Planned) -> dict[str, object]:
    error = planned.error
    return {
        "model": str(planned.ref),
        "status": planned.status,
        "need": asdict(planned.need) if planned.need else None,
        "error": {"kind": type(error).__name__, "exit_status": error.exit_status, "message": str(error)}
        if error
        else None,
    }


def _table(plan: Sequence[Planned], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold", min_width=16)
    left_out = {title for wide, titles in _LEFT_OUT if width < wide for title in titles}
    titles = [title for title in _TITLES if title not in left_out]
    for title in titles:
        folds = title == "W"  # a number that is folded, or cut without a sign, reads as another one
        justify: JustifyMethod = "left" if title in _TEXTS else "right"
        table.add_column(title, justify=justify, no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    table.add_column("status", no_wrap=True)
    for planned in plan:
        cells = _cells(planned.need) if planned.need else dict.fromkeys(_TITLES, "–")
        table.add_row(escape(str(planned.ref)), *(cells[title] for title in titles), status_text(planned))
    return table


def _cells(need: Need) -> dict[str, str]:
    """What the table says of a model, by the columns' titles."""
    share = need.read_nbytes / need.checkpoint_nbytes if need.checkpoint_nbytes else 0.0
    return {
        "W": escape(need.tensor),
        "dtype": need.dtype,
        "tie": need.tie,
        "rows × columns": " × ".join(f"{length:,}" for length in need.shape),
        "to read": decimal(need.read_nbytes) if need.read_nbytes else "–",
        "of checkpoint": f"{share:.2%} of {decimal(need.checkpoint_nbytes)}",
        "scratch": decimal(need.scratch_nbytes) if need.scratch_nbytes else "–",
        "memory": decimal(need.memory_nbytes),
    }


def _reasons(plan: Sequence[Planned]) -> dict[str, list[str]]:
    """Each reason once, with the models it holds for: most lists need only a few."""
    models: defaultdict[str, list[str]] = defaultdict(list)
    for planned in plan:
        if planned.need:
            models[planned.need.reason].append(str(planned.ref))
    return models


def _notes(plan: Sequence[Planned]) -> dict[str, list[str]]:
    models: defaultdict[str, list[str]] = defaultdict(list)
    for planned in plan:
        for note in planned.need.notes if planned.need else ():
            models[note].append(str(planned.ref))
    return models
