"""What is filed of a model with several surveys: which is the latest, what is reused, and what is left alone."""

import fcntl
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from safetensors.torch import save_file

from entrypoint import main
from job.manifest.published import ContentIdentity, find_published
from job.scratch import scratch_folder
from job.store.folder import FolderStore
from tests.checkpoints import planted, write_checkpoint
from tests.surveys import survey

HOME = Path("local/model")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def checkpoint_with(tmp_path: Path, *group: int) -> Path:
    """The checkpoint ``model`` with other weights than before, and so with another commit."""
    return write_checkpoint(tmp_path / "model", planted(40, 8, [list(group)]))


def latest(output: Path) -> Any:
    return json.loads((output / HOME / "latest.json").read_text())


def change_manifest(output: Path, manifest: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Give a published manifest other fields, and remove those that are None."""
    changed = {name: value for name, value in {**manifest, **fields}.items() if value is not None}
    (output / HOME / manifest["commit"] / "manifest.json").write_text(json.dumps(changed))
    return changed


def test_latest_json_is_mended_also_where_two_surveys_fall_into_one_second(tmp_path: Path, output: Path) -> None:
    first = survey(checkpoint_with(tmp_path, 1, 2), output)
    old = (output / HOME / "latest.json").read_bytes()
    second = survey(checkpoint_with(tmp_path, 3, 4), output)
    change_manifest(output, second, published_at=first["published_at"])
    (output / HOME / "latest.json").write_bytes(old)  # killed before the copy was written
    assert survey(tmp_path / "model", output)["commit"] == second["commit"]


def test_latest_json_is_mended_also_where_two_runs_publish_one_survey_in_one_second(
    tmp_path: Path, output: Path
) -> None:
    folder = checkpoint_with(tmp_path, 1, 2)
    first = survey(folder, output, "--tensors", "W")
    second = survey(folder, output)
    change_manifest(output, second, published_at=first["published_at"], sequence=first["sequence"])
    (output / HOME / "latest.json").write_text(json.dumps(first))  # by the run that wrote its manifest first
    assert survey(folder, output)["artifacts"] == second["artifacts"]


def test_latest_json_does_not_go_back_to_a_survey_by_a_machine_whose_clock_was_ahead(
    tmp_path: Path, output: Path
) -> None:
    first = survey(checkpoint_with(tmp_path, 1, 2), output)
    ahead = change_manifest(output, first, published_at="2099-01-01T00:00:00+00:00")
    (output / HOME / "latest.json").write_text(json.dumps(ahead))
    second = survey(checkpoint_with(tmp_path, 3, 4), output)
    assert main([str(checkpoint_with(tmp_path, 1, 2)), "--output", str(output)]) == 0
    assert latest(output)["commit"] == second["commit"] != first["commit"]


def test_surveys_of_earlier_versions_are_ordered_by_their_dates_and_come_first(tmp_path: Path, output: Path) -> None:
    first = survey(checkpoint_with(tmp_path, 1, 2), output)
    old = change_manifest(output, first, sequence=None, published_at="2099-01-01T00:00:00+00:00")
    (output / HOME / "latest.json").write_text(json.dumps(old))
    assert survey(checkpoint_with(tmp_path, 3, 4), output)["commit"] != first["commit"]


def test_latest_json_leaves_a_survey_whose_files_are_gone(tmp_path: Path, output: Path) -> None:
    first = survey(checkpoint_with(tmp_path, 1, 2), output)
    second = survey(checkpoint_with(tmp_path, 3, 4), output)
    shutil.rmtree(output / HOME / second["commit"])
    assert survey(checkpoint_with(tmp_path, 1, 2), output)["commit"] == first["commit"]


def test_a_tensor_that_was_asked_for_is_never_the_latest_even_if_it_is_there_already(
    tmp_path: Path, output: Path
) -> None:
    checkpoint = checkpoint_with(tmp_path, 1, 2)
    save_file(
        {"lm_head.weight": planted(40, 8, []), "my.head": planted(40, 8, [[1, 2]])}, checkpoint / "model.safetensors"
    )
    models = tmp_path / "models.yaml"
    models.write_text(f"- model: {checkpoint}\n  tensor: my.head\n")
    assert main(["--models-file", str(models), "--output", str(output)]) == 0
    assert not (output / HOME / "latest.json").exists()
    (asked,) = output.rglob("manifest.json")
    (output / HOME / "latest.json").write_bytes(asked.read_bytes())  # as earlier versions did
    assert not survey(checkpoint, output)["tensor"]["chosen_by_user"]


def test_a_page_is_made_again_if_it_is_missing_or_another_and_left_alone_if_not(tmp_path: Path, output: Path) -> None:
    manifest = survey(checkpoint_with(tmp_path, 1, 2), output)
    page = output / manifest["pages"]["report"]
    text, before = page.read_text(), page.stat()
    assert survey(tmp_path / "model", output) == manifest
    assert page.stat() == before
    page.write_text("of a run that was killed before it wrote its manifest")
    assert survey(tmp_path / "model", output) == manifest
    assert page.read_text() == text
    page.unlink()
    assert survey(tmp_path / "model", output) == manifest
    assert page.read_text() == text
    assert "report" not in manifest["artifacts"]


@pytest.mark.writes_invalid_manifests
def test_a_manifest_of_an_earlier_version_that_names_the_pages_hash_counts_and_gets_its_page(
    tmp_path: Path, output: Path
) -> None:
    manifest = survey(checkpoint_with(tmp_path, 1, 2), output)
    key = manifest["pages"]["report"]
    artifacts = manifest["artifacts"] | {"report": {"key": key, "size": 7, "sha256": "0" * 64}}
    missing = dict.fromkeys(
        ("pages", "sequence", "source", "revision", "followed_from", "tool", "seconds", "activity_seconds", "previous")
    )
    tensor = {
        name: value for name, value in manifest["tensor"].items() if not name.startswith("tie_") and name != "tie"
    }
    change_manifest(output, manifest, artifacts=artifacts, tensor=tensor, tokenizer={"files": {}}, **missing)
    (output / key).unlink()
    before = sorted(path.stat().st_mtime_ns for path in output.rglob("*.safetensors"))
    assert main([str(tmp_path / "model"), "--output", str(output)]) == 0
    assert "# local/model" in (output / key).read_text()
    assert before == sorted(path.stat().st_mtime_ns for path in output.rglob("*.safetensors"))


@dataclass(frozen=True)
class CountingStore(FolderStore):
    """A folder that remembers what was read of it."""

    reads: list[str] = field(default_factory=list)

    def read(self, key: str) -> bytes | None:
        self.reads.append(key)
        return super().read(key)


def identity_of(manifest: dict[str, Any]) -> ContentIdentity:
    tensor = manifest["tensor"]
    return ContentIdentity(
        tensor["content_id"], tensor["begin"], tensor["end"], tensor["dtype"], tuple(tensor["shape"]), None
    )


def test_a_published_survey_and_a_commit_with_the_newest_w_cost_a_few_reads_however_many_there_are(
    tmp_path: Path, output: Path
) -> None:
    manifests = [survey(checkpoint_with(tmp_path, 0, last), output) for last in range(1, 9)]
    identity, source = identity_of(manifests[3]), str(tmp_path / "model")
    store, tensors = CountingStore(output), frozenset({"W", "mu"})
    listing = store.listing("local/model/")

    def find(commit: str, identity: ContentIdentity) -> Any:
        store.reads.clear()
        name = "lm_head.weight"
        return find_published(
            store, listing, "local/model", commit, source, identity, None, name, tensors, lambda _: True
        )

    published = find(manifests[3]["commit"], identity)
    assert published.this_survey == manifests[3]
    assert len(store.reads) == 1
    published = find("f" * 40, identity_of(manifests[-1]))
    assert (published.this_survey, published.same_w, published.new_item) == (None, manifests[-1], "revision")
    assert published.last_sequence == manifests[-1]["sequence"]
    assert len(store.reads) <= 2
    published = find("f" * 40, identity)
    assert (published.same_w, published.previous_survey) == (manifests[3], manifests[-1])
    assert published.last_sequence == manifests[-1]["sequence"]


def test_tensors_of_one_w_are_reused_from_several_surveys(tmp_path: Path, output: Path) -> None:
    checkpoint = checkpoint_with(tmp_path, 1, 2)
    survey(checkpoint, output, "--tensors", "W")
    (checkpoint / "config.json").write_text(json.dumps({"other": "commit"}))
    survey(checkpoint, output, "--tensors", "W,mu")
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    assert len(written) == 2, "W is published once"
    (checkpoint / "config.json").write_text(json.dumps({"third": "commit"}))
    third = survey(checkpoint, output, "--tensors", "W,mu")
    assert third["artifacts"].keys() == {"W", "mu"}
    assert written == {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}


def test_a_folder_that_another_run_looks_at_just_when_it_is_made_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp

    def make_while_another_looks(**arguments: Any) -> str:
        folder: str = make(**arguments)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Timer(0.2, lambda: os.close(descriptor)).start()
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_while_another_looks)
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
