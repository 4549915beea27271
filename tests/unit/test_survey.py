"""What a run over local checkpoints publishes, skips, mends and refuses."""

import json
import logging
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from entrypoint import main
from job.checkpoints.sources.folder import open_folder
from job.limits.need import NUMBERS_SCRATCH_NBYTES
from tests.checkpoints import planted, write_checkpoint
from tests.surveys import survey

ROOT = Path(__file__).parents[2]
GROUPS = [[3, 9, 21], [10, 11]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


def test_files_say_where_they_come_from(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    for name in ("W", "mu", "gamma_centered", "black_holes"):
        with safe_open(output / manifest["artifacts"][name]["key"], "pt") as file:
            metadata = file.metadata()
        # W's own file is written before W's digest is known.
        assert metadata.pop("w_sha256", None) == (None if name == "W" else manifest["w_sha256"])
        assert metadata == {
            "model": "local/model",
            "commit": manifest["commit"],
            "tensor": "lm_head.weight",
            "version": manifest["tool"]["version"],
        }


def test_tokens_are_named_by_the_checkpoints_own_tokenizer(tmp_path: Path, output: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=20)
    manifest = survey(checkpoint, output)
    assert manifest["tokenizer"]["n_tokens"] == 20
    assert manifest["tokenizer"]["rows_beyond"] == 20
    assert manifest["black_holes"][0]["tokens"] == [
        {"id": 3, "piece": "token3", "text": "token3"},
        {"id": 9, "piece": "token9", "text": "token9"},
        {"id": 21, "piece": None, "text": None},
    ]


def test_a_missing_tokenizer_costs_only_the_decoding(tmp_path: Path, output: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "bare", planted(40, 8, GROUPS))
    manifest = survey(checkpoint, output)
    assert [token["id"] for token in manifest["black_holes"][0]["tokens"]] == [3, 9, 21]
    assert any("have no names" in warning for warning in manifest["warnings"])


def test_a_broken_tokenizer_costs_only_the_decoding(checkpoint: Path, output: Path) -> None:
    (checkpoint / "tokenizer.json").write_text('{"model": 7}')
    manifest = survey(checkpoint, output)
    assert "cannot be read" in manifest["tokenizer"]["unusable"]
    assert manifest["statistics"]["black_hole_tokens"] == 5


def test_an_unchanged_folder_is_not_surveyed_again_and_a_changed_one_is(checkpoint: Path, output: Path) -> None:
    first = survey(checkpoint, output)
    assert survey(checkpoint, output) == first
    write_checkpoint(checkpoint, planted(40, 8, [[1, 2]]), n_tokens=20)
    second = survey(checkpoint, output)
    assert second["commit"] != first["commit"]
    assert second["statistics"]["black_holes"] == 1


def test_a_survey_whose_artifact_was_lost_is_made_again(checkpoint: Path, output: Path) -> None:
    lost = output / survey(checkpoint, output)["artifacts"]["W"]["key"]
    lost.unlink()
    survey(checkpoint, output)
    assert torch.equal(load_file(lost)["W"], planted(40, 8, GROUPS))


def test_a_run_killed_before_it_wrote_latest_json_is_mended_by_the_next(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    (output / "local" / "model" / "latest.json").unlink()
    assert survey(checkpoint, output) == manifest


def test_another_tensor_of_the_same_commit_is_filed_beside_the_survey(
    checkpoint: Path, output: Path, tmp_path: Path
) -> None:
    other = planted(40, 8, [[0, 1]])
    save_file({"lm_head.weight": planted(40, 8, GROUPS), "my.head": other}, checkpoint / "model.safetensors")
    first = survey(checkpoint, output)
    published = {name: (output / entry["key"]).read_bytes() for name, entry in first["artifacts"].items()}
    models = tmp_path / "models.yaml"
    models.write_text(f"- model: {checkpoint}\n  tensor: my.head\n")
    assert main(["--models-file", str(models), "--output", str(output)]) == 0
    assert json.loads((output / "local" / "model" / "latest.json").read_text()) == first
    (path,) = (output / "local" / "model" / first["commit"]).glob("tensor-*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["tensor"]["name"] == "my.head"
    assert manifest["tensor"]["chosen_by_user"]
    assert manifest["commit"] == first["commit"]
    assert torch.equal(load_file(output / manifest["artifacts"]["W"]["key"])["W"], other)
    assert published == {name: (output / entry["key"]).read_bytes() for name, entry in first["artifacts"].items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
def test_every_dtype_is_published_as_stored(tmp_path: Path, output: Path, dtype: torch.dtype, dedup: str) -> None:
    w = planted(300, 8, GROUPS, dtype)
    checkpoint = write_checkpoint(tmp_path / "typed", w)
    manifest = survey(checkpoint, output, "--dedup", dedup)
    tensors = {
        name: tensor
        for artifact in ("W", "mu", "gamma_centered", "black_holes")
        for name, tensor in load_file(output / manifest["artifacts"][artifact]["key"]).items()
    }
    assert torch.equal(tensors["W"], w)
    assert torch.equal(tensors["mu"], w.to(torch.float64).mean(0).to(torch.float32))
    assert torch.equal(tensors["gamma_centered"], w.to(torch.float32) - tensors["mu"])
    assert torch.equal(tensors["black_hole_centroids"], w[[3, 10]])
    assert tensors["black_hole_id"].dtype == torch.uint8
    assert [tensors["black_hole_id"][group].tolist() for group in GROUPS] == [[1, 1, 1], [2, 2]]
    norms = np.linalg.norm(w.to(torch.float64).numpy(), axis=1)
    assert manifest["statistics"]["row_norm"]["mean"] == pytest.approx(norms.mean())
    assert manifest["statistics"]["row_norm"]["std"] == pytest.approx(norms.std(ddof=1))
    assert manifest["statistics"]["gamma_centered_norm"]["max"] == pytest.approx(
        np.linalg.norm(tensors["gamma_centered"].numpy().astype(np.float64), axis=1).max()
    )


def test_more_than_255_holes_are_numbered_in_int32(tmp_path: Path, output: Path) -> None:
    w = planted(600, 8, [[2 * number, 2 * number + 1] for number in range(300)])
    manifest = survey(write_checkpoint(tmp_path / "many", w), output)
    tensors = load_file(output / manifest["artifacts"]["black_holes"]["key"])
    assert tensors["black_hole_id"].dtype == torch.int32
    assert tensors["black_hole_id"].tolist() == [number for number in range(1, 301) for _ in range(2)]
    assert tensors["black_hole_centroids"].shape == (300, 8)


def test_a_matrix_without_holes_has_tensors_without_rows(tmp_path: Path, output: Path) -> None:
    manifest = survey(write_checkpoint(tmp_path / "none", planted(40, 8, [])), output)
    tensors = load_file(output / manifest["artifacts"]["black_holes"]["key"])
    assert tensors["black_hole_centroids"].shape == (0, 8)
    assert not tensors["black_hole_mask"].any()
    assert manifest["statistics"]["black_holes"] == manifest["statistics"]["duplicate_rows"] == 0


def test_numbers_that_json_cannot_say_become_null_and_are_warned_of(tmp_path: Path, output: Path) -> None:
    w = planted(40, 8, GROUPS)
    w[5, 5], w[6] = math.nan, -w[6] * 0
    manifest = survey(write_checkpoint(tmp_path / "odd", w), output)
    assert manifest["statistics"]["mu"]["norm"] is None
    assert manifest["statistics"]["rows_with_nan"] == 1
    assert any("1 rows hold a NaN" in warning for warning in manifest["warnings"])
    assert "not a number" in (output / manifest["pages"]["report"]).read_text()


def test_a_checkpoint_that_changes_while_it_is_read_publishes_no_manifest(checkpoint: Path, output: Path) -> None:
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "model-00001-of-00001.safetensors")
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))

    class Truncate(logging.Handler):
        """Cuts the weights short as soon as the job says that it found W."""

        def emit(self, record: logging.LogRecord) -> None:
            if "W is lm_head.weight" in record.getMessage():
                (checkpoint / "model-00001-of-00001.safetensors").write_bytes(b"short")

    handler = Truncate()
    logging.getLogger("job").addHandler(handler)
    try:
        assert main([str(checkpoint), "--output", str(output)]) == 65
    finally:
        logging.getLogger("job").removeHandler(handler)
    assert not list(output.rglob("manifest.json"))


FOREIGN = {
    "not-json": b"{",
    "empty": b"",
    "binary": b"\xff\x00",
    "list": b"[]",
    "null": b"null",
    "other-schema": b'{"schema_version": 99}',
    "no-fields": b'{"schema_version": 1}',
    "nested": b"[" * 100_000,
}


@pytest.mark.writes_invalid_manifests
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("place", ["commit", "other commit", "latest"])
def test_what_is_no_manifest_counts_as_nothing(checkpoint: Path, output: Path, content: bytes, place: str) -> None:
    manifest = survey(checkpoint, output)
    home = output / "local" / "model"
    if place == "latest":
        (home / "latest.json").write_bytes(content)
    else:
        folder = home / (manifest["commit"] if place == "commit" else "0" * 40)
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_bytes(content)
    again = survey(checkpoint, output)
    assert (again["w_sha256"], again["artifacts"]["W"]) == (manifest["w_sha256"], manifest["artifacts"]["W"])


def test_a_survey_whose_artifact_was_cut_short_is_made_again(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    path = output / manifest["artifacts"]["W"]["key"]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    survey(checkpoint, output)
    assert path.read_bytes() == content


def test_folders_of_one_name_and_one_time_are_told_apart_by_their_numbers(tmp_path: Path, output: Path) -> None:
    commits = set()
    for parent, group in (("a", [1, 2]), ("b", [3, 4])):
        checkpoint = write_checkpoint(tmp_path / parent / "model", planted(40, 8, [group]))
        for file in checkpoint.iterdir():
            os.utime(file, (1, 1))
        manifest = survey(checkpoint, output)
        commits.add(manifest["commit"])
        assert [token["id"] for token in manifest["black_holes"][0]["tokens"]] == group
    assert len(commits) == 2


def unsampled_change(path: Path) -> None:
    """Change two bytes of W where the identity of the file takes no sample, and keep the modification time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1_300_000)
        file.write(b"\x01\x02")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("form", ["safetensors", "bin", "bin by columns"])
def test_a_w_that_changed_where_nothing_else_shows_it_is_surveyed_anew(tmp_path: Path, output: Path, form: str) -> None:
    w = planted(40_000, 128, [])
    checkpoint = write_checkpoint(tmp_path / "large", w)
    path = checkpoint / "model.safetensors"
    if form != "safetensors":
        path.unlink()
        path = checkpoint / "pytorch_model.bin"
        torch.save({"lm_head.weight": w.T.contiguous().T if form == "bin by columns" else w}, path)
    first = survey(checkpoint, output, "--tensors", "W,mu")
    before = open_folder(checkpoint)
    unsampled_change(path)
    assert open_folder(checkpoint).files == before.files
    second = survey(checkpoint, output, "--tensors", "W,mu")
    assert (first["commit"], first["w_sha256"]) != (second["commit"], second["w_sha256"])
    tensors = load_file(path)["lm_head.weight"] if form == "safetensors" else torch.load(path)["lm_head.weight"]
    assert torch.equal(load_file(output / second["artifacts"]["W"]["key"])["W"], tensors)
    assert first["tensor"]["content_id_from"] == "samples and W"


def test_other_weights_of_one_size_and_time_are_surveyed(tmp_path: Path, output: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS))
    (checkpoint / "model.safetensors").unlink()
    path = checkpoint / "pytorch_model.bin"
    for groups in (GROUPS, [[1, 2]]):
        torch.save({"lm_head.weight": planted(40, 8, groups)}, path)
        os.utime(path, (1, 1))
        assert survey(checkpoint, output)["statistics"]["black_holes"] == len(groups)


def test_a_folder_that_was_touched_or_copied_is_already_published(
    checkpoint: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = survey(checkpoint, output)
    for file in checkpoint.iterdir():
        os.utime(file)
    assert survey(checkpoint, output) == first
    shutil.copytree(checkpoint, tmp_path / "elsewhere" / "model", copy_function=shutil.copyfile)
    assert survey(tmp_path / "elsewhere" / "model", output) == first
    assert capsys.readouterr().out.count("1 already published") == 2


@pytest.mark.parametrize("change", ["config", "file name", "an earlier version's ids"])
def test_the_same_w_is_published_by_reference(
    checkpoint: Path, output: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    first = survey(checkpoint, output)
    if change == "config":
        (checkpoint / "README.md").write_text("new")
    elif change == "file name":
        (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00001.safetensors")
    else:
        old = output / "local" / "model" / ("0" * 40)
        (output / "local" / "model" / first["commit"]).rename(old)
        text = (old / "manifest.json").read_text().replace(first["commit"], old.name)
        earlier = json.loads(text)
        earlier["tensor"]["content_id"] = "1" * 64
        del earlier["tensor"]["content_id_from"]
        (old / "manifest.json").write_text(json.dumps(earlier))
        first = earlier
    with caplog.at_level(logging.INFO):
        second = survey(checkpoint, output)
    assert second["commit"] != first["commit"]
    assert second["artifacts"]["W"] == first["artifacts"]["W"]
    assert f"this W is published as {first['commit']}" in caplog.text
    assert len(list(output.rglob("W.safetensors"))) == 1


@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
def test_groups_by_value_that_differ_are_told_of_even_where_their_counts_agree(
    tmp_path: Path, output: Path, dedup: str
) -> None:
    w = planted(40, 8, [])
    w[5], w[6], w[7, 0], w[8] = 0.0, -0.0, math.nan, w[8]
    w[8] = w[7].clone()
    statistics = survey(write_checkpoint(tmp_path / "odd", w), output, "--dedup", dedup)["statistics"]
    assert statistics["black_hole_tokens"] == statistics["by_value"]["black_hole_tokens"] == 2
    assert not statistics["by_value"]["agrees"]


def test_numbers_beyond_float32_are_warned_of(tmp_path: Path, output: Path) -> None:
    w = planted(40, 8, [], torch.float64)
    w[3, 3] = 1e300
    assert any("float32" in warning for warning in survey(write_checkpoint(tmp_path / "f64", w), output)["warnings"])


@pytest.mark.parametrize("name", ["with space", "ünï–cødé", "back\\slash", "<b>&", "a'b\"c"])
def test_a_folder_may_have_any_name(tmp_path: Path, output: Path, name: str) -> None:
    checkpoint = write_checkpoint(tmp_path / name, planted(40, 8, GROUPS))
    for _ in range(2):
        assert main([str(checkpoint), "--output", str(output)]) == 0
    (manifest,) = output.rglob("manifest.json")
    assert json.loads(manifest.read_text())["statistics"]["black_hole_tokens"] == 5
    assert "<b>" not in next(output.rglob("report.md")).read_text()


def test_a_survey_is_not_published_into_its_own_checkpoint(checkpoint: Path) -> None:
    assert main([str(checkpoint), "--output", str(checkpoint / "surveys")]) == 78


def test_what_killed_runs_left_on_the_scratch_disk_goes(checkpoint: Path, output: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    abandoned = scratch / "black-hole-survey-abandoned"
    abandoned.mkdir(parents=True)
    (abandoned / "W").write_bytes(bytes(100))
    os.utime(abandoned, (1, 1))
    (scratch / "somebody's").mkdir()
    survey(checkpoint, output, "--scratch", str(scratch))
    assert [path.name for path in scratch.iterdir()] == ["somebody's"]


def test_a_head_stored_by_columns_in_a_bin_is_planned_surveyed_and_compared_in_full(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "columns", planted(400, 8, GROUPS))
    (checkpoint / "model.safetensors").unlink()
    w = planted(400, 8, GROUPS)
    by_columns, copy = w.T.contiguous(), w.T.contiguous()
    copy[3, 399] += 1  # in no row that is sampled
    names = {"lm_head.weight": by_columns.T, "model.embed_tokens.weight": copy.T}
    torch.save(names, checkpoint / "pytorch_model.bin")
    assert main(["plan", str(checkpoint), "--output", str(output), "--format", "json"]) == 0
    need = json.loads(capsys.readouterr().out)["models"][0]["need"]
    tables = 400 * NUMBERS_SCRATCH_NBYTES
    assert need["scratch_nbytes"] == 400 * 8 * 2 + tables
    assert main(["plan", str(checkpoint), "--output", str(output), "--format", "json", "--tensors", "mu"]) == 0
    need = json.loads(capsys.readouterr().out)["models"][0]["need"]
    assert need["scratch_nbytes"] == 2 * 400 * 8 * 2 + tables
    manifest = survey(checkpoint, output)
    assert torch.equal(load_file(output / manifest["artifacts"]["W"]["key"])["W"], w)
    assert manifest["tensor"]["tie"] == "untied"
    assert "differ" in manifest["tensor"]["tie_evidence"]


def test_folders_of_one_name_are_two_models(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for parent, groups in (("a", [[1, 2]]), ("b", [[3, 4], [5, 6]])):
        manifest = survey(write_checkpoint(tmp_path / parent / "final", planted(40, 8, groups)), output)
        assert manifest["previous"] is None
        printed = capsys.readouterr().out
        assert "New: 1 model" in printed
        assert "Black holes changed" not in printed
    write_checkpoint(tmp_path / "a" / "final", planted(40, 8, [[1, 2], [7, 8]]))
    again = survey(tmp_path / "a" / "final", output)
    assert again["previous"]["black_holes"] == 1
    assert "joined 7, 8" in capsys.readouterr().out


def test_a_tensor_of_the_same_name_at_another_place_is_a_new_model(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for parent, groups in (("a", [[1, 2]]), ("b", [[3, 4], [5, 6]])):
        folder = write_checkpoint(tmp_path / parent / "final", planted(40, 8, groups))
        (tmp_path / f"{parent}.yaml").write_text(f"- model: {folder}\n  tensor: lm_head.weight\n")
        assert main(["--models-file", str(tmp_path / f"{parent}.yaml"), "--output", str(output)]) == 0
        assert "New: 1 model" in capsys.readouterr().out


def test_a_named_checkpoint_is_filed_under_its_name(
    tmp_path: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = []
    for parent, groups in (("a", [[1, 2]]), ("b", [[3, 4]])):
        lines.append(f"- model: {write_checkpoint(tmp_path / parent / 'final', planted(40, 8, groups))}\n")
    (tmp_path / "list.yaml").write_text("".join(lines))
    arguments = ["--models-file", str(tmp_path / "list.yaml"), "--output", str(output)]
    assert main(arguments) == main(["plan", *arguments]) == 0
    assert caplog.text.count("local/final: found 2 checkpoints") == 2
    (tmp_path / "list.yaml").write_text(lines[0] + lines[1] + "  name: run-b\n")
    caplog.clear()
    assert main(arguments) == 0
    assert "found 2 checkpoints" not in caplog.text
    assert json.loads((output / "local/run-b/latest.json").read_text())["model"] == "local/run-b"


ALIKE = {
    "zeros": (torch.zeros(40, 8), "all 40 rows are zeros: "),
    "zeros of both signs": (torch.zeros(40, 8) * planted(40, 8, []).float(), "all 40 rows are zeros: "),
    "ones": (torch.ones(40, 8), "all 40 rows are bit-for-bit the same: "),
    "NaNs": (torch.full((40, 8), math.nan), "all 40 rows are bit-for-bit the same: "),
    "zeros at the end": (
        planted(40, 8, [list(range(19, 40))]),
        "21 of 40 rows, more than half, are bit-for-bit the same",
    ),
}


@pytest.mark.parametrize(("w", "warning"), ALIKE.values(), ids=ALIKE)
def test_rows_that_are_all_alike_are_warned_of_first(
    tmp_path: Path, output: Path, w: torch.Tensor, warning: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "alike", w)
    (tmp_path / "list.yaml").write_text(f"- model: {checkpoint}\n  note: mine\n")
    assert main(["--models-file", str(tmp_path / "list.yaml"), "--output", str(output)]) == 0
    warnings = json.loads((output / "local/alike/latest.json").read_text())["warnings"]
    assert warnings[0].startswith(warning)
    assert "unfinished download" in warnings[0]


def test_half_of_the_rows_alike_is_not_warned_of(tmp_path: Path, output: Path) -> None:
    manifest = survey(write_checkpoint(tmp_path / "half", planted(40, 8, [list(range(20))])), output)
    assert not any("unfinished" in warning for warning in manifest["warnings"])
