"""A blob of the Hub's cache is believed by its name only as far as its content has that id."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from entrypoint import main
from job.checkpoints import identity
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.identity import PinnedW, pin_w
from job.checkpoints.sources.hub_cache import open_hub_cache
from job.errors import CorruptCheckpoint
from job.manifest.published import ContentIdentity
from job.manifest.schema import Manifest
from tests.checkpoints import planted, write_checkpoint

COMMIT = "a" * 40
W = planted(3_000, 256, [[3, 30]])
W_NBYTES = W.nbytes


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cached(folder: Path, filler_nbytes: int = 0) -> Path:
    """A snapshot in the cache as the Hub's client leaves it. W's bytes are the first of its tensors."""
    source = write_checkpoint(folder / "source", W, n_tokens=20, filler_nbytes=filler_nbytes)
    repository = folder / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    for path in (snapshot, repository / "blobs", repository / "refs"):
        path.mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    for file in source.iterdir():
        content = file.read_bytes()
        blob = git_id(content) if file.name == "config.json" else sha256(content)
        (repository / "blobs" / blob).write_bytes(content)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    return repository


def blob(repository: Path, name: str = "model.safetensors") -> Path:
    return (repository / "snapshots" / COMMIT / name).resolve()


def put(path: Path, begin: int, content: bytes) -> bytes:
    """Write bytes into a file, and return what it held before."""
    before = path.read_bytes()
    path.write_bytes(before[:begin] + content + before[begin + len(content) :])
    return before


def pin(repository: Path) -> PinnedW:
    checkpoint = open_hub_cache(repository, None)
    return pin_w(checkpoint, find_unembedding(checkpoint, None).location)


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit below which files are checked that the files of these tests exceed."""
    monkeypatch.setattr(identity, "_ALWAYS_CHECKED_NBYTES", 10_000)


def test_a_sound_blob_keeps_its_id_and_is_known_to_be_checked(tmp_path: Path) -> None:
    repository = cached(tmp_path)
    stored = pin(repository).checkpoint.files["model.safetensors"]
    assert (stored.content_id, stored.id_from) == (blob(repository).name, "bytes")


HEAD_BEGIN = 400  # behind the header

DAMAGE = {
    "zeros in the head": (HEAD_BEGIN, bytes(1_000_000)),
    "one byte of the head": (HEAD_BEGIN + 100_001, b"\xff\xff"),
    "the end": (-2, b"\xff\xff"),
}


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize(("begin", "content"), DAMAGE.values(), ids=DAMAGE)
def test_a_blob_that_is_mostly_w_is_checked(tmp_path: Path, begin: int, content: bytes) -> None:
    repository = cached(tmp_path)
    path = blob(repository)
    put(path, begin % path.stat().st_size, content)
    with pytest.raises(CorruptCheckpoint, match=r"found another sha-256 .* hf download org/name --revision a"):
        pin(repository)


@pytest.mark.usefixtures("_large")
def test_a_large_blob_is_checked_if_a_part_of_w_is_zeros(tmp_path: Path) -> None:
    repository = cached(tmp_path, filler_nbytes=20 * W_NBYTES)
    path = blob(repository)
    location = find_unembedding(open_hub_cache(repository, None), None).location
    put(path, location.begin, bytes(W_NBYTES))
    with pytest.raises(CorruptCheckpoint, match="found another sha-256"):
        pin(repository)


@pytest.mark.usefixtures("_large")
def test_the_id_of_a_large_blob_that_is_not_checked_is_not_the_hubs(tmp_path: Path) -> None:
    repository = cached(tmp_path, filler_nbytes=20 * W_NBYTES)
    stored = pin(repository).checkpoint.files["model.safetensors"]
    assert stored.content_id != blob(repository).name
    assert stored.id_from == "name and W"


def test_a_blob_that_has_not_its_git_id_is_warned_of(tmp_path: Path) -> None:
    repository = cached(tmp_path)
    link = repository / "snapshots" / COMMIT / "model.safetensors"
    content = link.read_bytes()
    for name, warnings in ((git_id(content), 0), ("b" * 40, 1)):
        (repository / "blobs" / name).write_bytes(content)
        link.unlink()
        link.symlink_to(f"../../blobs/{name}")
        assert len(pin(repository).warnings) == warnings


def test_a_damaged_tokenizer_costs_the_names_of_the_tokens(tmp_path: Path) -> None:
    repository = cached(tmp_path)
    put(blob(repository, "tokenizer.json"), 200, b"?")
    reason = published(repository, tmp_path)["tokenizer"]["unusable"]
    assert "tokenizer.json: found content that differs from its SHA-256" in reason


def published(repository: Path, folder: Path) -> dict[str, Any]:
    assert main([str(repository), "--output", str(folder / "surveys")]) == 0
    manifest: dict[str, Any] = json.loads((folder / "surveys/org/name/latest.json").read_text())
    return manifest


@pytest.mark.usefixtures("_large")
def test_what_was_published_of_a_damaged_blob_does_not_hide_the_right_w(tmp_path: Path) -> None:
    repository = cached(tmp_path, filler_nbytes=20 * W_NBYTES)
    path = blob(repository)
    location = find_unembedding(open_hub_cache(repository, None), None).location
    sound = put(path, location.begin + 5_000, b"\x01\x02")
    damaged = published(repository, tmp_path)
    path.write_bytes(sound)
    mended = published(repository, tmp_path)
    assert mended["w_sha256"] == sha256(W.view(torch.uint8).numpy().tobytes()) != damaged["w_sha256"]
    assert mended["previous"] is None


def manifest_of(source: str, **tensor: object) -> Manifest:
    """As much of a manifest as tells which W it describes."""
    entry = {"dtype": "BF16", "shape": [4, 2], "begin": 8, "end": 24, "content_id": "c" * 64, **tensor}
    return cast("Manifest", {"source": source, "w_sha256": "d" * 64, "tensor": entry})


@pytest.mark.parametrize(
    ("manifest", "matches"),
    [
        (manifest_of("https://hub/org/name"), True),
        (manifest_of("https://hub/org/name", end=26), False),
        (manifest_of("/cache/models--org--name", content_id_from="bytes"), True),
        (manifest_of("/cache/models--org--name"), False),
    ],
    ids=["the Hub", "another range", "a checked blob", "an earlier version's blob"],
)
def test_what_the_hub_states_is_not_compared_with_a_name_that_was_not_checked(
    manifest: Manifest, *, matches: bool
) -> None:
    assert ContentIdentity("c" * 64, 8, 24, "BF16", (4, 2), None).matches(manifest) == matches


@pytest.mark.parametrize(("w_sha256", "matches"), [("d" * 64, True), ("e" * 64, False)])
def test_the_bytes_of_a_local_w_decide(w_sha256: str, *, matches: bool) -> None:
    identity = ContentIdentity("other", 0, 16, "BF16", (4, 2), None, w_sha256)
    assert identity.matches(manifest_of("/cache/models--org--name")) == matches
