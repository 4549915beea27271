"""What is read of W a second time is what was measured, or the survey fails: the disk or the file changed."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
import xxhash

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.identity import FirstReading
from job.errors import CorruptCheckpoint, TransientError
from job.geometry.methods import Dedup
from job.measuring.passes import measure
from job.measuring.stored_rows import to_row_major
from job.store.artifacts import ArtifactFolder
from job.store.folder import FolderStore
from tests.checkpoints import planted

W = planted(300, 8, [[3, 30], [10, 11]])
STORED = W.view(torch.uint8).numpy().tobytes()
ROW_NBYTES = 16
ARTIFACTS = frozenset({"W", "mu", "gamma_centered", "black_holes"})


def flip(path: Path, position: int) -> None:
    """Change one bit of a file, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


Place = Literal["local", "scratch", "published"]
"""Where rows are read again: from the checkpoint, from the copy of W, or from W's published file."""


def path_of(folder: Path, place: Place) -> Path:
    paths = {"local": "model", "scratch": "W", "published": "surveys/local/model/0/W.safetensors"}
    return folder / paths[place]


def survey(
    folder: Path,
    place: Place,
    at: str,
    change: Callable[[], None],
    dedup: Dedup = "byte-hash",
    first_reading: FirstReading | None = None,
) -> FolderStore:
    """Measure W, and change something as the stage ``at`` begins."""

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        if name == at:
            change()
        yield

    store = FolderStore(folder / "surveys")
    (folder / "model").write_bytes(STORED)
    to_publish = ARTIFACTS - ({"W"} if place == "scratch" else set())
    measure(
        TensorLocation("model", 0, len(STORED), "BF16", (300, 8)),
        [STORED],
        path_of(folder, place) if place == "local" else None,
        folder,
        ArtifactFolder(store, "local/model/0", to_publish, {}, lambda _: None),
        dedup=dedup,
        track=lambda chunks, _nbytes, _label: iter(chunks),
        stage=stage,
        first_reading=first_reading,
    )
    return store


CHANGES = {
    "a row in a hole, before holes are found": ("find black holes", 30 * ROW_NBYTES),
    "a row in a hole, before its centroid is read": ("publish small tensors", 10 * ROW_NBYTES + 3),
    "a row in no hole, before rows are centred": ("centre", 200 * ROW_NBYTES + 15),
    "the last byte": ("centre", len(STORED) - 1),
}


@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize(("at", "position"), CHANGES.values(), ids=CHANGES)
def test_a_bit_that_changes_between_the_readings_fails_the_survey(
    tmp_path: Path, at: str, position: int, place: Place
) -> None:
    local = place == "local"
    expected, message = (CorruptCheckpoint, "the file changed") if local else (TransientError, "copy of W on disk")
    path = path_of(tmp_path, place)

    def change() -> None:
        flip(path, path.stat().st_size - len(STORED) + position)

    with pytest.raises(expected, match=rf"found other bytes of .*{message}"):
        survey(tmp_path, place, at, change)
    assert not list((tmp_path / "surveys").rglob("gamma_centered.safetensors"))


def test_torch_unique_reads_the_rows_that_were_measured(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="found other bytes of row 200"):
        survey(tmp_path, "scratch", "find black holes", lambda: flip(tmp_path / "W", 200 * ROW_NBYTES), "torch-unique")


@pytest.mark.parametrize("place", get_args(Place))
def test_nothing_fails_if_nothing_changes(tmp_path: Path, place: Place) -> None:
    survey(tmp_path, place, "", lambda: None)
    assert (tmp_path / "surveys/local/model/0/gamma_centered.safetensors").exists()


def test_bytes_that_differ_from_those_that_identified_w_fail_the_survey(tmp_path: Path) -> None:
    def first_reading(content: bytes) -> FirstReading:
        return FirstReading(
            tmp_path, hashlib.sha256(content).hexdigest(), xxhash.xxh3_128_digest(content, seed=7), seed=7
        )

    survey(tmp_path, "local", "", lambda: None, first_reading=first_reading(STORED))
    with pytest.raises(CorruptCheckpoint, match="found other bytes of W than in the first reading"):
        survey(tmp_path, "local", "", lambda: None, first_reading=first_reading(STORED[:-1] + b"x"))


@pytest.mark.parametrize("strides", [(1, 300), (8, 1)], ids=["columns", "rows"])
def test_a_copy_from_which_rows_are_made_may_not_change(tmp_path: Path, strides: tuple[int, int]) -> None:
    def chunks() -> Iterator[bytes]:
        yield STORED[:1000]
        flip(tmp_path / "stored", 500)
        yield STORED[1000:]

    rows = to_row_major(chunks(), tmp_path, (300, 8), strides, 2)
    with pytest.raises(TransientError, match="copy of W on disk changed"):
        list(rows)
