"""A query for models of the Hub: parsed from a text and printed back to the same text. Does not ask the Hub."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, quote, urlencode

from job.models.references import HUB_NAME, HUB_PART, ModelRef, parse_follow_base
from job.models.revisions import ModelRevisions

Sort = Literal["created", "downloads", "trending"]

KEYS: Final = ("author", "name", "task", "collection", "since", "sort", "limit", "exclude", "follow_base")
"""The keys of a query, in the order in which they are printed."""

MAX_MATCHES: Final = 1_000
"""How many models a query may find. A query that finds more is probably a mistake."""

_PREFIX: Final = "hub?"


@dataclass(frozen=True)
class ModelQuery:
    """Conditions on models of the Hub. A field that is None is no condition."""

    author: str | None = None
    """A user or an organisation."""
    name: str | None = None
    """A part of the name without the author. Upper and lower case are the same."""
    task: str | None = None
    """The Hub's name of the task, such as ``text-generation``."""
    collection: str | None = None
    """``org/slug-id``, as in the collection's address."""
    since: date | timedelta | None = None
    """The earliest release date, or its distance from the day of the run."""
    sort: Sort | None = None
    """The order of the models: the newest, most downloaded or trending ones first. None: the newest first, or the
    collection's own order."""
    limit: int | None = None
    """The maximum number of models. The first ones in the order are kept."""
    exclude: tuple[str, ...] = ()
    """Shell patterns. A pattern with a slash is compared with ``org/name``, any other with the name alone."""
    follow_base: bool = False
    """Whether to survey an adapter's base model instead of the adapter."""

    def __str__(self) -> str:
        since = f"{self.since.days}d" if isinstance(self.since, timedelta) else self.since
        fields = {
            "author": self.author,
            "name": self.name,
            "task": self.task,
            "collection": self.collection,
            "since": since,
            "sort": self.sort,
            "limit": self.limit,
            "exclude": self.exclude,
            "follow_base": "true" if self.follow_base else None,
        }
        present = {key: value for key, value in fields.items() if value is not None}
        # A comma is not safe, because it separates the entries of a line.
        return _PREFIX + urlencode(present, doseq=True, quote_via=quote, safe="/*?[]!")

    def earliest(self, today: date) -> datetime | None:
        """The earliest release time that matches, if the run is ``today``; None if every time matches."""
        if self.since is None:
            return None
        day = today - self.since if isinstance(self.since, timedelta) else self.since
        return datetime.combine(day, time(), UTC)

    def matches_name(self, repo_id: str) -> bool:
        """Whether a repository's name fits the query. A name without an owner never does: it cannot be filed."""
        if not HUB_NAME.fullmatch(repo_id):
            return False
        full = repo_id.lower()
        owner, _, name = full.partition("/")
        return (
            (self.author is None or self.author.lower() == owner)
            and (self.name is None or self.name.lower() in name)
            and not any(fnmatchcase(full if "/" in pattern else name, pattern.lower()) for pattern in self.exclude)
        )


Entry: TypeAlias = ModelRef | ModelRevisions | ModelQuery
"""An entry of a list of models."""


def is_query(text: str) -> bool:
    """Whether a text is meant as a query. No reference begins like a query."""
    return text.startswith(_PREFIX)


def parse_query(text: str) -> ModelQuery:
    """The query that a text stands for.

    Raises:
        ValueError: the text is not a query; the message says what is expected.
    """
    try:
        fields = parse_qsl(text.removeprefix(_PREFIX), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise ValueError("expected hub?key=value&key=value") from error
    return build_query(fields)


def build_query(fields: Iterable[tuple[str, str]]) -> ModelQuery:
    """The query with these keys and values. Only ``exclude`` may be repeated.

    Raises:
        ValueError: a key or a value is not allowed, or no key selects models.
    """
    values: dict[str, str] = {}
    exclude: list[str] = []
    for key, value in fields:
        if key not in KEYS:
            raise ValueError(f"found {key!r}, expected any of {', '.join(KEYS)}")
        if key in values:
            raise ValueError(f"found {key} twice, expected it once; remove one")
        if not value.strip():
            raise ValueError(f"{key} is empty, expected a value; give one or remove the key")
        if key == "exclude":
            if not re.fullmatch(r"[A-Za-z0-9._/*?\[\]!-]+", value):
                raise ValueError(
                    f"exclude is {value!r}, expected one pattern such as *-GGUF; repeat exclude for more patterns"
                )
            exclude.append(value)
        else:
            values[key] = value
    if not values.keys() & {"author", "name", "task", "collection", "since", "limit"}:
        raise ValueError(
            "it matches every model of the Hub, expected an author, name, task, collection, since or limit; add one"
        )
    return ModelQuery(
        author=_checked_text(values, "author", HUB_PART, "a user or an organisation"),
        name=_checked_text(values, "name", r"[A-Za-z0-9._-]{1,96}", "a part of a name without its author"),
        task=_checked_text(values, "task", r"[a-z0-9]+(-[a-z0-9]+)*", "a task of the Hub, such as text-generation"),
        collection=_checked_text(values, "collection", r"[\w.-]+/[\w.-]+", "org/slug-id, as in its address"),
        since=_parse_since(values.get("since")),
        sort=_parse_sort(values.get("sort")),
        limit=_parse_limit(values.get("limit")),
        exclude=tuple(exclude),
        follow_base=parse_follow_base(values.get("follow_base", "false")),
    )


def _checked_text(values: dict[str, str], key: str, pattern: str, expected: str) -> str | None:
    value = values.get(key)
    if value is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(f"{key} is {value!r}, expected {expected}")
    return value


def _parse_since(text: str | None) -> date | timedelta | None:
    if text is None:
        return None
    if days := re.fullmatch(r"([0-9]{1,4})d", text):
        return timedelta(days=int(days[1]))
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # such as the 30th of February
    raise ValueError(f"since is {text!r}, expected a date such as 2026-10-01 or a number of days such as 30d")


def _parse_sort(text: str | None) -> Sort | None:
    sorts: tuple[Sort, ...] = get_args(Sort)
    for sort in sorts:
        if text == sort:
            return sort
    if text is not None:
        raise ValueError(f"sort is {text!r}, expected one of {', '.join(sorts)}")
    return None


def _parse_limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_MATCHES:
        raise ValueError(f"limit is {text!r}, expected a whole number from 1 to {MAX_MATCHES}")
    return int(text)
