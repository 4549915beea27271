"""Prints a plan: as a table for people, or as one JSON document for machines."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from job.errors import join_limited
from job.limits.need import LOG_NBYTES
from job.outcome import PlannedModel, PlannedSurvey
from job.report.messages import models_table, print_failures, print_warning
from job.report.text import count_statuses, escape

PLAN_JSON_VERSION: Final = 1

_MEMORY_STEP, _SCRATCH_STEP = 2**27, 2**30
"""The limits for Kubernetes are rounded up to multiples of 128Mi, which leaves room for a new model, and of 1Gi."""

_FLOP_PER_SECOND: Final = 25e9
"""What a core of the machine of benchmarks/RESULTS.md does, all of the covariance taken together."""

_MAX_MODELS: Final = 4
"""The number of models named beside a reason or a warning."""

_COLUMNS: Final = ("W", "dtype", "tie", "rows × columns", "to read", "of checkpoint", "scratch", "memory")
_TEXT_COLUMNS: Final = ("W", "dtype", "tie")
_DISPENSABLE_COLUMNS: Final = (
    *("W", "of checkpoint", "tie", "dtype", "scratch", "memory"),
    *("to read", "rows × columns"),
)
"""A narrow terminal may have no room for these columns, the first ones to be left out first. The JSON has their
values."""


def print_plan(console: Console, plan: Sequence[PlannedModel]) -> None:
    """Print the table of the models, and below it why each tensor was chosen, the warnings, and the failures."""
    rows = [(model, _cells(model.survey) if model.survey else dict.fromkeys(_COLUMNS, "–")) for model in plan]
    if rows:
        table = models_table(rows, console.width, dispensable=_DISPENSABLE_COLUMNS, text=_TEXT_COLUMNS, wrapped=("W",))
        console.print(table)
    reasons, warnings = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for model in plan:
        if model.survey:
            reasons[model.survey.reason].append(str(model.ref))
            for warning in model.survey.notes:
                warnings[warning].append(str(model.ref))
    for reason, models in reasons.items():
        text = escape(f"{reason}: {join_limited(models, _MAX_MODELS)}")
        console.print(Text.assemble(("Why", "cyan"), f"  {text}"), soft_wrap=True)
    for warning, models in warnings.items():
        print_warning(console, f"{warning}: {join_limited(models, _MAX_MODELS)}")
    print_failures(console, plan)
    totals = plan_totals(plan)
    statuses = count_statuses(model.status for model in plan) or "no models"
    console.print(
        f"{statuses}; to read {decimal(totals['read_nbytes'])}, scratch {decimal(totals['scratch_nbytes'])}, "
        f"memory {decimal(totals['memory_nbytes'])}; OUTPUT grows by {decimal(totals['output_nbytes'])}",
        highlight=False,
        soft_wrap=True,
    )
    if any(model.survey for model in plan):
        console.print(_in_flight(plan), highlight=False, soft_wrap=True)
        if covariance_flop := sum(model.survey.covariance_flop for model in plan if model.survey):
            console.print(
                f"Covariance: {covariance_flop / 1e12:,.1f} Tflop, about {covariance_flop / _FLOP_PER_SECOND:,.0f} "
                f"core-seconds at {_FLOP_PER_SECOND / 1e9:.0f} Gflop/s, and the eigenvalues",
                highlight=False,
                soft_wrap=True,
            )
        limits = kubernetes_limits(totals)
        console.print(
            f"Kubernetes: ephemeral-storage {limits['ephemeral_storage']}, memory {limits['memory']} for the largest "
            "of these models",
            highlight=False,
            soft_wrap=True,
        )


def _in_flight(plan: Sequence[PlannedModel]) -> str:
    """How many ranges are fetched and parts are sent at a time: the same for each model."""
    survey = next(model.survey for model in plan if model.survey)
    sent = f", and {survey.parts} parts sent" if survey.parts else ""
    return f"At a time: up to {survey.connections} byte ranges of a file fetched{sent}"


def plan_as_json(plan: Sequence[PlannedModel]) -> str:
    """The plan as one JSON document in ASCII, with the models in the order of the list."""
    totals = plan_totals(plan)
    return json.dumps(
        {
            "schema_version": PLAN_JSON_VERSION,
            "models": [_json_entry(model) for model in plan],
            "totals": {**totals, "kubernetes": kubernetes_limits(totals)},
        },
        indent=1,
    )


def plan_totals(plan: Sequence[PlannedModel]) -> dict[str, int]:
    """The bytes that one worker needs for all models. It surveys one model at a time, so it reads and publishes the sum
    of all, but needs scratch and memory only for the largest."""
    surveys = [model.survey for model in plan if model.survey]
    return {
        "read_nbytes": sum(survey.read_nbytes for survey in surveys),
        "output_nbytes": sum(survey.output_nbytes for survey in surveys),
        "scratch_nbytes": max((survey.scratch_nbytes for survey in surveys), default=0),
        "memory_nbytes": max((survey.memory_nbytes for survey in surveys), default=0),
    }


def kubernetes_limits(totals: dict[str, int]) -> dict[str, str]:
    """The totals of a plan as Kubernetes' quantities, rounded up: a volume's limit for the scratch alone, and those of
    a container, whose storage holds its log as well."""
    memory_mib = math.ceil(totals["memory_nbytes"] / _MEMORY_STEP) * _MEMORY_STEP >> 20
    return {
        "scratch_size_limit": f"{max(1, math.ceil(totals['scratch_nbytes'] / _SCRATCH_STEP))}Gi",
        "ephemeral_storage": f"{math.ceil((totals['scratch_nbytes'] + LOG_NBYTES) / _SCRATCH_STEP)}Gi",
        "memory": f"{memory_mib}Mi" if memory_mib % 1024 else f"{memory_mib // 1024}Gi",  # as Kubernetes writes it
    }


def _json_entry(model: PlannedModel) -> dict[str, object]:
    error = model.error
    return {
        "model": str(model.ref),
        "status": model.status,
        "need": asdict(model.survey) if model.survey else None,
        "error": {"kind": type(error).__name__, "exit_status": error.exit_status, "message": str(error)}
        if error
        else None,
    }


def _cells(survey: PlannedSurvey) -> dict[str, str]:
    """The cells of a model's row by column title."""
    if survey.checkpoint_nbytes is None:
        share = "unknown"
    else:
        share = f"{survey.read_nbytes / max(1, survey.checkpoint_nbytes):.2%} of {decimal(survey.checkpoint_nbytes)}"
    return {
        "W": escape(survey.tensor),
        "dtype": survey.dtype,
        "tie": survey.tie,
        "rows × columns": " × ".join(f"{length:,}" for length in survey.shape),
        "to read": decimal(survey.read_nbytes) if survey.read_nbytes else "–",
        "of checkpoint": share,
        "scratch": decimal(survey.scratch_nbytes) if survey.scratch_nbytes else "–",
        "memory": decimal(survey.memory_nbytes),
    }
