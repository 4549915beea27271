"""What became of black holes, with the tokens concerned."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from job.differences.holes import FATES, HoleEvent, Holes, compare_holes
from job.differences.ids import IdMap
from job.differences.published_data import PublishedSurvey, lacking
from job.differences.schema import (
    MAX_EVENTS,
    MAX_TOKENS_OF_EVENT,
    DifferentToken,
    HoleEventEntry,
    HolesDifference,
)
from job.differences.token_lists import TokenLists


def holes_entry(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap, lists: TokenLists, untold: list[str]
) -> HolesDifference | None:
    holes_a, holes_b = a.holes(), b.holes()
    if holes_a is None or holes_b is None:
        untold.append(f"what became of the black holes: {lacking('black_holes', a, b)}, and the manifest lists not all")
        return None
    changes = compare_holes(holes_a, holes_b, ids)
    changed_first = sorted(changes.events, key=lambda event: event.fate == "kept")
    return {
        "fates": {fate: sum(event.fate == fate for event in changes.events) for fate in FATES},
        "events": _events(changed_first[:MAX_EVENTS], holes_a, holes_b, lists),
        "entered": lists.list_b(changes.entered),
        "left": lists.list_a(changes.left),
        "unmapped_a": lists.list_a(changes.unmapped_a),
        "unmapped_b": lists.list_b(changes.unmapped_b),
    }


def _events(events: Sequence[HoleEvent], holes_a: Holes, holes_b: Holes, lists: TokenLists) -> list[HoleEventEntry]:
    first_a, first_b = _first_members(holes_a), _first_members(holes_b)

    def examples(event: HoleEvent) -> list[DifferentToken]:
        """The lowest numbers are those of the largest holes."""
        if event.b:
            return [lists.of_b(id) for id in first_b[event.b[0]]]
        return [lists.of_a(id) for id in first_a[event.a[0]]]

    return [
        {
            "fate": event.fate,
            "a": list(event.a),
            "b": list(event.b),
            "rows": [event.n_a, event.n_b],
            "entered": lists.list_b(event.entered, MAX_TOKENS_OF_EVENT),
            "left": lists.list_a(event.left, MAX_TOKENS_OF_EVENT),
            "examples": examples(event),
        }
        for event in events
    ]


def _first_members(holes: Holes, n_members: int = 8) -> list[list[int]]:
    """The first rows of each hole, by its number; of 0, none."""
    in_holes = np.flatnonzero(holes)
    order = in_holes[np.argsort(holes[in_holes], kind="stable")]
    ends = np.cumsum(np.bincount(holes[order], minlength=int(holes.max(initial=0)) + 1))
    return [[], *(order[begin:end][:n_members].tolist() for begin, end in pairwise(ends))]
