"""Checkpoints in folders: what belongs to them, what pins them, and what is refused."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, ModelUnavailable
from tests.permissions import somebody

HEADER = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()


def safetensors(header: bytes = HEADER, content: bytes = b"\1\2\3\4") -> bytes:
    return len(header).to_bytes(8, "little") + header + content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "sub" / "notes.txt").write_bytes(b"notes")
    return folder


def test_a_folder_is_a_checkpoint_of_its_visible_files(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"hidden")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "x.metadata").write_bytes(b"hidden")
    checkpoint = open_folder(folder)
    assert set(checkpoint.files) == {"config.json", "model.safetensors", "sub/notes.txt"}
    assert checkpoint.repo_id == "local/tiny-model"
    assert checkpoint.revision is None
    assert checkpoint.nbytes == sum(path.stat().st_size for path in checkpoint.local_paths.values())
    assert checkpoint.local_paths["sub/notes.txt"].read_bytes() == b"notes"


@pytest.mark.parametrize("name", ["漢" * 100, "loop"], ids=["too long", "a loop"])
def test_a_path_that_no_folder_can_have_is_a_model_that_is_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ModelUnavailable, match=r"expected a folder.*; check the reference"):
        open_folder(tmp_path / name)


def test_a_path_relative_to_the_working_directory_names_the_same_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert open_folder(Path()).repo_id == "local/tiny-model"
    assert open_folder(Path("../tiny-model/")).commit == open_folder(folder).commit


def test_an_unchanged_folder_keeps_its_commit_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    commit = open_folder(folder).commit
    assert len(commit) == 40
    assert int(commit, 16) >= 0
    assert open_folder(folder).commit == commit
    moved = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, moved, copy_function=shutil.copyfile)  # does not keep modification times
    touch(folder)
    assert open_folder(moved).commit == open_folder(folder).commit == commit


def rename(folder: Path) -> None:
    (folder / "config.json").rename(folder / "configuration.json")


def lengthen(folder: Path) -> None:
    path = folder / "config.json"
    modified = path.stat().st_mtime_ns
    path.write_bytes(b"{ }")
    os.utime(path, ns=(modified, modified))


def touch(folder: Path) -> None:
    path = folder / "model.safetensors"
    modified = path.stat().st_mtime_ns
    os.utime(path, ns=(modified, modified + 1))


def change_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    modified = path.stat().st_mtime_ns
    path.write_bytes(safetensors(HEADER.replace(b'"w"', b'"v"')))
    os.utime(path, ns=(modified, modified))


def change_a_byte(folder: Path) -> None:
    path = folder / "sub" / "notes.txt"
    modified = path.stat().st_mtime_ns
    path.write_bytes(b"Notes")
    os.utime(path, ns=(modified, modified))


@pytest.mark.parametrize("change", [rename, lengthen, change_header, change_a_byte])
def test_a_changed_folder_gets_another_commit(folder: Path, change: Callable[[Path], object]) -> None:
    before = open_folder(folder)
    change(folder)
    assert open_folder(folder).commit != before.commit


def test_a_change_of_one_file_leaves_the_content_ids_of_the_others(folder: Path) -> None:
    before = open_folder(folder).files
    change_header(folder)
    after = open_folder(folder).files
    assert after["config.json"] == before["config.json"]
    assert after["model.safetensors"] != before["model.safetensors"]


LARGE = 20_000_000


@pytest.mark.parametrize("position", [0, 999_999, LARGE - 1_000_000, LARGE - 1, LARGE // 2])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf"])
def test_a_large_file_of_one_size_and_time_is_known_by_its_ends_and_samples(
    folder: Path, name: str, position: int
) -> None:
    path = folder / name
    path.write_bytes(bytes(LARGE))
    os.utime(path, (1, 1))
    before = open_folder(folder)
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"x" * 2_000_000)
        file.truncate(LARGE)
    os.utime(path, (1, 1))
    assert open_folder(folder).files[name] != before.files[name]


@pytest.mark.parametrize("prefix", [b"", b"\0" * 3, b"\xff" * 8, (10**18).to_bytes(8, "little")])
def test_a_header_that_lies_about_its_length_does_no_harm(folder: Path, prefix: bytes) -> None:
    (folder / "model.safetensors").write_bytes(prefix)
    assert open_folder(folder).fetch("model.safetensors", 0, len(prefix)) == prefix


def test_a_link_that_leaves_the_checkpoint_is_left_out_with_a_warning(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (folder / "escape.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "escape").symlink_to(tmp_path)
    (folder / "inside.txt").symlink_to("config.json")
    checkpoint = open_folder(folder)
    assert "inside.txt" in checkpoint.files
    assert not any("escape" in name for name in checkpoint.files)
    assert set(checkpoint.set_aside) == {"escape", "escape.txt"}
    assert "escape.txt: found a link that leads out of the checkpoint" in caplog.text


def add_backslash(folder: Path) -> str:
    (folder / "onnx\\model.onnx").write_bytes(b"x")
    return "onnx\\model.onnx"


def add_name_that_is_not_utf8(folder: Path) -> str:
    name = os.fsdecode(b"caf\xe9.txt")
    (folder / name).write_bytes(b"x")
    return name


def add_unreadable_folder(folder: Path) -> str:
    (folder / "lost+found").mkdir(mode=0)
    return "lost+found"


def add_unreadable_file(folder: Path) -> str:
    (folder / "key.pem").touch(mode=0)
    return "key.pem"


def add_dangling_link(folder: Path) -> str:
    (folder / "README.md").symlink_to("../gone")
    return "README.md"


def add_loop(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return "loop"


def add_link_to_a_folder(folder: Path) -> str:
    (folder / "linked").symlink_to("sub")
    return "linked"


def add_link_to_a_name_that_is_too_long(folder: Path) -> str:
    (folder / "long").symlink_to("x" * 300)
    return "long"


def add_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.json")
    return "pipe.json"


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (add_backslash, "holds a backslash"),
        (add_name_that_is_not_utf8, "is not UTF-8"),
        (add_unreadable_folder, "permission denied"),
        (add_unreadable_file, "permission denied"),
        (add_dangling_link, "a link to .*gone: no such file"),
        (add_loop, "a link to .*: too many levels"),
        (add_link_to_a_folder, "a link to a folder"),
        (add_link_to_a_name_that_is_too_long, "a link to .*: file name too long"),
        (add_pipe, "a pipe"),
    ],
)
def test_an_entry_that_cannot_be_read_is_set_aside_with_the_reason(add: Callable[[Path], str], reason: str) -> None:
    with TemporaryDirectory() as parent:  # pytest's folders are closed to other users
        Path(parent).chmod(0o755)
        folder = Path(parent) / "model"
        (folder / "sub").mkdir(parents=True)
        (folder / "config.json").write_bytes(b"{}")
        name = add(folder)
        with somebody():
            checkpoint = open_folder(folder)
    assert set(checkpoint.files) == {"config.json"}
    assert set(checkpoint.set_aside) == {name}
    assert re.search(reason, checkpoint.set_aside[name])


def test_an_unfinished_download_of_the_hubs_client_is_remembered(folder: Path) -> None:
    download = folder / ".cache/huggingface/download/model.safetensors.0f.incomplete"
    download.parent.mkdir(parents=True)
    download.touch()
    assert list(open_folder(folder).set_aside) == [download.relative_to(folder).as_posix()]


def test_what_is_not_a_regular_file_is_left_out(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "broken.json").symlink_to("nothing.json")
    assert set(open_folder(folder).files) == {"config.json", "model.safetensors", "sub/notes.txt"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "found nothing, expected a folder"),
        ("file", "found a file, expected a folder"),
        ("empty", "an empty folder"),
    ],
)
def test_what_is_no_checkpoint_folder_is_unavailable(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ModelUnavailable, match=message):
        open_folder(tmp_path / name)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "sub/../../secret.txt", "sub", "", "./config.json"])
def test_a_name_that_is_not_listed_cannot_be_read(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    with pytest.raises(CorruptCheckpoint, match="expected one of its 3 files"):
        open_folder(folder).fetch(name, 0, 1)


@pytest.mark.parametrize(("begin", "end"), [(0, 3), (3, 3), (2, 1), (-1, 1)])
def test_a_range_outside_the_file_is_refused(folder: Path, begin: int, end: int) -> None:
    with pytest.raises(CorruptCheckpoint, match="has 2 bytes, expected bytes"):
        open_folder(folder).fetch("config.json", begin, end)


@pytest.mark.parametrize(
    "change", [touch, change_header, lambda folder: (folder / "model.safetensors").write_bytes(b"")]
)
def test_a_file_that_changed_since_it_was_pinned_is_refused(folder: Path, change: Callable[[Path], object]) -> None:
    checkpoint = open_folder(folder)
    change(folder)
    os.utime(folder / "model.safetensors")
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        checkpoint.fetch("model.safetensors", 0, 12)


def test_a_file_that_was_removed_since_it_was_pinned_is_unavailable(folder: Path) -> None:
    checkpoint = open_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match="put the file back"):
        checkpoint.fetch("config.json", 0, 2)


def test_a_small_file_is_read_whole_and_a_large_one_refused(folder: Path) -> None:
    checkpoint = open_folder(folder)
    assert checkpoint.read("config.json", limit=2) == b"{}"
    with pytest.raises(CorruptCheckpoint, match="has 5 bytes, expected at most 4"):
        checkpoint.read("sub/notes.txt", limit=4)
