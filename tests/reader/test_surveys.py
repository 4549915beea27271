"""Which surveys there are, and opening one."""

import json
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import pytest

from black_hole_survey import InvalidManifest, UnknownSurvey, UnreadableStore, open_surveys
from entrypoint import main
from tests.checkpoints import planted
from tests.permissions import somebody
from tests.reader.conftest import IN_HOLES, Publish


def manifest_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("manifest.json"))


def edit(path: Path, **fields: object) -> dict[str, Any]:
    """Write a manifest anew with other fields."""
    manifest: dict[str, Any] = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(manifest))
    return manifest


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    surveys = open_surveys(tmp_path / "not there yet")
    with pytest.raises(UnreadableStore, match="not there yet: found no folder, expected one that surveys"):
        list(surveys)


def test_iterating_lists_the_models(publish: Publish) -> None:
    publish("b-model")
    surveys = open_surveys(publish("a-model"))
    assert list(surveys) == list(surveys.keys()) == ["local/a-model", "local/b-model"]
    assert len(surveys) == 2
    assert "local/a-model" in surveys
    assert "local/c-model" not in surveys


def test_a_model_is_opened_at_its_newest_commit_and_each_commit_by_name(publish: Publish) -> None:
    folder = publish()
    (first,) = {json.loads(path.read_text())["commit"] for path in manifest_paths(folder)}
    publish("model", planted(40, 8, [[1, 2]]))
    surveys = open_surveys(folder)
    newest = surveys["local/model"]
    assert newest.manifest["commit"] != first
    assert newest.black_hole_id.nonzero().flatten().tolist() == [1, 2]
    for name in (first, first[:7]):
        older = surveys[f"local/model@{name}"]
        assert (older.manifest["commit"], older.name) == (first, f"local/model@{first}")
        assert older.black_hole_id.nonzero().flatten().tolist() == IN_HOLES
    assert repr(older) == f"Survey('local/model@{first}', W [40, 8] BF16, 2 black holes)"


def test_a_beginning_that_fits_two_commits_is_refused_with_both(publish: Publish) -> None:
    folder = publish()
    (path,) = manifest_paths(folder)
    commit = path.parent.name
    other = commit[:5] + ("0" if commit[5] != "0" else "1") + commit[6:]
    shutil.copytree(path.parent, path.parent.with_name(other))
    edit(path.parent.with_name(other) / "manifest.json", commit=other)
    surveys = open_surveys(folder)
    with pytest.raises(UnknownSurvey, match=f"(?s)model@{commit[:5]}: .*{other}.*write more of it|{commit}"):
        surveys[f"local/model@{commit[:5]}"]
    assert surveys[f"local/model@{commit[:6]}"].manifest["commit"] == commit


def test_an_unknown_model_is_refused_with_those_that_are_there_the_most_similar_first(publish: Publish) -> None:
    publish("gemma-2b")
    publish("qwen3-4b")
    surveys = open_surveys(publish("qwen2.5-3b"))
    with pytest.raises(UnknownSurvey) as refused:
        surveys["local/qwen3-4B-Instruct"]
    assert "expected one of local/qwen3-4b, local/qwen2.5-3b, local/gemma-2b; correct the name" in str(refused.value)
    with pytest.raises(KeyError):
        surveys["local/qwen3-4B-Instruct"]


def test_an_unknown_commit_is_refused_with_those_of_its_model(publish: Publish) -> None:
    folder = publish()
    commit = manifest_paths(folder)[0].parent.name
    with pytest.raises(
        UnknownSurvey, match=f"model@ffff: found no such survey .* expected one of local/model@{commit}"
    ):
        open_surveys(folder)["local/model@ffff"]


@pytest.mark.parametrize("name", ["", "../model", "local/../local/model", "/etc", "local/model@../x", "a\0b", "@"])
def test_a_name_that_leads_elsewhere_is_unknown(publish: Publish, name: str) -> None:
    with pytest.raises(UnknownSurvey):
        open_surveys(publish())[name]


@pytest.mark.parametrize("name", [None, 7, Path("local/model"), b"local/model", ("local/model",)])
def test_what_is_no_text_is_no_survey_and_says_what_is(publish: Publish, name: Any) -> None:
    surveys = open_surveys(publish())
    with pytest.raises(
        UnknownSurvey, match=rf"found a {type(name).__name__}, expected the name of a survey, org/name or"
    ):
        surveys[name]
    assert name not in surveys
    assert surveys.get(name) is None


