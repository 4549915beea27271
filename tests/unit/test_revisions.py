"""Patterns of revisions in a list: what they parse to, what they match, in which order, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import ConfigError
from job.models.lists import parse_line, read_list
from job.models.references import ModelRef
from job.models.revisions import ModelRevisions, NamedCommit, expand, natural_order
from job.runs.pinned_list import Assignment, PinnedList, parse_pinned_list, pinned_list_as_bytes


def commit(number: int) -> str:
    return f"{number:040x}"


LISTED = [NamedCommit("main", "refs/heads/main", commit(10))]
LISTED += [NamedCommit(f"step{n}", f"refs/heads/step{n}", commit(n)) for n in (10, 2, 1, 100)]
LISTED += [NamedCommit("Step1", "refs/heads/Step1", commit(7)), NamedCommit("v1", "refs/tags/v1", commit(2))]
LISTED += [NamedCommit("eval/step3", "refs/heads/eval/step3", commit(3))]
LISTED += [NamedCommit("refs/pr/1", "refs/pr/1", commit(11)), NamedCommit("refs/pr/step9", "refs/pr/step9", commit(9))]

EXPANDED: dict[str, tuple[list[str], list[list[str]]]] = {
    "numbers-as-numbers": (["step*"], [["step1"], ["step2"], ["step10"], ["step100"]]),
    "one-commit-once": (
        ["step*", "main"],
        [["step1"], ["step2"], ["step10", "main"], ["step100"]],
    ),
    "order-of-patterns": (["main", "v*", "step*"], [["main", "step10"], ["v1", "step2"], ["step1"], ["step100"]]),
    "case": (["S*"], [["Step1"]]),
    "slash": (["*step3"], [["eval/step3"]]),
    "set": (["step[12]"], [["step1"], ["step2"]]),
    "everything-but-pull-requests": (
        ["*"],
        [["Step1"], ["eval/step3"], ["main", "step10"], ["step1"], ["step2", "v1"], ["step100"]],
    ),
    "pull-requests-if-asked": (["refs/pr/*"], [["refs/pr/1"], ["refs/pr/step9"]]),
    "whole-names": (["refs/tags/*"], [["v1"]]),
    "whole-name": (["refs/heads/step2"], [["step2"]]),
    "commit": ([commit(1), "step1"], [[commit(1), "step1"]]),
}


@pytest.mark.parametrize(("patterns", "names"), EXPANDED.values(), ids=EXPANDED)
def test_patterns_stand_for_each_commit_once_with_all_its_names(patterns: list[str], names: list[list[str]]) -> None:
    model = ModelRef("hub", "org/name", tensor="x", note="a note")
    refs = expand(ModelRevisions(model, tuple(patterns)), LISTED)
    assert expand(ModelRevisions(model, tuple(patterns)), LISTED[::-1]) == refs, "the server's order does not count"
    assert [list(ref.revisions) for ref in refs] == names
    assert [ref.revision for ref in refs] == [of_commit[0] for of_commit in names]
    assert {(ref.location, ref.tensor, ref.note) for ref in refs} == {("org/name", "x", "a note")}
    commits = {named.name: named.commit for named in LISTED} | {commit(1): commit(1)}
    assert [ref.commit for ref in refs] == [commits[of_commit[0]] for of_commit in names]


def test_what_is_not_listed_stays_as_it_is_and_without_a_commit() -> None:
    refs = expand(ModelRevisions(ModelRef("hub", "a/b"), ("none*", "step1", "gone")), LISTED)
    assert [(ref.revision, ref.commit) for ref in refs] == [("none*", None), ("step1", commit(1)), ("gone", None)]


@given(st.lists(st.integers(0, 10**30), unique=True), st.text("abc/-", max_size=3))
def test_names_that_count_up_are_in_the_order_of_their_numbers(numbers: list[int], tail: str) -> None:
    in_order = sorted((f"step{number}{tail}" for number in numbers), key=natural_order)
    assert in_order == [f"step{number}{tail}" for number in sorted(numbers)]


@given(st.lists(st.text("a0129-", min_size=1), unique=True))
def test_the_order_of_names_is_total(names: list[str]) -> None:
    assert len(set(map(natural_order, names))) == len(names), "no two names are equal in it"
    sorted(names, key=natural_order)  # each can be compared with each


def test_a_number_of_any_length_is_ordered() -> None:
    assert sorted(["a" + "9" * 9_999, "a1"], key=natural_order)[0] == "a1"


def test_an_entry_of_a_list_gives_patterns_and_what_holds_for_all_revisions(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(
        '- model: org/name\n  revisions: ["step*", main, 1.10]\n  tensor: lm_head.weight\n  note: odd\n'
        "- {model: /hub/models--org--name, revisions: v*, file: x}\n- {model: a/b, revisions: ~}\n"
    )
    assert read_list(tmp_path / "list.yaml") == [
        ModelRevisions(
            ModelRef("hub", "org/name", tensor="lm_head.weight", note="odd"),
            ("step*", "main", "1.10"),
        ),
        ModelRevisions(ModelRef("folder", "/hub/models--org--name", file="x"), ("v*",)),
        ModelRef("hub", "a/b"),
    ]


BAD_ENTRIES = {
    "both": ("- {model: a/b, revision: x, revisions: [y]}\n", r"found the revision 'x' and 'revisions', expected one"),
    "both-by-reference": ("- {model: a/b@x, revisions: [y]}\n", r"line 1: 'a/b': found the revision 'x'"),
    "empty": ("- {model: a/b, revisions: []}\n", r"'revisions' is empty, expected one or more"),
    "empty-text": ("- {model: a/b, revisions: ['']}\n", r"found the revision '', expected a branch"),
    "null": ("- {model: a/b, revisions: [x, ~]}\n", r"'revisions' is not a list of texts"),
    "list-of-lists": ("- {model: a/b, revisions: [[x]]}\n", r"'revisions' is not a list of texts"),
    "mapping": ("- {model: a/b, revisions: {x: y}}\n", r"'revisions' is not a list of texts"),
    "blank": ("- {model: a/b, revisions: ['a b']}\n", r"found 'a b' in 'revisions'"),
    "nul": ('- {model: a/b, revisions: ["a\\0"]}\n', r"found 'a\\x00' in 'revisions'"),
    "dots": ("- {model: a/b, revisions: ['../*']}\n", r"found the revision '../\*'"),
    "folder": (
        "- {model: ./x, revisions: ['*']}\n",
        r"only models on the Hub and in its cache have revisions; write an",
    ),
    "s3": ("- {model: 's3://bucket/x', revisions: ['*']}\n", r"write an entry for each checkpoint"),
    "http": ("- {model: 'https://host/x', revisions: ['*']}\n", r"write an entry for each checkpoint"),
    "snapshot": (
        f"- {{model: /x/models--a--b/snapshots/{commit(1)}, revisions: ['*']}}\n",
        r"write an entry for each checkpoint",
    ),
    "of-a-query": ("- {query: {author: a}, revisions: ['*']}\n", r"line 1: found an entry with"),
    "pattern-as-revision": (
        "- {model: a/b, revision: 'x*'}\n",
        r"write patterns in a YAML list, as revisions: \['x\*'\]",
    ),
    "twice": ("- {model: a/b, revisions: [x], revisions: [y]}\n", r"'revisions' in line 1 and again in line 1"),
}


@pytest.mark.parametrize(("content", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_bad_entry_with_revisions_is_refused_with_what_to_do(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_list(tmp_path / "list.yaml")


def test_a_pattern_on_the_command_line_is_refused_with_where_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"'a/b@step\*' .* write patterns in a YAML list, as revisions: \['step\*'\]"):
        parse_line("a/b@step*", "MODELS")


def test_a_pinned_list_keeps_all_names_of_a_commit_and_their_order() -> None:
    refs = expand(ModelRevisions(ModelRef("hub", "a/b"), ("step*", "main")), LISTED)
    pinned = PinnedList("run", 1, "0", "now", tuple(Assignment(ref, 1, 0) for ref in refs))
    assert parse_pinned_list(pinned_list_as_bytes(pinned), "url").share(0) == refs
    for bad in (b'"revisions": 7', b'"revisions": [7]', b'"revisions": "step1"'):
        content = pinned_list_as_bytes(PinnedList("run", 1, "0", "now", (Assignment(ModelRef("hub", "a/b"), 1, 0),)))
        with pytest.raises(ConfigError, match="expected a pinned list"):
            parse_pinned_list(content.replace(b'"source"', bad + b', "source"'), "url")
