"""Comparing published surveys, from the command line to what is printed: real surveys of small checkpoints."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from rich.console import Console
from tokenizers.models import WordLevel
from typing_extensions import is_typeddict

import job.compare
from entrypoint import main
from job.differences import schema
from job.differences.holes import FATES
from job.differences.schema import SurveyDifference
from job.report.comparison import print_comparison
from tests.checkpoints import planted, write_checkpoint
from tests.documentation import DOCS, named_in_first_cells, section
from tests.surveys import survey

GROUPS = [[1, 2, 3], [10, 11], [20, 21], [30, 31, 32, 33], [40, 41]]
HOSTILE = ["<script>alert(1)</script>", "</script><!--", "nul\0", "\u202eltr", "=cmd()", "x" * 10_000, "[bold]b[/bold]"]


class Surveys:
    """An OUTPUT and what is compared in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.output, self.capsys = folder, folder / "out", capsys

    def add(
        self,
        w: torch.Tensor,
        vocabulary: Sequence[str] | None = None,
        *arguments: str,
        name: str = "model",
        n_tokens: int | None = None,
    ) -> dict[str, Any]:
        """Survey a W; with the vocabulary, or one of so many tokens."""
        checkpoint = write_checkpoint(self.folder / name, w, n_tokens=n_tokens)
        if vocabulary is not None:
            ids = {token: id for id, token in enumerate(vocabulary)}
            tokenizers.Tokenizer(WordLevel(ids, unk_token=vocabulary[0])).save(str(checkpoint / "tokenizer.json"))
        manifest = survey(checkpoint, self.output, *arguments)
        self.capsys.readouterr()
        return manifest

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status of a comparison, and what it prints."""
        status = main(["compare", "--output", str(self.output), *arguments])
        return status, self.capsys.readouterr().out

    def compare(self, *names: str, status: int = 1) -> dict[str, Any]:
        """A comparison as JSON."""
        found, printed = self.run("--format", "json", *names)
        assert found == status
        difference: dict[str, Any] = json.loads(printed)
        assert (difference["schema_version"], difference["changed"]) == (1, status == 1)
        return difference


@pytest.fixture
def surveys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Surveys:
    return Surveys(tmp_path, capsys)


def ids(tokens: Mapping[str, Any], side: str = "b") -> list[int]:
    assert tokens["count"] == len(tokens["tokens"])
    return [token[side] for token in tokens["tokens"]]


def events(difference: Mapping[str, Any]) -> list[tuple[str, list[int], list[int], list[int]]]:
    return [(one["fate"], one["a"], one["b"], one["rows"]) for one in difference["holes"]["events"]]


def test_the_same_w_under_another_commit_changed_nothing(surveys: Surveys) -> None:
    w = planted(60, 8, GROUPS)
    surveys.add(w, n_tokens=55)
    (surveys.folder / "model" / "README.md").write_text("another commit")
    second = surveys.add(w, n_tokens=55)
    difference = surveys.compare("local/model", status=0)
    assert difference["b"]["commit"] == second["commit"] != difference["a"]["commit"]
    assert difference["w"] == {**difference["w"], "same": True, "same_rows": 60, "compared_rows": 60}
    assert difference["holes"]["fates"]["kept"] == len(GROUPS) == sum(difference["holes"]["fates"].values())
    assert difference["centroid"]["shift"] == difference["centroid"]["angle_degrees"] == 0
    assert difference["norms"]["norm"]["changed"] == 0
    assert difference["cannot_be_told"] == []
    assert surveys.run("local/model")[1].startswith("Nothing changed\n")
    assert list(surveys.output.rglob("changes.html")) == []


def test_holes_that_grew_merged_split_appeared_and_vanished_are_told_with_their_tokens(surveys: Surveys) -> None:
    surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    after = [[1, 2, 3, 4], [10, 11, 20, 21], [30, 31], [32, 33], [50, 51]]
    w = planted(60, 8, after)
    w[57] *= 3
    surveys.add(w, n_tokens=55)
    difference = surveys.compare("local/model")
    assert events(difference) == [
        ("split", [1], [3, 4], [4, 4]),
        ("changed", [2], [1], [3, 4]),
        ("merged", [3, 4], [2], [4, 4]),
        ("appeared", [], [5], [0, 2]),
        ("vanished", [5], [], [2, 0]),
    ]
    holes = difference["holes"]
    assert (ids(holes["entered"]), ids(holes["left"], "a")) == ([4, 50, 51], [40, 41])
    assert holes["events"][1]["entered"]["tokens"] == [{"a": 4, "b": 4, "piece": "token4", "text": "token4"}]
    changed_rows = {4, 20, 21, 32, 33, 57, 40, 41, 50, 51}
    same = sum(torch.equal(x, y) for x, y in zip(planted(60, 8, GROUPS), w, strict=True))
    assert (difference["w"]["same_rows"], difference["w"]["compared_rows"]) == (same, 60)
    norms = difference["norms"]["norm"]
    before, now = (x.double().norm(dim=1).float() for x in (planted(60, 8, GROUPS), w))
    assert norms["most"][0] == {
        "token": {"a": 57, "b": 57, "piece": None, "text": None},
        "before": before[57].item(),
        "after": now[57].item(),
        "change": now[57].item() - before[57].item(),
    }
    assert {change["token"]["b"] for change in norms["most"]} <= changed_rows
    mu = [x.double().mean(dim=0).float().double() for x in (planted(60, 8, GROUPS), w)]
    assert difference["centroid"]["shift"] == pytest.approx((mu[1] - mu[0]).norm().item())


def test_ids_of_another_tokenizer_map_by_token(surveys: Surveys) -> None:
    vocabulary = [f"word{id}" for id in range(58)]
    surveys.add(planted(60, 8, [[1, 2], [30, 31]]), vocabulary)
    moved = [*vocabulary[50:58], *vocabulary[:49], "new"]  # word49 is gone, word0 is at 8
    w = planted(60, 8, [[57, 58]]) + 64  # rows that A has not, but for those copied below
    rows = planted(60, 8, [[1, 2], [30, 31]])
    w[8:57] = rows[:49]
    surveys.add(w, moved)
    difference = surveys.compare("local/model")
    assert (difference["tokenizer"]["same"], difference["ids"]["by"]) == (False, "token")
    assert (difference["ids"]["mapped"], difference["ids"]["moved"]) == (57, 57)
    assert [token["piece"] for side in ("only_a", "only_b") for token in difference["ids"][side]["tokens"]] == [
        *("word49", "new"),
    ]
    assert difference["ids"]["without_token"] == [2, 2]
    assert (difference["w"]["same_rows"], difference["w"]["compared_rows"]) == (49, 57)
    assert events(difference) == [("unmapped", [], [3], [0, 2]), ("kept", [1], [1], [2, 2]), ("kept", [2], [2], [2, 2])]
    assert ids(difference["holes"]["unmapped_b"]) == [57, 58]


def test_tokenizer_files_that_differ_in_nothing_about_tokens_are_no_change(surveys: Surveys) -> None:
    w = planted(60, 8, GROUPS)
    surveys.add(w, n_tokens=55)
    (surveys.folder / "model" / "tokenizer_config.json").write_text('{"chat_template": "another"}')
    surveys.add(w, n_tokens=55)
    difference = surveys.compare("local/model", status=0)
    assert difference["tokenizer"]["same_files"] is False
    assert difference["tokenizer"]["evidence"].endswith("each id has the same piece and bytes")


def test_rows_that_only_b_has_are_told(surveys: Surveys) -> None:
    surveys.add(planted(60, 8, [[1, 2]]), n_tokens=55)
    w = torch.cat((planted(60, 8, [[1, 2]]), planted(60, 8, [[1, 2]])[[1, 1, 5]]))
    surveys.add(w, n_tokens=55)
    difference = surveys.compare("local/model")
    assert (difference["ids"]["mapped"], ids(difference["ids"]["only_b"])) == (60, [60, 61, 62])
    assert difference["w"]["same_rows"] == difference["w"]["compared_rows"] == 60
    assert ids(difference["holes"]["unmapped_b"]) == [60, 61, 62]
    assert next(row for row in difference["statistics"] if row["name"] == "rows") == {"name": "rows", "a": 60, "b": 63}


def test_two_models_with_other_columns_are_compared_in_what_they_share(surveys: Surveys) -> None:
    surveys.add(planted(60, 8, GROUPS), n_tokens=55, name="small")
    surveys.add(planted(60, 16, GROUPS), n_tokens=55, name="large")
    difference = surveys.compare("local/small", "local/large")
    assert (difference["a"]["model"], difference["b"]["model"]) == ("local/small", "local/large")
    assert (difference["w"]["same"], difference["w"]["same_rows"], difference["centroid"]) == (False, None, None)
    assert difference["holes"]["fates"]["kept"] == len(GROUPS)
    assert difference["cannot_be_told"] == [
        "which rows of W are the same: A has rows of 8 columns, B of 16",
        "how far the centroid moved: the hidden sizes are 8 and 16",
    ]


def test_a_centroid_that_is_no_number_is_said_to_be_none_and_not_to_have_moved(surveys: Surveys) -> None:
    w = planted(60, 8, GROUPS)
    surveys.add(w, n_tokens=55)
    w[50, 3] = torch.nan
    surveys.add(w, n_tokens=50)
    difference = surveys.compare("local/model")
    assert difference["centroid"] is None
    assert difference["cannot_be_told"] == ["how far the centroid moved: mu of B holds a NaN or an infinity"]
    for printed in (surveys.run("local/model")[1], surveys.run("--format", "html", "local/model")[1]):
        assert "moved by" not in printed
        assert "beyond tokenizer" in printed
        assert "beyond_tokenizer" not in printed


def test_what_is_not_published_is_said_and_not_guessed(surveys: Surveys) -> None:
    surveys.add(planted(60, 8, GROUPS), None, "--tensors", "mu", n_tokens=55)
    surveys.add(planted(60, 8, [[1, 2]]), None, "--tensors", "W", n_tokens=50)
    difference = surveys.compare("local/model")
    assert [difference[part] for part in ("ids", "holes", "centroid", "norms", "classes", "valid_ids")] == [None] * 6
    assert difference["tokenizer"]["same"] is None
    assert difference["cannot_be_told"] == [
        "how ids map: the files of the tokenizer differ, and not both surveys publish their tokens "
        "(TENSORS with tokens does)",
        "how far the centroid moved: B does not publish mu",
    ]
    text = surveys.run("local/model")[1]
    assert text.startswith("Changed: W and the files of the tokenizer\n")
    assert text.count("Cannot be told") == 2


def test_a_survey_is_named_by_commit_revision_or_model_and_what_is_there_is_listed(
    surveys: Surveys, caplog: pytest.LogCaptureFixture
) -> None:
    commits = [surveys.add(planted(60, 8, [[1, id]]))["commit"] for id in (2, 3, 4)]
    first, second, third = commits
    names = f"local/model@{first[:10]}", f"local/model@{second}"
    assert [surveys.compare(*names)[side]["commit"] for side in ("a", "b")] == [first, second]
    assert surveys.compare("local/model")["a"]["commit"] == second
    assert surveys.compare(f"local/model@{second[:12]}")["a"]["commit"] == first
    assert surveys.compare(f"local/model@{third}", f"local/model@{third}", status=0)["w"]["same"]
    for name, said in {
        f"local/model@{first}": "no survey before it",
        "local/model@nightly": f"no such survey, .* such as local/model@{min(commits)}",
        "local/modle": "no such survey, .* such as local/model; correct the name",
        "local/model@": "no such survey",
        "../model": "no such survey",
        "nul\0/\ud800": "no such survey",
        "": "no such survey",
    }.items():
        caplog.clear()
        assert surveys.run(name) == (78, "")
        assert re.search(said, caplog.text), (name, caplog.text)
    surveys.output = surveys.folder / "empty"
    assert surveys.run("local/model") == (78, "")
    assert "OUTPUT has no survey at all" in caplog.text


def test_commits_that_begin_alike_are_told_apart_by_more_of_them(
    surveys: Surveys, caplog: pytest.LogCaptureFixture
) -> None:
    commits = [surveys.add(planted(60, 8, [[1, id]]))["commit"] for id in range(2, 19)]
    begin = next(digit for digit in "0123456789abcdef" if sum(commit.startswith(digit) for commit in commits) > 1)
    assert surveys.run(f"local/model@{begin}")[0] == 78
    assert f"local/model@{begin} was found, which begins local/model@{begin}" in caplog.text


def test_a_damaged_table_ends_with_75_and_a_bug_looks_like_no_change(
    surveys: Surveys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    manifest = surveys.add(planted(60, 8, [[1, 2]]), n_tokens=55)
    table = surveys.output / manifest["artifacts"]["tokens"]["key"]
    content = table.read_bytes()
    table.write_bytes(content[:-1])
    assert surveys.run("local/model") == (75, "")
    assert "found other bytes than were published" in caplog.text
    table.write_bytes(content)

    def fail(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(job.compare, "compare_published", fail)
    assert surveys.run("local/model") == (70, "")


@pytest.mark.parametrize("artifact", ["tokens", "W"])
def test_a_file_that_somebody_removed_is_called_so(
    surveys: Surveys, artifact: str, caplog: pytest.LogCaptureFixture
) -> None:
    surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    manifest = surveys.add(planted(60, 8, [[1, 2]]), n_tokens=55)
    removed = surveys.output / manifest["artifacts"][artifact]["key"]
    removed.unlink()
    assert surveys.run("local/model") == (75, "")
    assert f"{removed}: not there, expected {manifest['artifacts'][artifact]['size']:,} bytes" in caplog.text


def test_the_page_about_comparisons_names_every_field_of_the_json_and_every_fate() -> None:
    table = section(DOCS["compare"], "JSON")
    assert set(named_in_first_cells(table)) | {"schema_version"} == set(SurveyDifference.__annotations__)
    shapes = [shape for shape in vars(schema).values() if is_typeddict(shape)]
    named = set(re.findall(r"`(\w+)`", table))
    assert {field for shape in shapes for field in shape.__annotations__} <= named
    assert sorted(named_in_first_cells(section(DOCS["compare"], "What is compared"))) == sorted(FATES)


class Parts(HTMLParser):
    """The tags of a page and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attrs if name.startswith("on") or name == "style"}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_hostile_tokens_and_names_are_shown_harmlessly_in_every_format(surveys: Surveys) -> None:
    name = "[red]<b>&\u202e@x"
    vocabulary = ["unk", *HOSTILE]
    groups = [[1, 2], [3, 4], [5, 6]]
    surveys.add(planted(40, 8, groups), vocabulary, name=name)
    surveys.add(planted(40, 8, [[1, 2, 7, 3, 4, 5, 6]]), vocabulary, name=name)
    model = f"local/{name}"
    printed = surveys.run("--format", "json", model)[1]
    assert printed.isascii()
    assert HOSTILE[0] in [token["piece"] for token in json.loads(printed)["holes"]["events"][0]["examples"]]
    text = surveys.run(model)[1]
    assert all(line.isprintable() for line in text.splitlines())
    assert '"[bold]b[/bold]"' in text
    assert "x" * 30 not in text
    page = surveys.run("--format", "html", model)[1]
    parts = Parts()
    parts.feed(page)
    assert [tag for tag in parts.tags if tag in ("script", "b", "iframe", "img")] == ["script"]  # of the facts
    assert html.escape(HOSTILE[0]) in page or HOSTILE[0] in "".join(parts.texts)
    assert not any(char in page for char in "\0\u202e")
    assert "x" * 300 not in page
    (published,) = surveys.output.rglob("changes.html")
    assert 'href="../../../local/' in published.read_text("utf-8")


