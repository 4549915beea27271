"""The page that shows how two surveys differ, ``changes.html``. It needs no script."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from job.differences.schema import NORMS, DifferentToken, NormsDifference, SurveyDifference
from job.report.comparison import FATE_TEXTS, NORM_TITLES, facts, headline, hole_numbers, number_text, signed
from job.report.pages.document import Page, page_bytes, template
from job.report.wording import CLASS_TITLES

_MAX_EVENTS: Final = 200
_MAX_TOKENS: Final = 200
"""How many of each list are on the page; the JSON has more."""

_WIDTH, _HEIGHT = 720, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
"""The picture, and its margins, in pixels."""


@dataclass(frozen=True)
class _Bar:
    """A bar of a histogram, in pixels, and what it says."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class _Histogram:
    """The changes of norms as a picture: bars on a logarithmic axis, since most norms hardly change."""

    bars: tuple[_Bar, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    says: str


def compare_page(difference: SurveyDifference, root: str | None = None) -> bytes:
    """The page. ``root``: the way from where it will lie to OUTPUT, for links; None if nobody knows it."""
    norms = difference["norms"]
    pictures = {name: _histogram(norms[name]) for name in NORMS} if norms else {}
    a, b = difference["a"], difference["b"]
    body = template("compare.html.j2").render(
        d=difference,
        root=root,
        headline=headline(difference),
        class_titles=CLASS_TITLES,
        facts=facts(difference),
        fates=FATE_TEXTS,
        norm_titles=NORM_TITLES,
        pictures=pictures,
        frame={"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "top": _TOP, "bottom": _HEIGHT - _BOTTOM},
        max_events=_MAX_EVENTS,
        max_tokens=_MAX_TOKENS,
        number_text=number_text,
        signed=signed,
        hole_numbers=hole_numbers,
        token_ids=_token_ids,
    )
    title = f"{a['model']} and {b['model']}" if a["model"] != b["model"] else b["model"]
    return page_bytes(Page(f"What changed: {title}", body, styles=("page.css", "compare.css")))


def _token_ids(token: DifferentToken) -> str:
    """A token's id; both, if it has another one in B."""
    a, b = token["a"], token["b"]
    return f"{a} → {b}" if a is not None and b is not None and a != b else str(b if a is None else a)


def _histogram(norms: NormsDifference) -> _Histogram | None:
    edges, counts = norms["edges"], norms["counts"]
    if not counts:
        return None
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    reach, most = edges[-1], max(counts)
    top = math.log10(most) + 0.3
    bottom = _HEIGHT - _BOTTOM

    def x(change: float) -> float:
        return round(_LEFT + width * (change + reach) / (2 * reach), 2)

    def y(count: float) -> float:
        """One row is a little above the axis, so that it is seen."""
        return round(bottom - height * (math.log10(count) + 0.3) / (top + 0.3), 2)

    def bars() -> Iterator[_Bar]:
        for begin, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
            if count:
                says = f"{signed(begin)} to {signed(end)}: {count:,} {'row' if count == 1 else 'rows'}"
                yield _Bar(x(begin), y(count), round(x(end) - x(begin), 2), round(bottom - y(count), 2), says)

    powers = [10**power for power in range(math.floor(math.log10(most)) + 1)]
    return _Histogram(
        tuple(bars()),
        x_ticks=tuple((x(change), signed(change)) for change in (-reach, -reach / 2, 0.0, reach / 2, reach)),
        y_ticks=tuple((y(count), f"{count:,}") for count in powers[:: max(1, math.ceil(len(powers) / 4))]),
        says=f"Histogram of the changes of {norms['rows']:,} norms, from {signed(-reach)} to {signed(reach)}",
    )