@pytest.mark.parametrize("place", ["gs://bucket/x", "https://me:secret@host/x", "file:///x", Path("gs://bucket/x")])
def test_an_address_of_another_kind_is_refused_with_what_can_be_read(place: str | Path) -> None:
    with pytest.raises(
        UnreadableStore, match=r"://…: found an .*expected a folder or s3://bucket/prefix; mount"
    ) as refused:
        open_surveys(place)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("place", ["S3://bucket/x", Path("s3://bucket/x")])
def test_an_s3_address_that_is_spelt_otherwise_is_refused_with_how_to_write_it(place: str | Path) -> None:
    with pytest.raises(UnreadableStore, match="as a text that begins with s3://, not as a Path"):
        open_surveys(place)


def test_a_folder_whose_name_only_looks_like_an_address_is_a_folder(publish: Publish, tmp_path: Path) -> None:
    folder = publish().rename(tmp_path / "gs:surveys")
    assert list(open_surveys(folder)) == list(open_surveys(str(folder))) == ["local/model"]


def test_a_subfolder_that_cannot_be_read_is_named_and_not_left_out() -> None:
    with TemporaryDirectory() as parent:  # pytest's folders are closed to other users
        Path(parent).chmod(0o755)
        closed = Path(parent, "surveys", "org", "closed")
        closed.mkdir(parents=True)
        closed.chmod(0)
        with (
            somebody(),
            pytest.raises(UnreadableStore, match=f"{closed}: found a folder that cannot be read .Permission"),
        ):
            list(open_surveys(Path(parent, "surveys")))


def test_a_survey_of_a_requested_tensor_is_not_the_newest_but_can_be_opened(publish: Publish, tmp_path: Path) -> None:
    folder = publish()
    (tmp_path / "list.yaml").write_text(f"- model: {tmp_path}/models/model\n  tensor: lm_head.weight\n")
    assert main(["--models-file", str(tmp_path / "list.yaml"), "--output", str(folder)]) == 0
    requested, chosen = sorted(manifest_paths(folder), key=lambda path: -len(path.parts))
    name = f"local/model@{requested.parent.parent.name}/{requested.parent.name}"
    surveys = open_surveys(folder)
    assert list(surveys) == ["local/model"]
    assert surveys[name].manifest["tensor"]["chosen_by_user"]
    assert not surveys["local/model"].manifest["tensor"]["chosen_by_user"]
    assert surveys[f"local/model@{chosen.parent.name}"].manifest == surveys["local/model"].manifest
    assert surveys.table("pandas")["survey"].tolist() == [f"local/model@{chosen.parent.name}", name]


def test_each_listed_name_opens_also_where_only_a_requested_tensor_was_surveyed(
    publish: Publish, tmp_path: Path
) -> None:
    publish("other")
    folder = publish()
    (tmp_path / "list.yaml").write_text(f"- model: {tmp_path}/models/model\n  tensor: lm_head.weight\n")
    shutil.rmtree(folder / "local" / "model")
    assert main(["--models-file", str(tmp_path / "list.yaml"), "--output", str(folder)]) == 0
    (path,) = (folder / "local" / "model").rglob("manifest.json")
    surveys = open_surveys(folder)
    requested = f"local/model@{path.parent.parent.name}/{path.parent.name}"
    assert list(surveys) == [requested, "local/other"]
    assert [survey.manifest["model"] for survey in surveys.values()] == ["local/model", "local/other"]
    with pytest.raises(UnknownSurvey, match=f"local/model: found no such survey .* expected one of {requested}"):
        surveys["local/model"]


def test_without_latest_json_the_newest_manifest_counts(publish: Publish) -> None:
    folder = publish()
    publish("model", planted(40, 8, [[1, 2]]))
    latest = folder / "local" / "model" / "latest.json"
    expected = json.loads(latest.read_text())
    latest.unlink()
    surveys = open_surveys(folder)
    assert list(surveys) == ["local/model"]
    assert surveys["local/model"].manifest == expected


@pytest.mark.writes_invalid_manifests
def test_a_folder_whose_name_holds_an_at_sign_is_found(publish: Publish) -> None:
    folder = publish()
    (folder / "local" / "model").rename(folder / "local" / "model@home")
    assert open_surveys(folder)["local/model@home"].manifest["model"] == "local/model"


