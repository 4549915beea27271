"""Surveys that the job itself made, and the servers to read them from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.servers.conftest import s3_bucket as s3_bucket
from tests.servers.conftest import s3_server as s3_server

GROUPS = [[3, 9, 21], [10, 11]]
IN_HOLES = [3, 9, 10, 11, 21]
N_ROWS, HIDDEN_SIZE = 40, 8

Publish = Callable[..., Path]
"""Of the name of a checkpoint, optionally its W and arguments of the job: the folder of the surveys."""


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Surveys a checkpoint into the same folder each time."""

    def survey(
        name: str = "model",
        w: torch.Tensor | None = None,
        *arguments: str,
        output: str | Path = tmp_path / "surveys",
        n_tokens: int | None = N_ROWS - 4,
    ) -> Path:
        w = planted(N_ROWS, HIDDEN_SIZE, GROUPS) if w is None else w
        checkpoint = write_checkpoint(tmp_path / "models" / name, w, n_tokens=n_tokens)
        assert main([str(checkpoint), "--output", str(output), *arguments]) == 0
        return Path(output)

    return survey
