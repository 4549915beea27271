"""Whether the embedding beside W is a copy: what rows tell before W is read, and what all bytes tell after."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from entrypoint import main
from job.checkpoints.head.tie import N_SAMPLES
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from tests.checkpoints import planted, recorded, write_checkpoint

N_ROWS, COLUMNS = 4000, 8
NBYTES = N_ROWS * COLUMNS * 2


def write(folder: Path, *, differing_row: int | None, says_tied: bool = False) -> Path:
    """A checkpoint with a head and an embedding that differ in one row, or in none."""
    head = planted(N_ROWS, COLUMNS, [[3, 9]])
    embedding = head.clone()
    if differing_row is not None:
        embedding[differing_row, 0] += 1000
    write_checkpoint(folder, head)
    save_file({"lm_head.weight": head, "model.embed_tokens.weight": embedding}, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": says_tied}))
    return folder


def survey(folder: Path, output: Path) -> dict[str, Any]:
    assert main([str(folder), "--output", str(output)]) == 0
    manifest: dict[str, Any] = json.loads((output / "local" / folder.name / "latest.json").read_text())
    return manifest


def test_a_copy_is_told_by_rows_first_and_the_evidence_says_that_it_was(tmp_path: Path) -> None:
    found = find_unembedding(open_folder(write(tmp_path / "m", differing_row=None)), None)
    assert (found.tie, found.tied) == ("tied_copy", False)
    assert f"agree in the {N_SAMPLES} rows compared, spread over 4,000; the others were not" in found.tie_evidence


def test_a_survey_compares_all_bytes_of_a_copy_and_counts_them(tmp_path: Path) -> None:
    manifest = survey(write(tmp_path / "m", differing_row=None), tmp_path / "out")
    assert manifest["tensor"]["tie"] == "tied_copy"
    assert f"all their {NBYTES:,} bytes agree" in manifest["tensor"]["tie_evidence"]
    assert manifest["checkpoint"]["bytes_fetched"] >= 2 * NBYTES
    assert "compare embedding" in manifest["seconds"]


@pytest.mark.parametrize(("says_tied", "tie"), [(True, "config_says_tied_but_differ"), (False, "untied")])
def test_a_difference_in_a_row_that_no_sample_saw_is_found_by_the_survey(
    tmp_path: Path, says_tied: bool, tie: str
) -> None:
    folder = write(tmp_path / "m", differing_row=5, says_tied=says_tied)
    assert find_unembedding(open_folder(folder), None).tie == "tied_copy"
    manifest = survey(folder, tmp_path / "out")
    assert manifest["tensor"]["tie"] == tie
    assert "differ, although not in the rows that were compared first" in manifest["tensor"]["tie_evidence"]


def test_a_difference_in_a_sampled_row_costs_no_reading_of_the_embedding(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", differing_row=N_ROWS - 1)
    assert "compare embedding" not in survey(folder, tmp_path / "out")["seconds"]


def test_the_first_row_is_enough_to_tell_two_matrices_apart(tmp_path: Path) -> None:
    checkpoint, ranges = recorded(open_folder(write(tmp_path / "m", differing_row=0)))
    assert find_unembedding(checkpoint, None).tie == "untied"
    reads = [end - begin for file, begin, end in ranges if begin > 8 and file == "model.safetensors"]
    assert reads == [COLUMNS * 2] * 2


def test_a_tied_embedding_is_not_read_twice(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", differing_row=None, says_tied=True)
    save_file({"model.embed_tokens.weight": torch.ones(N_ROWS, COLUMNS)}, folder / "model.safetensors")
    manifest = survey(folder, tmp_path / "out")
    assert manifest["tensor"]["tie"] == "tied"
    assert manifest["tensor"]["tie_evidence"].startswith("no output head is stored and config.json ties it")
    assert "compare embedding" not in manifest["seconds"]


@pytest.mark.parametrize(("row", "words"), [(None, "a copy is stored"), (0, "no, although the config says so")])
def test_the_report_shows_the_state_with_its_evidence(tmp_path: Path, row: int | None, words: str) -> None:
    manifest = survey(write(tmp_path / "m", differing_row=row, says_tied=True), tmp_path / "out")
    page = (tmp_path / "out" / manifest["pages"]["report"]).read_text()
    assert re.search(rf"\| tied to the input embedding \| {words}: .*both stored", page)
