"""report.html of surveys made for the tests, open and drawn."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Locator, Page

from tests.browser import checkpoints
from tests.browser.conftest import Origin, Surveyor, Visitor
from tests.browser.visits import WIDE, View


def _as_it_is(path: Path, _folder: Path) -> Path:
    return path


SMOLLM2: Final = partial(_as_it_is, checkpoints.SMOLLM2)
MINILM: Final = partial(_as_it_is, checkpoints.MINILM)
Made = tuple[Callable[[Path], Path], tuple[str, ...]]
REPORTS: Final[dict[str, Made]] = {
    "smollm2": (SMOLLM2, ()),
    "hostile": (checkpoints.hostile, ()),
    "without-tokenizer": (checkpoints.without_tokenizer, ()),
    "one-row": (checkpoints.one_row, ()),
    "without-tokens": (SMOLLM2, ("--tensors", "W,mu,black_holes,projection")),
    "without-projection": (checkpoints.hostile, ("--tensors", "W,mu,black_holes,tokens")),
    "manifest-only": (checkpoints.hostile, ("--tensors", "mu")),
}
"""How each is surveyed: who writes its checkpoint, and the options."""


def open_report(
    visit: Visitor, surveyed: Surveyor, name: str = "smollm2", view: View = WIDE, origin: Origin = "file"
) -> Page:
    make, options = REPORTS[name]
    return open_page(visit, surveyed(make, *options), view, origin)


def open_page(visit: Visitor, survey: Path, view: View = WIDE, origin: Origin = "file") -> Page:
    page = visit(survey / "report.html", view, origin).page
    page.wait_for_function("() => 'drawn' in document.documentElement.dataset", timeout=60_000)
    return page


def tokens_of(survey: Path) -> list[dict[str, object]]:
    """The published table, as a check of what the page shows."""
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(survey / "tokens.parquet").to_pylist()
    return rows


def cells(table: Locator) -> list[list[str]]:
    """What the rows in sight show, from above."""
    found: list[list[str]] = table.locator(".grid-row").evaluate_all(
        "rows => rows.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map((row) => [...row.querySelectorAll('[role=gridcell]')].map((cell) => cell.innerText.trim()))"
    )
    return found
