"""The page of results, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence

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
    parts = [INTRODUCTION, measured, "", *(f"- {name}: {value}" for name, value in machine.items())]
    for title, text, headings, lines in (
        ("What is required", "", REQUIRED_HEADINGS, [_requirement(line) for line in requirements(medians)]),
        ("Ratios", LEGEND, HEADINGS, list(_lines(medians))),
        ("Many small models, and requests", MANY_LEGEND, MANY_HEADINGS, list(_many_lines(medians))),
    ):
        if lines:
            parts += ["", f"## {title}", "", *([text, ""] if text else []), *markdown(headings, lines)]
    if results.left_out:
        parts += ["", "## Left out", "", *(f"- {line}" for line in results.left_out)]
    return "\n".join(parts) + "\n"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose cells stand below each other, figures to the right and words to the left."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    to_the_right = [all(cell[:1].isdigit() or not cell for cell in column) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, to_the_right, strict=True)]
    for row in [headings, rule, *lines]:
        cells = zip(row, widths, to_the_right, strict=True)
        yield f"| {' | '.join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)} |"


def _requirement(line: Requirement) -> list[str]:
    unit = f" {line.unit}" if line.unit else ""
    met = "yes" if line.ratio <= 1 else "no"
    return [line.what, f"{line.limit:.4g}{unit}", f"{line.found:.3g}{unit}", f"{line.ratio:.2f}", met]


REQUIRED_HEADINGS = ("required", "at most", "found", "÷ allowed", "met")
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
        script = medians.get(Key("folder → folder", "script", key.w_nbytes, key.tensors))
        copy = medians.get(Key("folder → folder", "plain copy", key.w_nbytes))
        beyond = (run.cpu - copy.cpu) / (key.w_nbytes / GB) if copy else 0.0
        yield [
            f"{key.w_nbytes / GB:.2f} GB",
            key.route,
            key.who + ("" if key.tensors == "all tensors" else f", {key.tensors}"),
            *_figures(run),
            _ratio(run.wall, script.wall if script else None),
            _ratio(run.wall, copy.wall if copy else None),
            _ratio(run.peak, script.peak if script else None),
            f"{beyond:.2f}" if beyond > 0 and key.tensors == "all tensors" else "",
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
        first_byte = "" if not run.first_byte or "further" in key.route else f"{run.first_byte:.2f}"
        yield [key.route, key.who, *_figures(run), first_byte, *requests]


def _figures(run: Run) -> list[str]:
    # A difference of two runs may be below 0.
    seconds = [f"{max(figure, 0.0):.2f}" if figure else "" for figure in (run.wall, run.cpu)]
    return [*seconds, f"{run.peak / 1e6:.0f}", f"{run.peak_of_all / 1e6:.0f}"]


def _ratio(found: float, ruler: float | None) -> str:
    return f"{found / ruler:.2f}" if found and ruler else ""
