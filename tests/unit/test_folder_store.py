"""What only a folder can meet: modes, full and refused places, temporary files of its own."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import ConfigError, SurveyError, TransientError, UploadLost
from job.store.folder import FolderStore, survey_error
from tests.servers.serving import wait_until


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_the_umask_leaves_it(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        FolderStore(tmp_path).write_stream("org/W", [b"four"], 4)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "org" / "W").stat().st_mode) == mode


def test_a_check_makes_no_folder(tmp_path: Path) -> None:
    FolderStore(tmp_path / "not" / "yet").check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    store = FolderStore(tmp_path)
    store.write_stream("org/W", [b"four"], 4)
    assert store.create("org/once", b"once")
    assert store.sizes("org/") == {"org/W": 4, "org/once": 4}


def test_a_relative_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FolderStore(Path("surveys"))
    store.check()
    assert list(store.sizes("")) == []
    store.write("org/a.json", b"{}")
    assert list(store.sizes("org/")) == ["org/a.json"]
    assert store.url("org/a.json") == "surveys/org/a.json"


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "surveys").write_bytes(b"a file")
    for root in (tmp_path / "surveys", tmp_path / "surveys" / "below"):
        with pytest.raises(ConfigError, match="OUTPUT that is a folder"):
            FolderStore(root).check()
        with pytest.raises(ConfigError, match="OUTPUT that is a folder"):
            FolderStore(root).write("a.json", b"{}")
    assert (tmp_path / "surveys").read_bytes() == b"a file"


def test_a_folder_where_a_file_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json" / "below").mkdir(parents=True)
    store = FolderStore(tmp_path)
    with pytest.raises(ConfigError, match="remove the folder"):
        store.write("a.json", b"{}")
    with pytest.raises(ConfigError, match="remove the folder"):
        store.read("a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_place_where_nobody_can_write_is_refused() -> None:
    store = FolderStore(Path("/sys/surveys"))  # the kernel's own: not even root makes a file there
    with pytest.raises(ConfigError, match="/sys/surveys: "):
        store.check()
    with pytest.raises(ConfigError, match=r"/sys/surveys/a\.json: "):
        store.write("a.json", b"{}")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.EFBIG, ConfigError),
        (errno.ENOSPC, TransientError),
        (errno.EDQUOT, TransientError),
        (errno.EIO, TransientError),
    ],
    ids=errno.errorcode.get,
)
def test_a_failure_is_either_final_or_passing(number: int, kind: type[SurveyError]) -> None:
    error = survey_error(OSError(number, os.strerror(number)), Path("out/W.safetensors"))
    assert type(error) is kind
    assert str(error).startswith(f"out/W.safetensors: {os.strerror(number)}, ")
    assert "; " in str(error)


def test_a_failure_of_the_source_is_not_taken_for_one_of_the_folder(tmp_path: Path) -> None:
    cause = OSError(errno.EIO, "the scratch disk")

    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise cause

    with pytest.raises(OSError, match="the scratch disk") as caught:
        FolderStore(tmp_path).write_stream("org/W", chunks(), 8)
    assert caught.value is cause


def make_leftovers(root: Path, *keys: str) -> None:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"half")


LEFTOVERS = (
    "org/name/0123abcd/.W.safetensors.0123456789abcdef.unfinished",
    "org/.latest.json.0123456789abcdef.unfinished",
    ".index.html.0123456789abcdef.unfinished",
    "runs/a/condition-check-0123456789abcdef",
    "write-check-0123456789abcdef",
)
OTHERS = ("org/W", "org/.mine.unfinished", "org/condition-check-0123456789abcdef", "runs/a/plan.json")


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_old_leftovers_are_removed_wherever_they_lie_and_nothing_else(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    make_leftovers(tmp_path, *LEFTOVERS, *OTHERS)
    store.discard_unfinished()
    assert len(files(tmp_path)) == len(LEFTOVERS + OTHERS), "they are young: a run that is alive may need them"
    for path in tmp_path.rglob("*"):
        os.utime(path, (path.stat().st_mtime - 3601,) * 2)
    store.discard_unfinished()
    assert files(tmp_path) == sorted(OTHERS)


def test_a_file_that_is_written_to_is_not_old(tmp_path: Path) -> None:
    store, temp_path = FolderStore(tmp_path), tmp_path / LEFTOVERS[0]

    def chunks() -> Iterator[bytes]:
        yield b"slo"
        (temp_path,) = tmp_path.rglob("*.unfinished")
        wait_until(lambda: temp_path.stat().st_size == 3)
        os.utime(temp_path, (0, 0))
        yield b"w"
        wait_until(lambda: temp_path.stat().st_size == 4)
        store.discard_unfinished()

    store.write_stream("org/W", chunks(), 4)
    assert store.read("org/W") == b"slow"
    assert not temp_path.exists()


def test_no_folder_and_no_leftovers_are_no_error(tmp_path: Path) -> None:
    FolderStore(tmp_path / "none").discard_unfinished(0.0)
    assert not (tmp_path / "none").exists()


def test_a_file_that_somebody_removed_while_it_was_written_is_lost(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        for path in tmp_path.rglob("*.unfinished"):
            path.unlink()

    with pytest.raises(UploadLost, match="its unfinished file is gone"):
        FolderStore(tmp_path).write_stream("org/W", chunks(), 4)
