"""The page of results, as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.requirements import GB, Requirement, requirements
from benchmarks.results import Key, Medians, Results, Run

INTRODUCTION = """\
# Results

Written by `make bench`: everything below was measured side by side in one run, in rounds that take turns. Each figure
is the median of its rounds. [How it is measured](../docs/method.md#how-each-figure-is-measured).
"""


def page(results: Results, machine: Mapping[str, str], measured: str) -> str:
    """The whole page. ``measured``: which versions, and how often."""
    medians = results.medians()
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    parts = [INTRODUCTION, measured, "", facts, "", "## What is required", ""]
    parts += markdown(["required", "at most", "found", "÷ allowed", "met"], map(_requirement, requirements(medians)))
    parts += ["", "## Ratios", "", LEGEND, ""]
    parts += markdown(HEADINGS, _lines(medians))
    parts += ["", "## Many small models, and requests", "", MANY_LEGEND, ""]
    parts += markdown(MANY_HEADINGS, _many_lines(medians))
    if results.left_out:
        parts += ["", "## Left out", "", *(f"- {line}" for line in results.left_out)]
    return "\n".join(parts) + "\n"


def markdown(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table whose columns stand below each other; all but the first are set to the right."""
    rows = [list(headings), *map(list, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in [rows[0], rule, *rows[1:]]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield f"| {' | '.join(cells)} |"


def _requirement(line: Requirement) -> list[str]:
    unit = f" {line.unit}" if line.unit else ""
    met = "yes" if line.ratio <= 1 else "no"
    return [line.what, f"{line.limit:.4g}{unit}", f"{line.found:.3g}{unit}", f"{line.ratio:.2f}", met]


LEGEND = """\
Peak memory is that of the largest process, and of all processes together. A ratio says how many times the time, or the
peak, of the script (with the same tensors) or of the plain copy it is."""
HEADINGS = (
    *("W", "from → to", "who", "seconds", "core-seconds", "peak MB", "all MB"),
    *("× script", "× copy", "peak × script", "core-s beyond copy, a GB"),
)


def _lines(medians: Medians) -> Iterator[list[str]]:
    for key, run in sorted(medians.items(), key=lambda item: item[0].w_nbytes):
        if not key.w_nbytes:
            continue
        script = medians.get(Key("folder → folder", "script", key.w_nbytes, key.few))
        copy = medians.get(Key("folder → folder", "plain copy", key.w_nbytes))
        beyond = (run.cpu - copy.cpu) / (key.w_nbytes / GB) if copy else None
        yield [
            f"{key.w_nbytes / GB:.2f} GB",
            key.route,
            key.who + (", mu and black holes" if key.few else ""),
            *_figures(run),
            _ratio(run.wall, script.wall if script else None),
            _ratio(run.wall, copy.wall if copy else None),
            _ratio(run.peak, script.peak if script else None),
            "" if beyond is None or key.few or key.who == "plain copy" else f"{beyond:.2f}",
        ]


MANY_LEGEND = (
    "Each small model has a W of 66 kB. Requests for the bytes of a file's header are counted apart from those for W's."
)
MANY_HEADINGS = (
    *("from → to", "who", "seconds", "core-seconds", "peak MB", "all MB"),
    *("first byte, s", "Hub", "headers", "store"),
)


def _many_lines(medians: Medians) -> Iterator[list[str]]:
    for key, run in medians.items():
        if key.w_nbytes:
            continue
        counted = (run.hub_requests, run.header_requests, run.store_requests)
        requests = [f"{number:.1f}" for number in counted] if key.route.startswith("Hub") else ["", "", ""]
        yield [key.route, key.who, *_figures(run), f"{run.first_byte:.2f}" if run.first_byte > 0 else "", *requests]


def _figures(run: Run) -> list[str]:
    return [f"{run.wall:.2f}", f"{run.cpu:.2f}", f"{run.peak / 1e6:.0f}", f"{run.peak_of_all / 1e6:.0f}"]


def _ratio(found: float, ruler: float | None) -> str:
    return f"{found / ruler:.2f}" if ruler else ""
