"""A model's deadline, and calls that may take only so long."""

import time
from threading import Event, Timer

import pytest

from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.parallel import call_within
from job.errors import TransientError


def test_a_deadline_names_the_model_the_stage_and_the_setting() -> None:
    deadline = Deadline(0.0, "org/name", lambda: "stream W")
    with pytest.raises(
        TransientError, match=r"org/name: not done after 0 s \(in the stage 'stream W'\).*MODEL_DEADLINE"
    ):
        deadline.check()
    with pytest.raises(TransientError, match=r"model: not done after 0 s, expected less"):
        Deadline(0.0).check()


def test_a_wait_ends_with_the_deadline_and_with_the_model() -> None:
    began = time.monotonic()
    with pytest.raises(TransientError, match="not done after 0 s"):
        Deadline(0.01).sleep(60)
    ended = Deadline()
    Timer(0.01, ended.end).start()
    with pytest.raises(TransientError, match="its survey has ended"):
        ended.sleep(60)
    assert time.monotonic() - began < 30
    Deadline().sleep(0)


def test_a_call_in_time_gives_its_value_or_its_error() -> None:
    assert call_within(lambda: 7, 60) == 7

    def fails() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        call_within(fails, 60)

    def own_timeout() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        call_within(own_timeout, 60)


def test_the_value_of_a_call_that_comes_too_late_is_discarded() -> None:
    release, discarded = Event(), Event()

    def late() -> str:
        release.wait(30)
        return "late"

    with pytest.raises(TimeoutError):
        call_within(late, 0.01, lambda value: discarded.set() if value == "late" else None)
    assert not discarded.is_set()
    release.set()
    assert discarded.wait(30)


def test_a_call_that_fails_too_late_fails_alone() -> None:
    release = Event()

    def late() -> str:
        release.wait(30)
        raise KeyError("nobody waits")

    with pytest.raises(TimeoutError):
        call_within(late, 0.01)
    release.set()
