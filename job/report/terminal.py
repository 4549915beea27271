"""What a person sees at the end of a run: a table of the models, the tokens of their holes, and what to do next."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from job.manifest.schema import BlackHole, Shown, TokenName, shown_of
from job.outcome import Outcome
from job.report.failures import print_failures, status_text
from job.report.headline import headline
from job.report.text import count_statuses, escape

_WIDE: Final = 110
_LEFT_OUT: Final = ("dtype", "unique", "read / checkpoint", "seconds")
_TEXTS: Final = ("dtype", "largest", "status")
_MAX_HOLES: Final = 50
"""So many are shown; the manifest has them all."""
_MAX_CHANGES: Final = 20
"""Models whose changed black holes are told of."""


def abridge(outcome: Outcome, show_tokens: int) -> Outcome:
    """The outcome with no more of its manifest than is shown: a run keeps this of every model."""
    manifest = outcome.manifest
    if manifest is None:
        return outcome
    holes: list[BlackHole] = [
        {**hole, "tokens": hole["tokens"][:show_tokens]} for hole in manifest["black_holes"][:_MAX_HOLES]
    ]
    return replace(outcome, manifest=shown_of(manifest, holes))


def print_diffs(console: Console, outcomes: Sequence[Outcome]) -> None:
    """What is new, before anything else."""
    for line in headline(outcomes, _MAX_CHANGES):
        console.print(Text(line, "bold"), soft_wrap=True)


def print_summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The table, and under it what to know about its numbers, what was passed over and why, and every failure with its
    kind, cause and what to do."""
    console.print(_table(outcomes, console.width))
    for outcome in outcomes:
        for warning in outcome.manifest["warnings"] if outcome.manifest else ():
            console.print(Text.assemble(("Note", "yellow"), f"  {escape(f'{outcome.ref}: {warning}')}"), soft_wrap=True)
    print_failures(console, outcomes)
    console.print(count_statuses(outcome.status for outcome in outcomes))


def _table(outcomes: Sequence[Outcome], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold", min_width=16)
    rows = [_cells(outcome) for outcome in outcomes]
    # What a narrow terminal has no room for is in the manifests as well.
    left_out = _LEFT_OUT if width < _WIDE else ()
    titles = [title for title in rows[0] if title not in left_out]
    for title in titles:
        table.add_column(title, justify="left" if title in _TEXTS else "right", no_wrap=True)
    for outcome, cells in zip(outcomes, rows, strict=True):
        table.add_row(escape(str(outcome.ref)), *(cells[title] for title in titles))
    return table


def _cells(outcome: Outcome) -> dict[str, str | Text]:
    """What the table says of a model, by the columns' titles."""
    cells: dict[str, str | Text] = dict.fromkeys(
        ("rows × columns", "dtype", "unique", "holes", "in holes", "largest", "read / checkpoint"), "–"
    )
    if manifest := outcome.manifest:
        tensor, statistics = manifest["tensor"], manifest["statistics"]
        populations = [f"{hole['population']:,}" for hole in manifest["black_holes"]]
        cells |= {
            "rows × columns": f"{tensor['shape'][0]:,} × {tensor['shape'][1]:,}",
            "dtype": tensor["dtype"],
            "unique": f"{statistics['unique_rows']:,}",
            "holes": f"{statistics['black_holes']:,}",
            "in holes": f"{statistics['black_hole_tokens']:,}",
            "largest": ", ".join(populations[:4]) + (" …" if len(populations) > 4 else "") or "–",
            "read / checkpoint": f"{decimal(outcome.bytes_fetched)} / {decimal(manifest['checkpoint']['nbytes'])}",
        }
    return cells | {"seconds": f"{outcome.seconds:.1f}", "status": status_text(outcome)}


def print_whereabouts(console: Console, output: str, outcomes: Sequence[Outcome]) -> None:
    """Where the surveys are, and one page to begin with: one that is new, if any is."""
    newest_first = sorted(outcomes, key=lambda outcome: outcome.diff is None)
    pages = [outcome.manifest["artifacts"]["report"]["key"] for outcome in newest_first if outcome.manifest]
    example = f"; begin with {output.rstrip('/')}/{pages[0]}" if pages else ""
    console.print(escape(f"surveys are in {output}{example}"), markup=False, highlight=False, soft_wrap=True)


def print_tokens(console: Console, model: str, manifest: Shown, max_tokens: int) -> None:
    """The first tokens of each black hole, one line a hole."""
    console.print(Text(f"{escape(model)}: {manifest['statistics']['black_holes']:,} black holes", "bold"))
    for hole in manifest["black_holes"][:_MAX_HOLES]:
        tokens = [_token(token) for token in hole["tokens"][:max_tokens]]
        left = hole["population"] - len(tokens)
        console.print(
            Text(
                f"  {hole['id']}. {hole['population']:,} rows: {'  '.join(tokens)}"
                + (f"  … {left:,} more" if left else "")
            ),
            soft_wrap=True,
        )
    left = manifest["statistics"]["black_holes"] - _MAX_HOLES
    if left > 0:
        console.print(f"  … {left:,} more holes")


def _token(token: TokenName) -> str:
    return f"{token['id']}" if token["text"] is None else f'{token["id"]} "{escape(token["text"])}"'
