"""Surveys of small checkpoints, in this process."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from entrypoint import main
from job.store.artifacts import TOKEN_ARTIFACTS

TENSOR_FILES = ("W", "mu", "gamma_centered", "black_holes", "projection")
ALL_ARTIFACTS = {*TENSOR_FILES, *TOKEN_ARTIFACTS}
"""What a survey publishes by default, if the checkpoint has a tokenizer."""
WITHOUT_TOKENIZER = ALL_ARTIFACTS - {"valid_ids"}
"""And if it has none."""


def survey(checkpoint: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """Survey a checkpoint, which must succeed, and return its latest manifest."""
    assert main([str(checkpoint), "--output", str(output), *arguments]) == 0
    manifest: dict[str, Any] = json.loads((output / "local" / checkpoint.name / "latest.json").read_text())
    return manifest


def survey_with_tensors(
    checkpoint: Path, output: Path, *arguments: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The same, with the published tensors."""
    manifest = survey(checkpoint, output, *arguments)
    return manifest, {
        name: tensor
        for artifact in TENSOR_FILES
        for name, tensor in load_file(output / manifest["artifacts"][artifact]["key"]).items()
    }
