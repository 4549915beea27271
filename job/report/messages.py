"""Prints a table of models, warnings, failures and models that were passed over, after a run and in a plan."""

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from job.errors import SurveyError
from job.models.references import ModelRef
from job.outcome import Outcome, PlannedModel
from job.report.text import escape

_MIN_WRAPPED_WIDTH: Final = 24
"""The width at which a name is wrapped rather than that a number is left out."""
_GAP: Final = 2
"""Between two columns."""


def console_for_results() -> Console:
    """A console for standard output: as wide as the terminal, or wide enough for a file."""
    return Console() if sys.stdout.isatty() else Console(width=250)


def status_text(model: Outcome | PlannedModel) -> Text:
    """The status of a model in a table. For a failure, it is the kind of error."""
    if model.status == "passed over":
        return Text(model.status, "yellow")
    if model.error:
        return Text(type(model.error).__name__, "bold red")
    return Text(model.status, "green")


def models_table(
    rows: Sequence[tuple[Outcome | PlannedModel, dict[str, str]]],
    width: int,
    *,
    dispensable: Sequence[str],
    text: Collection[str],
    wrapped: Collection[str] = (),
) -> Table:
    """A table with a row for each of one or more models: its name, its cells by column title, and its status.

    Nothing but names is wrapped, since a wrapped number reads as another number, and nothing is cut.

    Args:
        width: the terminal's.
        dispensable: the columns that a narrow terminal has no room for, those to leave out first at the beginning.
        text: the columns that are aligned to the left.
        wrapped: the columns with names, besides that of the models.
    """
    models = [escape(str(model.ref)) for model, _ in rows]
    statuses = [status_text(model) for model, _ in rows]
    widths = {
        title: max(cell_len(cell) for cell in (title, *(cells[title] for _, cells in rows))) for title in rows[0][1]
    }
    for title in wrapped:
        widths[title] = min(widths[title], _MIN_WRAPPED_WIDTH)
    needed = min(_MIN_WRAPPED_WIDTH, max(map(cell_len, models))) + max(status.cell_len for status in statuses)
    for title in dispensable:
        if needed + _GAP + sum(_GAP + column for column in widths.values()) > width:
            del widths[title]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    for title in widths:
        may_wrap, justify = title in wrapped, "left" if title in text else "right"
        table.add_column(title, justify=justify, no_wrap=not may_wrap, overflow="fold")  # type: ignore[arg-type]
    table.add_column("status", no_wrap=True)
    for model, (_, cells), status in zip(models, rows, statuses, strict=True):
        # As Text: in a plain str, rich takes what stands in brackets for a style.
        table.add_row(Text(model), *(Text(cells[title]) for title in widths), status)
    return table


def print_failures(console: Console, models: Iterable[Outcome | PlannedModel]) -> None:
    """Print the models that were passed over, then the failures. Each line has the kind of error and its message."""
    passed_over: list[Text] = []
    failed: list[Text] = []
    for model in models:
        if model.error:
            kind, message = type(model.error).__name__, f"  {escape(message_with_model(model.ref, model.error))}"
            if model.status == "passed over":
                passed_over.append(Text.assemble(("Passed over", "yellow"), f"  {kind}{message}"))
            else:
                failed.append(Text.assemble((kind, "bold red"), message))
    for line in passed_over + failed:
        console.print(line, soft_wrap=True)


def print_warning(console: Console, text: str) -> None:
    """Print what a reader of the results should know."""
    console.print(Text.assemble(("Warning", "yellow"), f"  {escape(text)}"), soft_wrap=True)


def message_with_model(ref: ModelRef, error: SurveyError) -> str:
    """The error's message, which begins with the model as the list names it."""
    message, model = str(error), str(ref)
    return message if message.startswith(model) else f"{model}: {message}"
