"""Prints the summary of a run: what is new, the tokens of black holes, a table of the models, and where to look."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from job.manifest.schema import BlackHole, SummaryFields, TokenName, summary_fields
from job.outcome import Outcome
from job.report.changes import list_changes
from job.report.messages import models_table, print_failures, print_warning
from job.report.text import count_statuses, escape

_ACTIVITIES: Final = "source / computing / store"
_DISPENSABLE_COLUMNS: Final = (
    *(_ACTIVITIES, "fetched / checkpoint", "seconds", "dtype", "unique", "largest", "holes"),
    *("in holes", "rows × columns"),
)
"""A narrow terminal may have no room for these columns, the first ones to be left out first; the manifests have their
values."""
_TEXT_COLUMNS: Final = ("dtype", "largest")
_MAX_HOLES: Final = 50
"""The number of black holes printed; the manifest has all."""
_MAX_CHANGED_MODELS: Final = 20
"""The number of models whose changed black holes are printed."""


def shorten_manifest(outcome: Outcome, show_tokens: int) -> Outcome:
    """The outcome with only the part of its manifest that is printed. A run keeps this for each of its models."""
    manifest = outcome.manifest
    if manifest is None:
        return outcome
    holes: list[BlackHole] = [
        {**hole, "tokens": hole["tokens"][:show_tokens]} for hole in manifest["black_holes"][:_MAX_HOLES]
    ]
    return replace(outcome, manifest=summary_fields(manifest, holes))


def print_changes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print what is new."""
    for line in list_changes(outcomes, _MAX_CHANGED_MODELS):
        console.print(Text(line, "bold"), soft_wrap=True)


def print_summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print the table of the models, and below it the warnings, the models that were passed over, and the failures."""
    rows = [(outcome, _cells(outcome)) for outcome in outcomes]
    console.print(models_table(rows, console.width, dispensable=_DISPENSABLE_COLUMNS, text=_TEXT_COLUMNS))
    for outcome in outcomes:
        for warning in outcome.manifest["warnings"] if outcome.manifest else ():
            print_warning(console, f"{outcome.ref}: {warning}")
    print_failures(console, outcomes)
    console.print(count_statuses(outcome.status for outcome in outcomes))


def _cells(outcome: Outcome) -> dict[str, str]:
    """The cells of a model's row by column title."""
    cells = dict.fromkeys(
        ("rows × columns", "dtype", "unique", "holes", "in holes", "largest", "fetched / checkpoint", _ACTIVITIES), "–"
    )
    if manifest := outcome.manifest:
        tensor, statistics = manifest["tensor"], manifest["statistics"]
        nbytes = manifest["checkpoint"]["nbytes"]
        populations = [f"{hole['population']:,}" for hole in manifest["black_holes"]]
        cells |= {
            "rows × columns": f"{tensor['shape'][0]:,} × {tensor['shape'][1]:,}",
            "dtype": tensor["dtype"],
            "unique": f"{statistics['unique_rows']:,}",
            "holes": f"{statistics['black_holes']:,}",
            "in holes": f"{statistics['black_hole_tokens']:,}",
            "largest": ", ".join(populations[:4]) + (" …" if len(populations) > 4 else "") or "–",
            "fetched / checkpoint": f"{decimal(outcome.bytes_fetched)} / {'?' if nbytes is None else decimal(nbytes)}",
        }
        activities = manifest.get("activity_seconds")
        if activities and outcome.status != "already published":  # else the manifest tells of an earlier run
            cells[_ACTIVITIES] = "{source:.1f} / {computing:.1f} / {store:.1f}".format(**activities)
    return cells | {"seconds": f"{outcome.seconds:.1f}"}


def print_output_location(console: Console, output: str, outcomes: Sequence[Outcome]) -> None:
    """Print where the surveys are, if there are any, and the page of one model: of a new survey, if there is one."""
    new_first = sorted(outcomes, key=lambda outcome: outcome.changes is None)
    of_outcomes = [outcome.manifest.get("pages", {}) for outcome in new_first if outcome.manifest]
    pages = [page for pages in of_outcomes if (page := pages.get("html") or pages.get("report"))]
    if pages:
        text = escape(f"surveys are in {output}; begin with {output.rstrip('/')}/{pages[0]}")
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_tokens(console: Console, model: str, manifest: SummaryFields, max_tokens: int) -> None:
    """Print the first tokens of each black hole, one line per hole."""
    console.print(Text(f"{escape(model)}: {manifest['statistics']['black_holes']:,} black holes", "bold"))
    for hole in manifest["black_holes"][:_MAX_HOLES]:
        tokens = [_token(token) for token in hole["tokens"][:max_tokens]]
        n_more = hole["population"] - len(tokens)
        console.print(
            Text(
                f"  {hole['id']}. {hole['population']:,} rows: {'  '.join(tokens)}"
                + (f"  … {n_more:,} more" if n_more else "")
            ),
            soft_wrap=True,
        )
    n_more = manifest["statistics"]["black_holes"] - _MAX_HOLES
    if n_more > 0:
        console.print(f"  … {n_more:,} more holes")


def _token(token: TokenName) -> str:
    return f"{token['id']}" if token["text"] is None else f'{token["id"]} "{escape(token["text"])}"'
