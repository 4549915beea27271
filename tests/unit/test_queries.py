"""Queries: what parses prints back, what does not says what was expected, and which names they admit."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import ConfigError
from job.models.lists import parse_entry, parse_line, read_list
from job.models.queries import ModelQuery, parse_query
from job.models.references import ModelRef

WHOLE = (
    "hub?author=Qwen&name=Qwen3&task=text-generation&since=2026-10-01&sort=downloads&limit=20"
    "&exclude=*-GGUF&exclude=*-AWQ"
)

QUERIES = {
    "whole": (
        WHOLE,
        ModelQuery(
            "Qwen",
            "Qwen3",
            "text-generation",
            since=date(2026, 10, 1),
            sort="downloads",
            limit=20,
            exclude=("*-GGUF", "*-AWQ"),
        ),
    ),
    "collection": ("hub?collection=org/slug-0123abc", ModelQuery(collection="org/slug-0123abc")),
    "days": ("hub?since=30d", ModelQuery(since=timedelta(days=30))),
    "trending": ("hub?sort=trending&limit=5", ModelQuery(sort="trending", limit=5)),
    "patterns": ("hub?author=a&exclude=[!b]?/c*", ModelQuery("a", exclude=("[!b]?/c*",))),
    "adapters": ("hub?author=a&follow_base=true", ModelQuery("a", follow_base=True)),
}


@pytest.mark.parametrize(("text", "query"), QUERIES.values(), ids=QUERIES)
def test_a_query_parses_and_prints_back(text: str, query: ModelQuery) -> None:
    assert parse_query(text) == query
    assert str(query) == text


@given(
    st.builds(
        ModelQuery,
        author=st.from_regex(r"[A-Za-z0-9]{1,9}", fullmatch=True),
        name=st.none() | st.from_regex(r"[A-Za-z0-9._-]{1,9}", fullmatch=True),
        task=st.none() | st.just("text-generation"),
        collection=st.none() | st.from_regex(r"[a-z]{1,9}/[a-z0-9-]{1,9}", fullmatch=True),
        since=st.none() | st.dates() | st.integers(0, 9999).map(lambda days: timedelta(days=days)),
        sort=st.sampled_from([None, "created", "downloads", "trending"]),
        limit=st.none() | st.integers(1, 1000),
        exclude=st.lists(st.from_regex(r"[A-Za-z0-9._/*?\[\]!-]+", fullmatch=True)).map(tuple),
        follow_base=st.booleans(),
    )
)
def test_every_query_survives_the_round_trip_as_one_entry_of_a_line(query: ModelQuery) -> None:
    assert parse_line(str(query), "MODELS") == [query]


NO_QUERIES = {
    "nothing": ("hub?", "matches every model of the Hub"),
    "everything": ("hub?sort=downloads&exclude=*", "matches every model of the Hub, expected an author"),
    "unknown-key": ("hub?author=a&dtype=BF16", "found 'dtype', expected any of author, name"),
    "twice": ("hub?author=a&author=b", "found author twice"),
    "empty": ("hub?author=", "author is empty"),
    "no-value": ("hub?author", "expected hub.key=value&key=value"),
    "author": ("hub?author=../x", "author is '../x', expected a user or an organisation"),
    "name": ("hub?name=a/b", "name is 'a/b', expected a part of a name without its author"),
    "task": ("hub?task=Text Generation", "task is 'Text Generation'.* such as text-generation"),
    "collection": ("hub?collection=slug", "collection is 'slug', expected org/slug-id"),
    "since": ("hub?since=yesterday", "since is 'yesterday', expected a date such as 2026-10-01"),
    "no-such-day": ("hub?since=2026-02-30", "since is '2026-02-30', expected a date"),
    "sort": ("hub?author=a&sort=likes", "sort is 'likes', expected one of created, downloads, trending"),
    "limit-text": ("hub?limit=ten", "limit is 'ten', expected a whole number from 1 to 1000"),
    "limit-0": ("hub?limit=0", "limit is '0'"),
    "limit-large": ("hub?limit=1001", "limit is '1001'"),
    "truth": ("hub?author=a&follow_base=yes", "follow_base is 'yes', expected true or false"),
    "patterns": ("hub?author=a&exclude=*-GGUF,*-AWQ", r"exclude is '\*-GGUF,\*-AWQ', expected one pattern"),
    "no-text": ("hub?author=%FF", "expected hub.key=value&key=value"),
}


@pytest.mark.parametrize(("text", "message"), NO_QUERIES.values(), ids=NO_QUERIES)
def test_what_is_no_query_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"argument 1: 'hub.*' is not a query: .*({message})"):
        parse_entry(text, "argument 1")


def test_queries_and_references_stand_side_by_side_in_lists_of_every_kind(tmp_path: Path) -> None:
    query = ModelQuery("Qwen", since=date(2026, 10, 1), limit=7, exclude=("*-GGUF", "*-AWQ"))
    text = "hub?author=Qwen&since=2026-10-01&limit=7&exclude=*-GGUF&exclude=*-AWQ"
    assert parse_line(f"a/b, {text}", "MODELS") == [ModelRef("hub", "a/b"), query]
    (tmp_path / "list.txt").write_text(f"a/b\n{text}  # the new ones\n")
    (tmp_path / "list.yaml").write_text(
        "- a/b\n- query:\n    author: Qwen\n    name:\n    since: 2026-10-01\n    limit: 7\n"
        "    exclude: ['*-GGUF', '*-AWQ']\n- query: {author: x, exclude: '*-GGUF'}\n- " + text + "\n"
    )
    assert read_list(tmp_path / "list.txt") == [ModelRef("hub", "a/b"), query]
    other = ModelQuery("x", exclude=("*-GGUF",))
    assert read_list(tmp_path / "list.yaml") == [ModelRef("hub", "a/b"), query, other, query]


BAD_ENTRIES = {
    "unknown-key": ("- a/b\n- query: {author: a, dtype: b}\n", "line 2: not a query: found 'dtype'"),
    "key-twice": ("- query:\n    author: a\n    author: b\n", "line 1: not a query: found author twice"),
    "no-mapping": ("- query: a\n", "line 1: 'query' is not a mapping"),
    "list-of-authors": ("- query: {author: [a, b]}\n", "line 1: the query's 'author' is not a text"),
    "list-of-lists": ("- query: {author: a, exclude: [[b]]}\n", "line 1: the query's 'exclude' is not a text"),
    "key-is-a-list": ("- query: {? [a] : b}\n", "line 1: the query's .* is not a text"),
    "with-a-model": ("- query: {author: a}\n  model: a/b\n", "line 1: found an entry with"),
    "with-an-option": ("- query: {author: a}\n  tensor: x\n", "line 1: found an entry with"),
    "as-a-model": ("- model: hub?author=a\n", "line 1: 'hub.author=a' is not a model reference"),
    "text": ("- a/b\n- hub?author=a&limit=x\n", "line 2: 'hub.*' is not a query: limit is 'x'"),
}


@pytest.mark.parametrize(("content", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_bad_query_in_a_list_is_a_config_error_that_names_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "list.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_list(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("query", "repo_id", "matches"),
    [
        (ModelQuery("Qwen"), "qwen/Qwen3-4B", True),
        (ModelQuery("Qwen"), "Qwen2/Qwen3-4B", False),
        (ModelQuery(name="qwen3"), "org/My-Qwen3", True),
        (ModelQuery(name="qwen3"), "qwen3/other", False),
        (ModelQuery("a", exclude=("*-gguf",)), "a/b-GGUF", False),
        (ModelQuery("a", exclude=("a/*",)), "a/b", False),
        (ModelQuery("a", exclude=("a*",)), "a/b", True),
        (ModelQuery("a", exclude=("b/*",)), "a/b", True),
        (ModelQuery(limit=1), "gpt2", False),
        (ModelQuery(limit=1), "../escape", False),
        (ModelQuery(limit=1), "a/b@c", False),
    ],
)
def test_a_query_matches_names_by_author_and_part_of_the_name_but_for_exclusions(
    query: ModelQuery, repo_id: str, matches: bool
) -> None:
    assert query.matches_name(repo_id) is matches


def test_a_release_counts_from_the_beginning_of_its_day_and_days_are_counted_from_the_run() -> None:
    today = date(2026, 3, 1)
    assert ModelQuery("a").earliest(today) is None
    assert ModelQuery(since=date(2026, 2, 3)).earliest(today) == datetime(2026, 2, 3, tzinfo=UTC)
    assert ModelQuery(since=timedelta(days=1)).earliest(today) == datetime(2026, 2, 28, tzinfo=UTC)
