"""What a person sees at the end of a run: a table of the models, the tokens of their holes, and what to do next."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from job.outcome import Outcome
from job.report.text import shown
from job.store.manifest import Manifest


def print_summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The table, and under it what to know about its numbers, and every failure with its kind, cause and what to do."""
    console.print(_table(outcomes))
    for outcome in outcomes:
        for warning in outcome.manifest["warnings"] if outcome.manifest else ():
            console.print(Text.assemble(("Note", "yellow"), f"  {shown(f'{outcome.ref}: {warning}')}"), soft_wrap=True)
    for outcome in outcomes:
        if outcome.error:
            console.print(
                Text.assemble((type(outcome.error).__name__, "bold red"), f"  {outcome.error}"), soft_wrap=True
            )
    counts = Counter(outcome.status for outcome in outcomes)
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold", min_width=16)
    for title in ("rows × columns", "dtype", "unique", "holes", "in holes", "largest", "read / checkpoint", "seconds"):
        table.add_column(title, justify="left" if title in ("dtype", "largest") else "right")
    table.add_column("status")
    for outcome in outcomes:
        table.add_row(shown(str(outcome.ref)), *_numbers(outcome), f"{outcome.seconds:.1f}", _status(outcome))
    return table


def _numbers(outcome: Outcome) -> list[str]:
    if outcome.manifest is None:
        return ["–"] * 7
    tensor, statistics = outcome.manifest["tensor"], outcome.manifest["statistics"]
    populations = [hole["population"] for hole in outcome.manifest["black_holes"]]
    return [
        f"{tensor['shape'][0]:,} × {tensor['shape'][1]:,}",
        tensor["dtype"],
        f"{statistics['unique_rows']:,}",
        f"{statistics['black_holes']:,}",
        f"{statistics['black_hole_tokens']:,}",
        ", ".join(f"{population:,}" for population in populations[:4]) + (" …" if len(populations) > 4 else "") or "–",
        f"{decimal(outcome.bytes_fetched)} / {decimal(outcome.manifest['checkpoint']['nbytes'])}",
    ]


def _status(outcome: Outcome) -> Text:
    if outcome.error:
        return Text(type(outcome.error).__name__, "bold red")
    return Text(outcome.status, "green")


def print_whereabouts(console: Console, output: str, outcomes: Sequence[Outcome]) -> None:
    """Where the surveys are, and one page to begin with."""
    pages = [outcome.manifest["artifacts"]["report"]["key"] for outcome in outcomes if outcome.manifest]
    example = f"; begin with {output.rstrip('/')}/{pages[0]}" if pages else ""
    console.print(f"surveys are in {output}{example}", markup=False, highlight=False, soft_wrap=True)


def print_tokens(console: Console, model: str, manifest: Manifest, most: int) -> None:
    """The first tokens of each black hole, one line a hole."""
    console.print(Text(f"{shown(model)}: {manifest['statistics']['black_holes']:,} black holes", "bold"))
    for hole in manifest["black_holes"]:
        tokens = [_token(token) for token in hole["tokens"][:most]]
        left = hole["population"] - len(tokens)
        console.print(
            Text(
                f"  {hole['id']}. {hole['population']:,} rows: {'  '.join(tokens)}"
                + (f"  … {left:,} more" if left else "")
            ),
            soft_wrap=True,
        )


def _token(token: dict[str, Any]) -> str:
    return f"{token['id']}" if token["text"] is None else f'{token["id"]} "{shown(token["text"])}"'