def test_the_text_fits_80_columns_where_names_do(surveys: Surveys) -> None:
    surveys.add(planted(300, 8, GROUPS), n_tokens=299)
    surveys.add(planted(300, 8, [[id, id + 1, id + 2] for id in range(0, 299, 3)]), n_tokens=299)
    difference: SurveyDifference = surveys.compare("local/model")  # type: ignore[assignment]
    console = Console(file=StringIO(), width=80)
    print_comparison(console, difference)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line for line in lines if len(line) > 80] == lines[1:3]


def test_a_survey_that_finds_its_model_changed_publishes_the_page_and_names_it(
    surveys: Surveys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = tmp_path / "message"
    surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    checkpoint = write_checkpoint(tmp_path / "model", planted(60, 8, [[1, 2, 3, 4]]), n_tokens=55)
    manifest = survey(checkpoint, surveys.output, "--termination-message", str(message))
    key = f"local/model/{manifest['commit']}/changes.html"
    assert manifest["pages"]["changes"] == key
    changed = "5 → 1 holes, 13 → 4 tokens (joined 4; left 10, 11, 20, 21, 30, 31, 32, 33 and 2 more)"
    for told in (capsys.readouterr().out, message.read_text()):
        assert f"{changed}; what changed: {surveys.output / key}" in told
    page = (surveys.output / key).read_bytes()
    assert b"<h1>Changed: W and the black holes</h1>" in page
    assert "rows of W are the same: both would have to be read" in page.decode()
    assert "[changes.html](changes.html)" in (surveys.output / manifest["pages"]["report"]).read_text()
    # A survey made again for further tensors keeps its page.
    (surveys.output / key).write_bytes(b"kept")
    again = survey(checkpoint, surveys.output, "--tensors", "W,covariance,tokens")
    assert (again["pages"]["changes"], (surveys.output / key).read_bytes()) == (key, b"kept")


def test_a_changed_w_with_the_same_holes_is_told_too(surveys: Surveys, capsys: pytest.CaptureFixture[str]) -> None:
    surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    w = planted(60, 8, GROUPS)
    w[50] += 1
    survey(write_checkpoint(surveys.folder / "model", w, n_tokens=55), surveys.output)
    (page,) = surveys.output.rglob("changes.html")
    said = f"Changed, but not in its black holes: {surveys.folder / 'model'}; what changed: {page}"
    assert said in capsys.readouterr().out


def test_a_page_of_changes_that_cannot_be_made_is_a_warning(surveys: Surveys, caplog: pytest.LogCaptureFixture) -> None:
    first = surveys.add(planted(60, 8, GROUPS), n_tokens=55)
    table = surveys.output / first["artifacts"]["tokens"]["key"]
    table.write_bytes(b"\0" * table.stat().st_size)
    second = surveys.add(planted(60, 8, [[1, 2]]), n_tokens=55)
    assert "changes" not in second["pages"]
    assert second["previous"]["commit"] == first["commit"]
    assert "no page of what changed: TransientError" in caplog.text
