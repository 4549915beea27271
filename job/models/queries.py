"""Which models of the Hub a query asks for: parsed from a text, printed back to the same text. Nothing is looked up."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, quote, urlencode

from job.models.references import HUB_NAME, HUB_PART, ModelRef

Sort = Literal["created", "downloads", "trending"]

KEYS: Final = ("author", "name", "task", "collection", "since", "sort", "limit", "exclude", "follow_base")
"""What a query may say, in the order in which it is printed."""

MAX_MATCHES: Final = 1_000
"""Models that a query may find: more than that was hardly meant."""

_PREFIX: Final = "hub?"


@dataclass(frozen=True)
class ModelQuery:
    """Models of the Hub by what they have in common. What is None does not matter."""

    author: str | None = None
    """A user or an organisation."""
    name: str | None = None
    """Part of the name without the author, in upper or lower case."""
    task: str | None = None
    """As the Hub names it, such as ``text-generation``."""
    collection: str | None = None
    """``org/slug-id``, as in the collection's address."""
    since: date | timedelta | None = None
    """The first day of their release, or how many days before the run that is."""
    sort: Sort | None = None
    """Which come first: the newest, the most downloaded, the most talked about. None: the newest, or a collection's own
    order."""
    limit: int | None = None
    """So many at most, and they are the first."""
    exclude: tuple[str, ...] = ()
    """Shell patterns of names; with a slash, of ``org/name``."""
    follow_base: bool = False
    """Whether, where one is an adapter, the model that it adapts is surveyed instead."""

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
        said = {key: value for key, value in fields.items() if value is not None}
        # Not a comma, which parts the entries of a line.
        return _PREFIX + urlencode(said, doseq=True, quote_via=quote, safe="/*?[]!")

    def earliest(self, today: date) -> datetime | None:
        """The moment from which on a release counts."""
        if self.since is None:
            return None
        day = today - self.since if isinstance(self.since, timedelta) else self.since
        return datetime.combine(day, time(), UTC)

    def admits(self, repo_id: str) -> bool:
        """Whether a repository is asked for, as far as its name says. One without an owner cannot be filed."""
        if not HUB_NAME.fullmatch(repo_id):
            return False
        full = repo_id.lower()
        owner, _, name = full.partition("/")
        return (
            (self.author is None or self.author.lower() == owner)
            and (self.name is None or self.name.lower() in name)
            and not any(fnmatchcase(full if "/" in pattern else name, pattern.lower()) for pattern in self.exclude)
        )


Entry: TypeAlias = ModelRef | ModelQuery
"""What a list of models is made of."""


def is_query(text: str) -> bool:
    """Whether a text is meant as a query; no reference begins as one does."""
    return text.startswith(_PREFIX)


def parse_query(text: str) -> ModelQuery:
    """The query that a text stands for.

    Raises:
        ValueError: the text is not a query; the message says what was expected.
    """
    try:
        fields = parse_qsl(text.removeprefix(_PREFIX), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise ValueError("expected hub?key=value&key=value") from error
    return query_of(fields)


def query_of(fields: Iterable[tuple[str, str]]) -> ModelQuery:
    """The query that says these things; ``exclude`` may be said more than once.

    Raises:
        ValueError: a key or a value that no query has, or nothing that chooses models.
    """
    said: dict[str, str] = {}
    exclude: list[str] = []
    for key, value in fields:
        if key not in KEYS:
            raise ValueError(f"found {key!r}, expected any of {', '.join(KEYS)}")
        if key in said:
            raise ValueError(f"{key} was given twice; keep one")
        if not value.strip():
            raise ValueError(f"{key} is empty; give it a value or remove it")
        if key == "exclude":
            if not re.fullmatch(r"[A-Za-z0-9._/*?\[\]!-]+", value):
                raise ValueError(
                    f"exclude is {value!r}, expected one pattern such as *-GGUF; repeat exclude for others"
                )
            exclude.append(value)
        else:
            said[key] = value
    if not said.keys() & {"author", "name", "task", "collection", "since", "limit"}:
        raise ValueError("it asks for every model there is; give an author, name, task, collection, since or limit")
    return ModelQuery(
        author=_matching(said, "author", HUB_PART, "a user or an organisation"),
        name=_matching(said, "name", r"[A-Za-z0-9._-]{1,96}", "part of a name without its author"),
        task=_matching(said, "task", r"[a-z0-9]+(-[a-z0-9]+)*", "a task of the Hub, such as text-generation"),
        collection=_matching(said, "collection", r"[\w.-]+/[\w.-]+", "org/slug-id, as in its address"),
        since=_since(said.get("since")),
        sort=_sort(said.get("sort")),
        limit=_limit(said.get("limit")),
        exclude=tuple(exclude),
        follow_base=_truth(said.get("follow_base", "false")),
    )


def _matching(said: dict[str, str], key: str, pattern: str, expected: str) -> str | None:
    value = said.get(key)
    if value is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(f"{key} is {value!r}, expected {expected}")
    return value


def _since(text: str | None) -> date | timedelta | None:
    if text is None:
        return None
    if days := re.fullmatch(r"([0-9]{1,4})d", text):
        return timedelta(days=int(days[1]))
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # such as the 30th of February
    raise ValueError(f"since is {text!r}, expected a day such as 2026-10-01 or a number of days such as 30d")


def _sort(text: str | None) -> Sort | None:
    for sort in get_args(Sort):
        if text == sort:
            found: Sort = sort
            return found
    if text is not None:
        raise ValueError(f"sort is {text!r}, expected one of {', '.join(get_args(Sort))}")
    return None


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_MATCHES:
        raise ValueError(f"limit is {text!r}, expected a whole number from 1 to {MAX_MATCHES}")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"follow_base is {text!r}, expected true or false")
    return text.lower() == "true"