def test_the_table_has_a_row_for_each_survey(publish: Publish) -> None:
    publish("model", planted(40, 8, [[1, 2]]))
    publish("another")
    surveys = open_surveys(publish())
    table = surveys.table()
    assert isinstance(table, pd.DataFrame)
    assert table["model"].tolist() == ["local/another", "local/model", "local/model"]
    assert table["black_holes"].tolist() == [2, 1, 2]
    assert table["black_hole_tokens"].tolist() == [5, 2, 5]
    assert table[["n_rows", "hidden_size", "dtype"]].drop_duplicates().to_numpy().tolist() == [[40, 8, "BF16"]]
    assert [surveys[name].name for name in table["survey"]] == table["survey"].tolist()
    assert surveys.table("polars").to_dicts() == surveys.table("arrow").to_pylist()


def test_the_table_is_a_list_where_no_library_is_installed(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    surveys = open_surveys(publish())
    for package in ("pandas", "polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    (row,) = surveys.table()
    assert (row["model"], row["black_holes"]) == ("local/model", 2)


@pytest.mark.writes_invalid_manifests
def test_a_manifest_that_cannot_be_read_costs_only_its_own_row(publish: Publish) -> None:
    publish("model")
    folder = publish("other")
    manifest_paths(folder)[0].write_text("{")
    with pytest.warns(UserWarning, match="left out: .*model.*found no JSON"):
        assert open_surveys(folder).table()["model"].tolist() == ["local/other"]


@pytest.mark.writes_invalid_manifests
def test_a_manifest_of_a_later_schema_is_refused_with_what_to_do(publish: Publish) -> None:
    folder = publish()
    edit(folder / "local" / "model" / "latest.json", schema_version=2)
    with pytest.raises(InvalidManifest, match="found schema_version 2, expected 1; a later one needs a later version"):
        open_surveys(folder)["local/model"]


@pytest.mark.writes_invalid_manifests
@pytest.mark.parametrize("field", ["model", "commit", "tensor", "artifacts", "statistics", "published_at"])
def test_a_manifest_without_a_field_that_is_needed_is_refused(publish: Publish, field: str) -> None:
    folder = publish()
    edit(folder / "local" / "model" / "latest.json", **{field: None})
    with pytest.raises(InvalidManifest, match=f"found no usable '{field}'"):
        open_surveys(folder)["local/model"]


@pytest.mark.writes_invalid_manifests
@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "local/../../secret", "local//x", "", "a\0b"])
def test_a_key_that_leads_outside_the_place_is_refused(publish: Publish, key: str) -> None:
    folder = publish()
    path = folder / "local" / "model" / "latest.json"
    manifest = json.loads(path.read_text())
    manifest["artifacts"]["W"]["key"] = key
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidManifest, match=re.escape(f"found the key {key!r}, expected names between slashes")):
        open_surveys(folder)["local/model"]


def test_unknown_fields_of_a_manifest_stay(publish: Publish) -> None:
    folder = publish()
    path = folder / "local" / "model" / "latest.json"
    before = path.read_bytes()
    edit(path, later_field={"a": 1})
    assert dict(open_surveys(folder)["local/model"].manifest)["later_field"] == {"a": 1}
    path.write_bytes(before)


@pytest.mark.writes_invalid_manifests
def test_a_manifest_of_the_first_version_is_read(publish: Publish) -> None:
    """It had no sequence, no pages, no ids in the tokenizer's entry, and named the page among the artifacts."""
    folder = publish()
    path = folder / "local" / "model" / "latest.json"
    manifest = json.loads(path.read_text())
    page = {"key": manifest.pop("pages")["report"], "size": 1, "sha256": "0" * 64}
    for field in (
        "sequence",
        "token_counts",
        "activity_seconds",
        "examined_by",
        "previous",
        "seconds",
        "tool",
        "source",
    ):
        manifest.pop(field, None)
    for field in ("tie", "tie_evidence", "embedding", "strides", "content_id_from"):
        manifest["tensor"].pop(field, None)
    manifest["tokenizer"].pop("n_ids", None)
    manifest["artifacts"] = {
        name: entry
        for name, entry in manifest["artifacts"].items()
        if name in ("W", "mu", "gamma_centered", "black_holes")
    }
    manifest["artifacts"]["report"] = page
    for copy in (path, *manifest_paths(folder)):
        copy.write_text(json.dumps(manifest))
    surveys = open_surveys(folder)
    survey = surveys["local/model"]
    assert survey.manifest.get("pages") == {"report": page["key"]}
    assert survey.W.shape == (40, 8)
    assert surveys.table()["black_holes"].tolist() == [2]
    survey.verify()  # the page is derived: it is not among what the manifest vouches for
