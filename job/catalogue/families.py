"""What several surveys have in common: families over time, models with the same W, revisions of one model. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from job.catalogue.row import SurveyRow

MAX_HOLES: Final = 40
"""The number of holes of a family that are followed: those that most releases have."""


@dataclass(frozen=True)
class Release:
    """A model of a family, at its place in time."""

    row: int
    """The place of its survey among the rows."""
    date: str
    new_tokens: tuple[str, ...]
    """The tokens in its holes that are in no hole of an earlier release. All, of the first release."""
    n_gone: int
    """How many tokens are in a hole of the release before, and in none of this one."""
    is_whole: bool
    """Whether all tokens in holes are listed."""


@dataclass(frozen=True)
class FollowedHole:
    """A set of tokens that make up a hole, and the releases that have just this hole."""

    tokens: tuple[str, ...]
    first: int
    """The place of the first release with it among the family's releases."""
    n_releases: int


@dataclass(frozen=True)
class Family:
    """Models that are likely to share a tokenizer, in the order of their release."""

    name: str
    releases: tuple[Release, ...]
    holes: tuple[FollowedHole, ...]


def date_of(row: SurveyRow) -> str:
    """When a model was released, as far as it is known: else when its survey was published."""
    return row.released or row.published_at


def families(rows: Sequence[SurveyRow]) -> list[Family]:
    """The families with several models, each by the newest survey of its models. Those with holes come first,
    and of them the largest."""
    members = _groups(rows, lambda row: row.family if row.is_latest else None)
    found = [_family(name, rows, places) for name, places in members.items()]
    return sorted(found, key=lambda family: (not family.holes, -len(family.releases), family.name))


def same_w(rows: Sequence[SurveyRow]) -> list[list[int]]:
    """The places of surveys with the same W, of those W that several models have."""
    groups = _groups(rows, lambda row: row.w_sha256).values()
    return [places for places in groups if len({rows[place].model for place in places}) > 1]


def revisions(rows: Sequence[SurveyRow]) -> list[list[int]]:
    """The places of the surveys of each model with several commits, in their order."""
    groups = _groups(rows, lambda row: None if row.chosen_by_user else row.model).values()
    return [places for places in groups if len({rows[place].commit for place in places}) > 1]


def _groups(rows: Iterable[SurveyRow], key: Callable[[SurveyRow], str | None]) -> dict[str, list[int]]:
    """The places of the rows of each key, of those keys that several rows have."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if (name := key(row)) is not None:
            groups[name].append(place)
    return {name: places for name, places in groups.items() if len(places) > 1}


def _family(name: str, rows: Sequence[SurveyRow], places: Sequence[int]) -> Family:
    ordered = sorted(places, key=lambda place: (date_of(rows[place]), rows[place].model))
    releases = tuple(_releases(rows, ordered))
    holes = [list(_holes(rows[place])) for place in ordered]
    counts = Counter(hole for of_release in holes for hole in set(map(frozenset, of_release)))
    seen: dict[frozenset[str], FollowedHole] = {}
    for number, of_release in enumerate(holes):
        for tokens in of_release:
            seen.setdefault(frozenset(tokens), FollowedHole(tokens, number, counts[frozenset(tokens)]))
    followed = sorted(seen.values(), key=lambda hole: (-hole.n_releases, hole.first, -len(hole.tokens), hole.tokens))
    return Family(name, releases, tuple(followed[:MAX_HOLES]))


def _releases(rows: Sequence[SurveyRow], places: Sequence[int]) -> Iterator[Release]:
    seen, before = set[str](), set[str]()
    for place in places:
        row = rows[place]
        tokens = dict.fromkeys(row.hole_tokens)
        new = tuple(token for token in tokens if token not in seen)
        is_whole = len(row.hole_tokens) == row.black_hole_tokens
        yield Release(place, date_of(row), new, len(before - tokens.keys()), is_whole)
        seen |= tokens.keys()
        before = set(tokens)


def _holes(row: SurveyRow) -> Iterator[tuple[str, ...]]:
    """The tokens of the holes of which all are listed."""
    begin = 0
    for population, listed in zip(row.hole_populations, row.hole_listed, strict=True):
        if listed == population:
            yield row.hole_tokens[begin : begin + listed]
        begin += listed
