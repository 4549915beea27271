"""What is read of W a second time is what was measured, or the survey fails: the disk or the file changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from job.checkpoints.checkpoint import TensorLocation
from job.errors import CorruptCheckpoint, TransientError
from job.geometry.methods import Dedup
from job.passes import measure
from job.scratch import to_row_major
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


def survey(folder: Path, local_file: Path | None, at: str, change: Callable[[], None], dedup: Dedup) -> FolderStore:
    """Measure W, and change something as the stage ``at`` begins."""

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        if name == at:
            change()
        yield

    store = FolderStore(folder / "surveys")
    measure(
        TensorLocation("model", 0, len(STORED), "BF16", (300, 8)),
        [STORED],
        local_file,
        folder,
        ArtifactFolder(store, "local/model/0", ARTIFACTS, {}, lambda _: None),
        dedup=dedup,
        track=lambda chunks, _nbytes, _label: iter(chunks),
        stage=stage,
    )
    return store


CHANGES = {
    "a row in a hole, before holes are found": ("find black holes", 30 * ROW_NBYTES),
    "a row in a hole, before its centroid is read": ("publish small tensors", 10 * ROW_NBYTES + 3),
    "a row in no hole, before rows are centred": ("centre", 200 * ROW_NBYTES + 15),
    "the last byte": ("centre", len(STORED) - 1),
}


@pytest.mark.parametrize("local", [False, True], ids=["scratch", "local"])
@pytest.mark.parametrize(("at", "position"), CHANGES.values(), ids=CHANGES)
def test_a_bit_that_changes_between_the_readings_fails_the_survey(
    tmp_path: Path, at: str, position: int, *, local: bool
) -> None:
    (tmp_path / "model").write_bytes(STORED)
    path = tmp_path / "model" if local else tmp_path / "W"
    expected, message = (CorruptCheckpoint, "the file changed") if local else (TransientError, "copy of W on disk")
    with pytest.raises(expected, match=rf"found other bytes of .*{message}"):
        survey(tmp_path, path if local else None, at, lambda: flip(path, position), "byte-hash")
    assert not list((tmp_path / "surveys").rglob("gamma_centered.safetensors"))


def test_torch_unique_reads_the_rows_that_were_measured(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="found other bytes of row 200"):
        survey(tmp_path, None, "find black holes", lambda: flip(tmp_path / "W", 200 * ROW_NBYTES), "torch-unique")


def test_nothing_fails_if_nothing_changes(tmp_path: Path) -> None:
    survey(tmp_path, None, "", lambda: None, "byte-hash")
    assert (tmp_path / "surveys/local/model/0/gamma_centered.safetensors").exists()


@pytest.mark.parametrize("strides", [(1, 300), (8, 1)], ids=["columns", "rows"])
def test_a_copy_from_which_rows_are_made_may_not_change(tmp_path: Path, strides: tuple[int, int]) -> None:
    def chunks() -> Iterator[bytes]:
        yield STORED[:1000]
        flip(tmp_path / "stored", 500)
        yield STORED[1000:]

    rows = to_row_major(chunks(), tmp_path, (300, 8), strides, 2)
    with pytest.raises(TransientError, match="copy of W on disk changed"):
        list(rows)
