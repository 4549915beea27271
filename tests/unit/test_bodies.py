"""How the body of an answer is read into a buffer, with bodies that bring their bytes as a test wants."""

import time
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import shake_256
from threading import Event

import pytest

from job.checkpoints.transport.bodies import FIRST_PIECE_NBYTES, MAX_PIECE_NBYTES, read_body
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import RetryableError, RetryPolicy
from job.errors import TransientError

CONTENT = shake_256(b"content").digest(1_000_000)
HASTY = RetryPolicy(min_rate=10_000, slow_seconds=0.3)


@dataclass
class Body:
    """Brings its content at a rate of so many bytes a second, up to a byte at which it stalls."""

    rate: float
    stalls_at: int = len(CONTENT)
    position: int = 0
    asked: list[int] = field(default_factory=list)
    is_shut_down: Event = field(default_factory=Event)

    def readinto(self, buffer: memoryview, /) -> int:
        self.asked.append(len(buffer))
        end = self.position + len(buffer)
        if self.is_shut_down.wait(60 if end > self.stalls_at else len(buffer) / self.rate):
            return 0
        buffer[:] = CONTENT[self.position : end]
        self.position = end
        return len(buffer)

    def shutdown(self) -> None:
        self.is_shut_down.set()


def read(body: Body, buffer: bytearray, policy: RetryPolicy = HASTY, deadline: Deadline | None = None) -> int:
    return sum(read_body(body, memoryview(buffer), "here", policy, deadline or Deadline()))


def test_a_body_is_read_in_pieces_that_grow_while_they_come_quickly() -> None:
    body, buffer = Body(rate=1e9), bytearray(len(CONTENT))
    assert read(body, buffer) == len(CONTENT)
    assert buffer == CONTENT
    assert body.asked[:2] == [FIRST_PIECE_NBYTES, 2 * FIRST_PIECE_NBYTES]
    assert max(body.asked) == MAX_PIECE_NBYTES


def test_a_slow_body_is_read_in_small_pieces_and_not_given_up() -> None:
    body, buffer = Body(rate=30_000), bytearray(30_000)
    assert read(body, buffer) == 30_000
    assert max(body.asked) == FIRST_PIECE_NBYTES


@pytest.mark.parametrize("stalls_at", [0, 100_000])
def test_a_body_that_stalls_is_shut_down(stalls_at: int) -> None:
    body, buffer = Body(rate=1e9, stalls_at=stalls_at), bytearray(len(CONTENT))
    with pytest.raises(RetryableError, match=r"here: found .* bytes in 0.3 s, expected at least 10,000 bytes a second"):
        read(body, buffer)
    assert buffer[: body.position] == CONTENT[: body.position]
    assert not any(buffer[body.position :])


def test_a_deadline_ends_a_body_that_stalls() -> None:
    began = time.monotonic()
    with pytest.raises(TransientError, match="model: not done after 0 s"):
        read(Body(rate=1e9, stalls_at=0), bytearray(10), RetryPolicy(), Deadline(0.2))
    assert time.monotonic() - began < 30


def test_a_reader_that_stops_leaves_the_body_alone() -> None:
    body = Body(rate=1e9)
    with closing(read_body(body, memoryview(bytearray(100_000)), "here", HASTY, Deadline())) as pieces:
        next(pieces)
    time.sleep(0.5)
    assert not body.is_shut_down.is_set()
