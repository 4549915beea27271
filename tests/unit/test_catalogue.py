"""A survey's row, the tables of rows, and what several surveys have in common."""

import csv
import io
import random
from dataclasses import fields, replace
from typing import Any

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

import job.catalogue.rows_file
from job.catalogue.families import FollowedHole, families, revisions, same_w
from job.catalogue.row import MAX_TOKENS, SurveyRow, family_of, survey_row
from job.catalogue.rows_file import Rows, rows_as_parquet, rows_of_parquet
from job.manifest.schema import checked_manifest
from job.report.pages.index_page import index_page
from job.report.surveys_csv import COLUMNS, rows_as_csv
from tests.documentation import DOCS, named_in_first_cells, section
from tests.many_surveys import commit_of, manifest_like, many_manifests, real_manifest

HOSTILE = (
    *("=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "</script><script>alert(1)</script>", "<!--"),
    *("\u202egnp.exe", "\0", "\ud800", "x" * 10_000, 'a,"b"\nc', "", "'"),
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return real_manifest(tmp_path_factory.mktemp("real"))


def row_of(manifest: dict[str, Any]) -> SurveyRow:
    key = f"{manifest['model']}/{manifest['commit']}/manifest.json"
    return survey_row(key, "1 a", checked_manifest(manifest))


def release(real: dict[str, Any], model: str, date: str | None, *holes: list[str], **more: Any) -> SurveyRow:
    """The newest survey of a model that was released on a day."""
    dates = {"created_at": date, "last_modified": None}
    row = row_of(manifest_like(real, model, commit_of(len(model)), holes, hub_dates=dates))
    return replace(row, **{"is_latest": True, **more})


def test_the_documentation_names_the_columns_in_their_order() -> None:
    table = section(DOCS["index"], "Columns of surveys.parquet")
    assert named_in_first_cells(table) == [each.name for each in fields(SurveyRow)]


def test_a_row_says_what_the_manifest_says(real: dict[str, Any]) -> None:
    row = row_of(real)
    assert (row.model, row.n_rows, row.hidden_size, row.dtype) == ("local/model", 40, 8, "BF16")
    assert (row.black_holes, row.black_hole_tokens, row.unique_rows, row.duplicate_rows) == (2, 5, 37, 3)
    assert (row.largest, row.share_of_rows, row.changed, row.joined) == (3, 5 / 40, None, None)
    assert row.mean_row_norm == real["statistics"]["row_norm"]["mean"]
    assert row.mu_norm == real["statistics"]["mu"]["norm"]
    assert row.valid_ids == real["token_counts"]["valid_ids"]
    assert (row.hole_populations, row.hole_listed) == ((3, 2), (3, 2))
    pieces = [token["piece"] for hole in real["black_holes"] for token in hole["tokens"]]
    assert row.hole_tokens == tuple(pieces)


def test_a_manifest_of_an_earlier_version_has_a_row_with_fewer_numbers(real: dict[str, Any]) -> None:
    later = ("hub_dates", "token_counts", "tool", "activity_seconds", "sequence", "source", "revision", "previous")
    row = row_of({name: value for name, value in real.items() if name not in later})
    known = (row.released, row.valid_ids, row.tool_version, row.seconds, row.source, row.previous_commit)
    assert known == (None,) * len(known)
    assert row.sequence == 0


@pytest.mark.parametrize("shape", [[], [3], [2**70, 8], [1, 2, 3]], ids=str)
def test_a_manifest_with_impossible_numbers_has_no_row(real: dict[str, Any], shape: list[int]) -> None:
    made = manifest_like(real, "org/model", commit_of(1))
    made["tensor"]["shape"] = shape
    with pytest.raises(ValueError, match=r"expected"):
        row_of(made)


def test_a_row_lists_a_thousand_tokens_at_most_and_none_is_long(real: dict[str, Any]) -> None:
    row = row_of(manifest_like(real, "a/b", commit_of(1), [[f"{n} {'x' * 10_000}" for n in range(90)]] * 50))
    assert len(row.hole_tokens) == sum(row.hole_listed) == MAX_TOKENS
    assert max(map(len, row.hole_tokens)) < 100
    assert len(row.hole_populations) == len(row.hole_listed)


@given(texts=st.lists(st.text(st.characters(), max_size=30) | st.sampled_from(HOSTILE), min_size=1, max_size=8))
def test_rows_come_back_from_surveys_parquet_as_they_were(real: dict[str, Any], texts: list[str]) -> None:
    manifests = [manifest_like(real, f"{text}/{text}", commit_of(1), [texts], revision=text) for text in texts]
    rows = Rows(tuple(map(row_of, manifests)), {"a/b/c/manifest.json": "3 x", '"file_sha256": "' + "0" * 64: None})
    content = rows_as_parquet(rows)
    assert rows_as_parquet(rows) == content
    assert rows_of_parquet(content, "here") == rows


def test_surveys_parquet_is_read_by_others(real: dict[str, Any]) -> None:
    rows = [row_of(manifest) for _, manifest in many_manifests(real, 30)]
    table = polars.read_parquet(io.BytesIO(rows_as_parquet(Rows(tuple(rows)))))
    assert table.columns == [each.name for each in fields(SurveyRow)]
    assert table["black_hole_tokens"].sum() == sum(row.black_hole_tokens for row in rows)
    assert table["hole_tokens"].to_list() == [list(row.hole_tokens) for row in rows]
    assert table["is_latest"].dtype == polars.Boolean
    empty = polars.read_parquet(io.BytesIO(rows_as_parquet(Rows())))
    assert (empty.columns, empty.height) == (table.columns, 0)


def test_a_damaged_surveys_parquet_is_not_believed(real: dict[str, Any]) -> None:
    content = rows_as_parquet(Rows((row_of(real),)))
    places = random.Random(1).sample(range(len(content)), 300)  # noqa: S311 - the same in each run
    damaged = [content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :] for place in places]
    damaged += [b"", b"PAR1PAR1", content[:-1], content + b"x", content[: len(content) // 2], bytes(5_000)]
    assert [rows_of_parquet(one, "here") for one in damaged] == [None] * len(damaged)


def test_the_surveys_parquet_of_another_version_is_not_used(
    real: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(job.catalogue.rows_file, "__version__", "0.0.1")
        content = rows_as_parquet(Rows((row_of(real),)))
    assert rows_of_parquet(content, "here") is None


def test_a_surveys_parquet_with_other_columns_is_not_used(
    real: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [each.name for each in fields(SurveyRow)]
    with monkeypatch.context() as patch:
        patch.setattr(job.catalogue.rows_file, "_names", lambda: names[:-1])
        content = rows_as_parquet(Rows((row_of(real),)))
    assert rows_of_parquet(content, "here") is None


def test_no_cell_of_surveys_csv_is_a_formula_or_holds_what_does_not_print(real: dict[str, Any]) -> None:
    rows = [
        row_of(manifest_like(real, f"{text}/{text}", commit_of(number), revision=text))
        for number, text in enumerate(HOSTILE)
    ]
    lines = list(csv.reader(io.StringIO(rows_as_csv(rows).decode(), newline="")))
    assert lines[0] == list(COLUMNS)
    assert len(lines) == 1 + len(rows)
    numbers = {"mu_norm", "share_of_rows"}
    cells = [cell for line in lines[1:] for name, cell in zip(COLUMNS, line, strict=True) if name not in numbers]
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r＝＋－＠"))] == []
    assert [cell for cell in cells if not cell.isprintable()] == []
    assert [line[COLUMNS.index("revision")] for line in lines[1:4]] == ["'=cmd()", "'+1", "'-1"]


@pytest.mark.parametrize(
    ("model", "family"),
    {
        "Qwen/Qwen2.5-7B-Instruct": "qwen/qwen",
        "Qwen/Qwen3-0.6B": "qwen/qwen",
        "meta-llama/Llama-3.2-1B": "meta-llama/llama",
        "openai-community/gpt2": "openai-community/gpt",
        "org/1234": "org/1234",
        "local/SmolLM2-135M": "local/smollm",
    }.items(),
)
def test_a_family_is_an_organisation_and_the_first_word_of_a_name(model: str, family: str) -> None:
    assert family_of(model) == family


def test_a_family_tells_which_release_brought_which_tokens_into_holes(real: dict[str, Any]) -> None:
    rows = [
        release(real, "org/Fam-2", "2024-06-01T00:00:00+00:00", ["a", "b", "c"], ["x", "y"]),
        release(real, "org/Fam-3", "2025-01-01T00:00:00+00:00", ["a", "b"], ["x", "y"]),
        release(real, "org/Fam-1", "2023-01-01T00:00:00+00:00", ["a", "b"]),
        release(real, "org/Alone-1", "2023-01-01T00:00:00+00:00", ["a", "b"]),
        release(real, "org/Fam-old", "2022-01-01T00:00:00+00:00", ["q", "r"], is_latest=False),
    ]
    (family,) = families(rows)
    assert family.name == "org/fam"
    assert [(each.row, each.new_tokens, each.n_gone) for each in family.releases] == [
        (2, ("a", "b"), 0),
        (0, ("c", "x", "y"), 0),
        (1, (), 1),
    ]
    assert family.holes == (
        FollowedHole(("a", "b"), first=0, n_releases=2),
        FollowedHole(("x", "y"), first=1, n_releases=2),
        FollowedHole(("a", "b", "c"), first=1, n_releases=1),
    )


def test_models_with_the_same_w_and_revisions_of_a_model_are_found(real: dict[str, Any]) -> None:
    def made(model: str, commit: int, w: str, *, by_user: bool = False) -> SurveyRow:
        row = row_of(manifest_like(real, model, commit_of(commit)))
        return replace(row, w_sha256=w, chosen_by_user=by_user)

    rows = [
        made("org/a", 1, "w1"),
        made("org/a", 2, "w1"),
        made("org/a", 3, "w2", by_user=True),
        made("org/b", 4, "w3"),
        made("org/c", 5, "w1"),
    ]
    assert same_w(rows) == [[0, 1, 4]]
    assert revisions(rows) == [[0, 1]]


def test_the_page_shows_hostile_names_and_tokens_harmlessly(real: dict[str, Any]) -> None:
    rows = [
        row_of(manifest_like(real, f"{text}/{text}", commit_of(number), [list(HOSTILE)], revision=text))
        for number, text in enumerate(HOSTILE)
    ]
    page = index_page([replace(row, is_latest=True, changed=True) for row in rows], []).decode()
    assert page.count("<script>") == page.count("</script>") - page.count("<script ")
    assert "alert(1)<" not in page
    assert not {"\u202e", "\0", "\ud800"} & set(page)
