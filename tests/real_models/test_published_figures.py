"""The figures published for real models: their groups, planted in a synthetic W of the same size, are found again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from entrypoint import main

FIGURES = json.loads((Path(__file__).parents[1] / "data" / "published_figures.json").read_text())
INSTRUCT = FIGURES["Qwen/Qwen3-4B-Instruct-2507"]


def planted_groups(figures: dict[str, Any]) -> list[list[int]]:
    """Groups with the published populations, and with the published ids as far as they were published."""
    firsts, lasts = figures.get("first_ids", []), figures.get("last_ids_of_holes_1_to_5", [])
    groups: list[list[int]] = [
        figures.get("members", {}).get(str(number)) or [*firsts[number - 1 : number], *lasts[number - 1 : number]]
        for number in range(1, len(figures["populations"]) + 1)
    ]
    used = {row for group in groups for row in group}
    free = iter(row for row in range(60_000, figures["n_rows"]) if row not in used)
    for group, population, first in zip(groups, figures["populations"], [*firsts, *[0] * len(groups)], strict=False):
        while len(group) < population:
            if (row := next(free)) > first:
                group.append(row)
    return [sorted(group) for group in groups]


def survey_of_planted(
    figures: dict[str, Any], hidden_size: int, folder: Path
) -> tuple[dict[str, Any], list[list[int]]]:
    """Survey a checkpoint whose W has the groups; returns its manifest and the groups, in the order they must have."""
    groups = planted_groups(figures)
    generator = torch.Generator().manual_seed(0)
    # A counter in the first columns keeps all other rows apart, whatever the random numbers are.
    w = torch.randn(figures["n_rows"], hidden_size, generator=generator).to(torch.bfloat16)
    w.view(torch.int16)[:, 0] = torch.arange(figures["n_rows"]) % 30_000
    w.view(torch.int16)[:, 1] = torch.arange(figures["n_rows"]) // 30_000
    for group in groups:
        w[group] = w[group[0]].clone()
    checkpoint = folder / "planted"
    checkpoint.mkdir()
    save_file({"lm_head.weight": w}, checkpoint / "model.safetensors")
    assert main([str(checkpoint), "--output", str(folder / "out"), "--tensors", "black_holes"]) == 0
    (manifest,) = (folder / "out").rglob("manifest.json")
    return json.loads(manifest.read_text()), sorted(groups, key=lambda group: (-len(group), group[0]))


def test_the_groups_published_for_qwen3_4b_instruct_are_found_at_their_ids(tmp_path: Path) -> None:
    manifest, groups = survey_of_planted(INSTRUCT, INSTRUCT["hidden_size"], tmp_path)
    assert manifest["tensor"]["nbytes"] == INSTRUCT["w_nbytes"]
    for count in ("unique_rows", "duplicate_rows", "black_holes", "black_hole_tokens"):
        assert manifest["statistics"][count] == INSTRUCT[count], count
    assert round(manifest["statistics"]["mean_population"], 2) == INSTRUCT["mean_population"]
    assert manifest["statistics"]["median_population"] == INSTRUCT["median_population"]
    found = [[token["id"] for token in hole["tokens"]] for hole in manifest["black_holes"]]
    assert found == groups
    assert [len(hole) for hole in found] == INSTRUCT["populations"]
    assert [hole[0] for hole in found] == INSTRUCT["first_ids"]
    assert [hole[-1] for hole in found[:5]] == INSTRUCT["last_ids_of_holes_1_to_5"]
    assert {number: found[int(number) - 1] for number in INSTRUCT["members"]} == INSTRUCT["members"]
    with safe_open(tmp_path / "out" / manifest["artifacts"]["black_holes"]["key"], "np") as tensors:
        ids = tensors.get_tensor("black_hole_id")
        assert ids.dtype == np.uint8
        assert [np.flatnonzero(ids == number + 1).tolist() for number in range(len(found))] == found
        assert np.array_equal(tensors.get_tensor("black_hole_mask"), ids > 0)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B-Base", "Qwen/Qwen2.5-3B-Instruct"])
def test_the_populations_published_for_other_models_give_their_counts(model: str, tmp_path: Path) -> None:
    figures = FIGURES[model]
    manifest, groups = survey_of_planted(figures, 4, tmp_path)
    for count in ("unique_rows", "duplicate_rows", "black_holes", "black_hole_tokens"):
        assert manifest["statistics"][count] == figures[count], count
    assert [hole["population"] for hole in manifest["black_holes"]] == figures["populations"]
    assert [[token["id"] for token in hole["tokens"]] for hole in manifest["black_holes"]] == groups
