"""A survey that needs more disk than it may have is refused before W is read, by both verbs."""

from pathlib import Path

import pytest

from entrypoint import main
from job.errors import TransientError, UnsupportedCheckpoint
from job.limits import need
from job.limits.need import Need, refuse_what_does_not_fit
from job.store.s3 import upload
from tests import hostile
from tests.checkpoints import planted, write_checkpoint

LIMIT = 54_000_000


@pytest.mark.parametrize("verb", ["plan", "survey"])
def test_scratch_beyond_its_limit_fails_the_model_and_no_other(
    tmp_path: Path, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    small = write_checkpoint(tmp_path / "small", planted(1000, 8, [[1, 2]]), n_tokens=1000)
    large, output = tmp_path / "large", tmp_path / "out"
    large.mkdir()
    hostile.zeros(large, (8, 100_000), vocab_size=100_000, hidden_size=8)  # two copies of 1.6 MB
    arguments = [verb, str(large), str(small), "--output", str(output), "--tensors", "mu"]
    assert main([*arguments, "--scratch-limit", str(LIMIT)]) == 65
    message = f"{large}: found that its survey needs 4 MB of scratch, expected at most 2 MB, SCRATCH_LIMIT less 52 MB"
    assert message in caplog.text
    assert {path.parent.name for path in output.rglob("latest.json")} == ({"small"} if verb == "survey" else set())
    assert main([*arguments, "--scratch-limit", str(2 * LIMIT)]) == 0


def test_a_disk_without_room_may_have_it_later(tmp_path: Path) -> None:
    with pytest.raises(
        TransientError, match="MB of free disk, expected 1,000,000,000,000 MB for the survey of here; make"
    ):
        refuse_what_does_not_fit(Need(1, 10**18, 1), "here", tmp_path, None)


def test_parts_are_as_large_as_the_plan_counts_them_and_as_many_as_the_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert upload.PART_NBYTES <= need.PART_NBYTES < 1.01 * upload.PART_NBYTES
    for limit, parts in ((1 << 30, 16), (1 << 40, 16), (512 << 20, 8), (64 << 20, 1), (1 << 20, 1)):
        monkeypatch.setattr(need, "memory_limit", lambda limit=limit: limit)
        assert need.default_parts() == parts


def test_memory_for_names_of_tokens_is_no_reason_to_refuse_w(tmp_path: Path) -> None:
    refuse_what_does_not_fit(Need(10**18, 0, 1), "here", tmp_path, None)
    with pytest.raises(UnsupportedCheckpoint, match="its survey needs 1,000,000,000,000 MB of memory"):
        refuse_what_does_not_fit(Need(10**18, 0, 10**18), "here", tmp_path, None)
