"""Which source a reference is read from, and what a run asks servers with."""

from pathlib import Path

import pytest

from job.checkpoints.sources.access import Access
from job.checkpoints.sources.open import open_checkpoint
from job.checkpoints.transport.cooldowns import Cooldowns
from job.errors import ModelUnavailable
from job.models.references import parse_reference
from tests.checkpoints import planted, write_checkpoint

ACCESS = Access(hf_endpoint=None, hf_token="hf_secret", read_timeout=1.0, cooldowns=Cooldowns())


def test_the_token_is_not_shown() -> None:
    assert "hf_secret" not in repr(ACCESS)


def test_without_an_endpoint_the_public_hub_is_asked() -> None:
    assert ACCESS.hub == "https://huggingface.co"
    assert ACCESS.client(ACCESS.hub).cooldown is ACCESS.cooldowns.of("https://huggingface.co/org/model")


def test_a_folder_is_opened_and_a_revision_is_looked_for_in_the_hubs_cache(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "models--org--name", planted(10, 4, []))
    checkpoint = open_checkpoint(parse_reference(str(folder)), ACCESS)
    assert (checkpoint.repo_id, checkpoint.revision) == ("local/models--org--name", None)
    with pytest.raises(ModelUnavailable, match="not a folder of the Hub's cache"):
        open_checkpoint(parse_reference(f"{folder}@main"), ACCESS)
