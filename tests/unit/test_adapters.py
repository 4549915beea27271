"""From an adapter to its base model: which model is opened, what is recorded, and where it ends."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.adapters import follow_base
from job.checkpoints.sources.folder import open_folder
from job.errors import ModelUnavailable, UnsupportedCheckpoint
from job.models.references import ModelRef
from tests.checkpoints import planted, write_checkpoint


class Shelf:
    """Models by reference, in folders; it remembers what was opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[str] = []

    def adapter(self, reference: str, **config: object) -> None:
        folder = self.folder / reference
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / "adapter_model.safetensors").write_bytes(b"")

    def open(self, ref: ModelRef) -> Checkpoint:
        self.opened.append(str(ref))
        return replace(open_folder(self.folder / str(ref)), repo_id=ref.location, commit=ref.revision or "main")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    write_checkpoint(tmp_path / "org/base", planted(9, 4, []))
    write_checkpoint(tmp_path / "org/base@v1", planted(9, 4, []))
    return Shelf(tmp_path)


def follow(shelf: Shelf, reference: str) -> Checkpoint:
    return follow_base(shelf.open(ModelRef("hub", reference)), shelf.open)


def test_an_adapter_leads_to_its_base_which_remembers_where_it_came_from(shelf: Shelf) -> None:
    shelf.adapter("me/tuned", base_model_name_or_path="org/base")
    base = follow(shelf, "me/tuned")
    assert (base.repo_id, base.followed_from) == ("org/base", ("me/tuned@main",))


def test_the_revision_that_the_adapter_names_is_opened(shelf: Shelf) -> None:
    shelf.adapter("me/tuned", base_model_name_or_path="org/base", revision="v1")
    follow(shelf, "me/tuned")
    assert shelf.opened == ["me/tuned", "org/base@v1"]


def test_an_adapter_of_an_adapter_is_followed_through(shelf: Shelf) -> None:
    shelf.adapter("me/once", base_model_name_or_path="org/base")
    shelf.adapter("me/twice", base_model_name_or_path="me/once")
    assert follow(shelf, "me/twice").followed_from == ("me/twice@main", "me/once@main")


def test_a_whole_model_is_itself_merged_or_not(shelf: Shelf) -> None:
    shelf.adapter("me/merged", base_model_name_or_path="org/base")
    write_checkpoint(shelf.folder / "me/merged", planted(9, 4, []))
    assert follow(shelf, "org/base").followed_from == ()
    assert follow(shelf, "me/merged").repo_id == "me/merged"


def test_adapters_that_lead_in_a_circle_are_refused(shelf: Shelf) -> None:
    shelf.adapter("me/a", base_model_name_or_path="me/b")
    shelf.adapter("me/b", base_model_name_or_path="me/a")
    with pytest.raises(UnsupportedCheckpoint, match="me/a@main → me/b@main lead back to it, expected a whole model"):
        follow(shelf, "me/a")


def test_a_chain_of_adapters_ends_somewhere(shelf: Shelf) -> None:
    for number in range(9):
        shelf.adapter(f"me/a{number}", base_model_name_or_path=f"me/a{number + 1}")
    with pytest.raises(UnsupportedCheckpoint, match="found adapters of adapters, expected at most 4"):
        follow(shelf, "me/a0")


@pytest.mark.parametrize(
    "base", ["/etc", "./base", "../org/base", "~", "s3://bucket/base", "gpt2", "org/base@v1", "", None, 7, ["org/base"]]
)
def test_what_is_no_model_on_the_hub_is_not_opened(shelf: Shelf, base: object) -> None:
    shelf.adapter("me/tuned", base_model_name_or_path=base)
    with pytest.raises(UnsupportedCheckpoint, match="survey the base model by its own reference"):
        follow(shelf, "me/tuned")
    assert shelf.opened == ["me/tuned"]


def test_a_base_that_cannot_be_opened_is_the_models_failure(shelf: Shelf) -> None:
    shelf.adapter("me/tuned", base_model_name_or_path="org/removed")
    with pytest.raises(ModelUnavailable, match="org/removed"):
        follow(shelf, "me/tuned")
