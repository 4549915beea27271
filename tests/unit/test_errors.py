"""Errors, apart from where they come from."""

from pathlib import Path

import pytest

from job.errors import CorruptCheckpoint, join_limited
from job.plan import plan_models
from job.settings import read_settings
from tests.checkpoints import planted, write_checkpoint


def test_an_error_that_is_kept_lets_go_of_what_the_frames_held_that_it_passed_through() -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        raise CorruptCheckpoint("where: what") from ValueError("cause")
    kept = caught.value.without_frames()
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
    assert str(kept) == "where: what"


def test_a_plan_keeps_no_frames_of_the_models_that_will_fail(tmp_path: Path) -> None:
    broken = write_checkpoint(tmp_path / "broken", planted(100, 8, []))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    settings = read_settings([str(broken), str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    planned = [one for _, one in plan_models(settings)]
    errors = [one.error for one in planned]
    assert {type(error).__name__ for error in errors} == {"CorruptCheckpoint", "ModelUnavailable"}
    assert [error.__traceback__ for error in errors if error] == [None, None]


@pytest.mark.parametrize(
    ("limit", "joined"), [(5, "a, b, c"), (3, "a, b, c"), (2, "a, b and 1 more"), (1, "a and 2 more")]
)
def test_a_long_list_is_cut_and_says_how_much_is_left(limit: int, joined: str) -> None:
    assert join_limited(["a", "b", "c"], limit) == joined
