"""Measures reports in a headless Chromium: bytes, first paint, all drawn, searching, sorting, scrolling.

    .venv/bin/python -m benchmarks.browser [FOLDER]

The vocabularies are real ones that packages carry, the matrices random with holes planted in them. With FOLDER, the
surveys stay there, and are not made again.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Final

from playwright.sync_api import Browser

from benchmarks.tokens import FILES, QWEN_ROWS, write_both
from tests.browser.chromium import chromium
from tests.browser.jobs import run_job
from tests.browser.visits import visiting
from tests.checkpoints import planted, write_checkpoint
from tests.real_models.test_published_figures import planted_groups
from tests.token_tables import QWEN3_4B

ROUNDS: Final = 3
HIDDEN_SIZE: Final = 64
MAX_ROWS: Final = 262_144


def qwen(folder: Path) -> None:
    """151,936 rows, with the holes published for Qwen3-4B-Instruct-2507 and its own vocabulary."""
    write_checkpoint(folder, planted(QWEN_ROWS, HIDDEN_SIZE, planted_groups(QWEN3_4B)))
    file, name, _ = FILES["Qwen, tiktoken"]
    (folder / name).write_bytes(file.read_bytes())


def many_rows(folder: Path) -> None:
    """262,144 rows, named by Qwen's and Mistral's tokens together."""
    write_checkpoint(folder, planted(MAX_ROWS, HIDDEN_SIZE, [list(range(100, 1_100)), [7, 200_000], [5, 6, 250_000]]))
    write_both(folder / "tekken.json")


def many_holes(folder: Path) -> None:
    """151,936 rows with 5,000 holes."""
    write_checkpoint(folder, planted(QWEN_ROWS, HIDDEN_SIZE, [[n, 100_000 + n] for n in range(5_000)]))
    file, name, _ = FILES["Qwen, tiktoken"]
    (folder / name).write_bytes(file.read_bytes())


CHECKPOINTS: Final = (qwen, many_rows, many_holes)


@dataclass(frozen=True)
class Measured:
    """One visit, in milliseconds."""

    first_paint: float
    drawn: float
    """Until all tables and pictures are there."""
    search: float
    """From the last letter to the painted answer, with the wait for more letters."""
    sort: float
    frame: float
    """The median of the frames while the table of tokens scrolls."""
    longest_frame: float


FIRST_PAINT: Final = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
DRAWN: Final = "() => performance.now()"
SEARCH: Final = """async (text) => {
    const output = document.querySelector("#tokens output");
    const input = document.querySelector("#tokens input[type=search]");
    input.focus();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const before = output.textContent;
    const begin = performance.now();
    input.value = text;
    input.dispatchEvent(new Event("input"));
    while (output.textContent === before) await new Promise(requestAnimationFrame);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const took = performance.now() - begin;
    input.value = "";
    input.dispatchEvent(new Event("input"));
    while (output.textContent !== before) await new Promise(requestAnimationFrame);
    return took;
}"""
SORT: Final = """async () => {
    const button = document.querySelector("#tokens [data-name=norm] button");
    const begin = performance.now();
    button.click();
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return performance.now() - begin;
}"""
FRAMES: Final = """async () => {
    const box = document.querySelector("#tokens .grid-box");
    box.scrollIntoView({ block: "center", behavior: "instant" });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const times = [];
    let last = await new Promise(requestAnimationFrame);
    for (let n = 0; n < 120; n++) {
        box.scrollTop += n < 60 ? 40 : box.scrollHeight / 70;
        const now = await new Promise(requestAnimationFrame);
        times.push(now - last);
        last = now;
    }
    return times.sort((a, b) => a - b);
}"""


def main() -> None:
    """Print a row a page."""
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        titles = [field.name.replace("_", " ") + ", ms" for field in fields(Measured)]
        print("| " + " | ".join(["page", "MB", *titles]) + " |")
        print("|---" * (len(titles) + 2) + "|")
        for write in CHECKPOINTS:
            page = report(write, Path(folder or scratch))
            visits = [measured(browser, page) for _ in range(ROUNDS)]
            numbers = [median(getattr(visit, field.name) for visit in visits) for field in fields(Measured)]
            cells = [str(write.__doc__), f"{page.stat().st_size / 1e6:.1f}", *(f"{number:.0f}" for number in numbers)]
            print("| " + " | ".join(cells) + " |", flush=True)


def report(write: Callable[[Path], None], folder: Path) -> Path:
    """The report of a checkpoint, which is surveyed unless it has been."""
    name = write.__name__.replace("_", "-")
    checkpoint, output = folder / "checkpoints" / name, folder / "surveys"
    if not (output / "local" / name).exists():
        write(checkpoint)
        run_job(checkpoint, "--output", output)
    (page,) = (output / "local" / name).glob("*/report.html")
    return page


def measured(browser: Browser, path: Path) -> Measured:
    """Open a page in a new profile, and use it."""
    with visiting(browser, path.as_uri()) as visit:
        page = visit.page
        page.locator("html[data-drawn]").wait_for(state="attached")
        drawn = page.evaluate(DRAWN)
        frames = page.evaluate(FRAMES)
        return Measured(
            first_paint=page.evaluate(FIRST_PAINT),
            drawn=drawn,
            search=page.evaluate(SEARCH, "ing"),
            sort=page.evaluate(SORT),
            frame=median(frames),
            longest_frame=frames[-1],
        )


if __name__ == "__main__":
    main()
