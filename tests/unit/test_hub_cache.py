"""Checkpoints in the Hub's cache: which revision, under which name and ids, and what an incomplete one says."""

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from job.checkpoints.sources.folder import open_folder
from job.checkpoints.sources.hub_cache import cached_revisions, is_in_hub_cache, open_hub_cache
from job.errors import CorruptCheckpoint, ModelUnavailable

OLD, NEW = "1" * 40, "2" * 40
WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A repository with two snapshots of the same weights; main is the newer one."""
    repository = tmp_path / "models--org--some-name"
    for commit, config in ((OLD, b"old"), (NEW, b"new")):
        put(repository, commit, "config.json", config, hashlib.sha1(config).hexdigest())  # noqa: S324 - as git does
        put(repository, commit, "sub/model.safetensors", WEIGHTS, SHA256)
    for ref, commit in (("main", NEW), ("refs/pr/7", OLD)):
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return repository


def put(repository: Path, commit: str, name: str, content: bytes, blob: str) -> None:
    file = repository / "snapshots" / commit / name
    file.parent.mkdir(parents=True, exist_ok=True)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "blobs" / blob).write_bytes(content)
    file.symlink_to("/".join([*[".."] * (2 + name.count("/")), "blobs", blob]))


@pytest.mark.parametrize(
    ("path", "revision", "commit"),
    [
        ("", None, NEW),
        ("", "main", NEW),
        ("", "refs/pr/7", OLD),
        ("", OLD, OLD),
        (f"snapshots/{OLD}", None, OLD),
    ],
    ids=["main-by-default", "main", "pull-request", "commit", "snapshot"],
)
def test_it_is_filed_as_on_the_hub(cached: Path, path: str, revision: str | None, commit: str) -> None:
    assert is_in_hub_cache(cached / path)
    checkpoint = open_hub_cache(cached / path, revision)
    assert (checkpoint.repo_id, checkpoint.revision, checkpoint.commit) == ("org/some-name", revision, commit)
    assert checkpoint.files["sub/model.safetensors"].content_id == SHA256
    assert checkpoint.fetch("sub/model.safetensors", 1, 4) == WEIGHTS[1:4]
    assert checkpoint.local_paths["config.json"].read_bytes() == (b"new" if commit == NEW else b"old")


def test_the_revisions_that_it_knows_are_listed_without_those_that_git_cannot_name(cached: Path) -> None:
    for name in ("v1.0", "eval/step3", "a b", "step*", "x\n", os.fsdecode(b"caf\xe9")):
        (cached / "refs" / name).parent.mkdir(exist_ok=True)
        (cached / "refs" / name).write_text(OLD)
    (cached / "refs" / "damaged").write_text("../../elsewhere")
    assert {(named.name, named.ref, named.commit) for named in cached_revisions(cached)} == {
        ("main", "refs/heads/main", NEW),
        ("v1.0", "refs/heads/v1.0", OLD),
        ("eval/step3", "refs/heads/eval/step3", OLD),
        ("refs/pr/7", "refs/pr/7", OLD),
    }
    with pytest.raises(ModelUnavailable, match="not a folder of the Hub's cache"):
        cached_revisions(cached / "refs")


def git_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324 - as git does


def test_a_blob_that_does_not_have_the_sha256_of_its_name_is_corrupt(cached: Path) -> None:
    blob = hashlib.sha256(b"{}").hexdigest()
    put(cached, NEW, "tokenizer.model", b"{}", blob)
    assert open_hub_cache(cached, None).read("tokenizer.model", 100) == b"{}"
    (cached / "blobs" / blob).write_bytes(b"[}")
    with pytest.raises(
        CorruptCheckpoint, match=r"tokenizer.model: found content that differs from its SHA-256, .* again"
    ):
        open_hub_cache(cached, None).read("tokenizer.model", 100)


@pytest.mark.parametrize("name", ["tokenizer.json", "sub/config.json"])
def test_a_blob_that_does_not_have_the_git_id_of_its_name_is_told_of(
    cached: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    blob = git_id(b"{}")
    put(cached, NEW, name, b"{}", blob)
    checkpoint = open_hub_cache(cached, None)
    assert checkpoint.files[name].matches([checkpoint.read(name, 100)])
    assert caplog.text == ""
    (cached / "blobs" / blob).write_bytes(b"[}")
    checkpoint = open_hub_cache(cached, None)
    assert not checkpoint.files[name].matches([checkpoint.read(name, 100)])
    assert f"{name}: found content that differs from its git id" in caplog.text


def test_a_copy_in_a_cache_without_links_has_no_digest(cached: Path) -> None:
    (cached / "snapshots" / NEW / "vocab.txt").write_bytes(b"a")
    assert open_hub_cache(cached, None).read("vocab.txt", 100) == b"a"


def test_the_only_snapshot_needs_no_name(cached: Path) -> None:
    shutil.rmtree(cached / "refs")
    shutil.rmtree(cached / "snapshots" / NEW)
    assert open_hub_cache(cached, None).commit == OLD


def test_of_several_snapshots_without_main_one_has_to_be_named(cached: Path) -> None:
    (cached / "refs" / "main").unlink()
    with pytest.raises(ModelUnavailable, match=f"found {OLD}, {NEW}, expected main; name one"):
        open_hub_cache(cached, None)


@pytest.mark.parametrize("revision", ["v9", "../../../etc/hostname", "3" * 40, "../snapshots"])
def test_a_revision_that_is_not_there_is_unavailable(cached: Path, revision: str) -> None:
    with pytest.raises(ModelUnavailable, match="hf download org/some-name --revision"):
        open_hub_cache(cached, revision)


def test_a_ref_to_a_snapshot_that_was_removed_is_unavailable(cached: Path) -> None:
    shutil.rmtree(cached / "snapshots" / NEW)
    with pytest.raises(ModelUnavailable, match="found nothing, expected a snapshot; download it again"):
        open_hub_cache(cached, None)


def test_a_ref_that_holds_no_commit_is_corrupt(cached: Path) -> None:
    (cached / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(CorruptCheckpoint, match="40 hexadecimal digits"):
        open_hub_cache(cached, None)


def test_a_file_whose_blob_is_gone_is_set_aside_and_says_how_to_get_it(cached: Path) -> None:
    (cached / "blobs" / SHA256).unlink()
    checkpoint = open_hub_cache(cached, None)
    assert set(checkpoint.files) == {"config.json"}
    reason = checkpoint.set_aside["sub/model.safetensors"]
    assert re.search(rf"{SHA256}: no such file .*download it again: hf download .* --revision {NEW}", reason)


def test_a_copy_in_place_of_a_link_is_identified_as_in_a_folder(cached: Path) -> None:
    file = cached / "snapshots" / NEW / "sub" / "model.safetensors"
    file.unlink()
    file.write_bytes(WEIGHTS)
    checkpoint = open_hub_cache(cached, None)
    expected = open_folder(file.parents[1]).files["sub/model.safetensors"].content_id
    assert checkpoint.files["sub/model.safetensors"].content_id == expected != SHA256


def test_a_link_out_of_the_cache_is_not_read(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (cached / "snapshots" / NEW / "extra").symlink_to(tmp_path / "secret")
    assert "extra" not in open_hub_cache(cached, None).files


@pytest.mark.parametrize("name", ["models--gpt2", "models--..--x", "org--name", "models--org--name"])
def test_another_folder_is_not_taken_for_the_cache(tmp_path: Path, name: str) -> None:
    (tmp_path / name / ("snapshots" if name != "models--org--name" else "snapshot")).mkdir(parents=True)
    assert not is_in_hub_cache(tmp_path / name)
