"""The table of tokens and the lists of dead ones, as each library reads them."""

import sys
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import torch

from black_hole_survey import CorruptArtifact, MissingPackage, NotPublished, open_surveys
from tests.reader.conftest import IN_HOLES, N_ROWS, Publish

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table}


def columns(table: object) -> dict[str, list[object]]:
    """Any library's table as lists by column."""
    match table:
        case pd.DataFrame():
            return {name: table[name].tolist() for name in table}
        case pl.DataFrame():
            return table.to_dict(as_series=False)
    assert isinstance(table, pa.Table)
    return dict(table.to_pydict())


@pytest.mark.parametrize("library", LIBRARIES)
def test_tokens_are_a_table_of_the_library_that_is_asked_for(publish: Publish, library: str) -> None:
    survey = open_surveys(publish())["local/model"]
    table = survey.read_tokens(library)  # type: ignore[arg-type]
    assert isinstance(table, LIBRARIES[library])
    found = columns(table)
    assert found["id"] == list(range(N_ROWS))
    assert found["text"][:3] == ["token0", "token1", "token2"]
    assert [row for row, hole in enumerate(found["hole"]) if hole] == IN_HOLES
    assert found["class"][N_ROWS - 4 :] == ["beyond_tokenizer"] * 4
    assert torch.allclose(torch.tensor(found["norm"]), survey.W.float().norm(dim=1))


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_the_columns_that_are_asked_for_are_read(publish: Publish, library: str) -> None:
    survey = open_surveys(publish())["local/model"]
    table = survey.read_tokens(library, columns=["hole", "id"])  # type: ignore[arg-type]
    assert sorted(columns(table)) == ["hole", "id"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(publish: Publish, library: str) -> None:
    survey = open_surveys(publish())["local/model"]
    with pytest.raises(
        NotPublished, match=r"tokens\.parquet: found no column 'nope', 'Id', expected some of id, piece,"
    ):
        survey.read_tokens(library, columns=["id", "nope", "Id"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"found columns='id', expected a list of names; for one column: \['id'\]"):
        survey.read_tokens(library, columns="id")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "expected"), [((), "pandas"), (("pandas",), "polars"), (("pandas", "polars"), "arrow")]
)
def test_by_default_tokens_are_a_table_of_what_is_installed(
    publish: Publish, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], expected: str
) -> None:
    survey = open_surveys(publish())["local/model"]
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    assert isinstance(survey.tokens, LIBRARIES[expected])
    assert survey.tokens is survey.tokens


def test_without_a_library_the_error_names_what_to_install(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = open_surveys(publish())["local/model"]
    for package in ("pandas", "polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match="found no library for it, expected one; pip install pandas pyarrow, or"):
        _ = survey.tokens
    with pytest.raises(MissingPackage, match=r"as pandas: found no pandas pyarrow, .* pip install pandas pyarrow"):
        survey.read_tokens("pandas")
    with pytest.raises(ValueError, match="found library 'excel', expected one of pandas, polars, arrow"):
        survey.read_tokens("excel")  # type: ignore[arg-type]


def test_a_survey_without_tokens_is_refused_with_what_to_do(publish: Publish) -> None:
    survey = open_surveys(publish("model", None, "--tensors", "W,mu"))["local/model"]
    for ask in (lambda: survey.tokens, lambda: survey.dead_tokens, lambda: survey.valid_ids):
        with pytest.raises(NotPublished, match="survey the model again with tokens among the TENSORS"):
            ask()


def test_without_a_tokenizer_the_table_has_what_is_known_and_valid_ids_say_why_not(publish: Publish) -> None:
    survey = open_surveys(publish(n_tokens=None))["local/model"]
    assert list(survey.tokens) == ["id", "norm", "gamma_norm", "hole"]
    assert survey.dead_tokens["ids"]["in_black_hole"] == IN_HOLES
    assert survey.dead_tokens["ids"]["unreachable"] is None
    with pytest.raises(NotPublished, match=r"found no valid_ids \(the checkpoint has no tokenizer"):
        _ = survey.valid_ids


def test_dead_tokens_and_valid_ids_are_those_of_the_table(publish: Publish) -> None:
    survey = open_surveys(publish())["local/model"]
    dead = survey.dead_tokens
    assert dead["ids"]["in_black_hole"] == IN_HOLES
    assert dead["ids"]["beyond_tokenizer"] == [36, 37, 38, 39]
    assert dead["definitions"].keys() == dead["ids"].keys()
    assert (dead["model"], dead["w_sha256"]) == ("local/model", survey.manifest["w_sha256"])
    assert survey.valid_ids.dtype == torch.bool
    assert survey.valid_ids[36:].tolist() == [False] * 4


def test_tokens_are_read_from_s3(publish: Publish, s3_bucket: str) -> None:
    folder, place = publish(), f"s3://{s3_bucket}"
    publish(output=place)
    tables = [open_surveys(each)["local/model"].read_tokens("polars") for each in (folder, place)]
    assert tables[0].equals(tables[1])


def test_a_table_cut_short_is_refused(publish: Publish) -> None:
    folder = publish()
    survey = open_surveys(folder)["local/model"]
    path = Path(folder / survey.manifest["artifacts"]["tokens"]["key"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match=r"tokens\.parquet: found [\d,]+ bytes, expected"):
        _ = survey.tokens
