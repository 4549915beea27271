"""A cool-down: everyone who shares it waits until it is over, unless that takes too long."""

import time
from threading import Thread

import pytest

from job.checkpoints.transport.cooldowns import Cooldown, Cooldowns
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import RetryableError, RetryPolicy, retry
from job.errors import TransientError


def test_a_cooldown_holds_back_everyone_who_shares_it() -> None:
    cooldown, waited = Cooldown(), []
    policy = RetryPolicy(first_wait=0.0, max_demanded_wait=5.0)
    asked: list[float] = []

    def limited() -> str:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise RetryableError("hub: status 429", demanded_wait=0.4, too_many_requests=True)
        return "answer"

    first = Thread(target=lambda: waited.append(retry(limited, policy, cooldown)))
    first.start()
    while not asked:
        time.sleep(0.001)
    time.sleep(0.05)
    began = time.monotonic()
    assert retry(lambda: "other", policy, cooldown) == "other"
    assert 0.2 < time.monotonic() - began < 1
    first.join()
    assert waited == ["answer"]
    assert asked[1] - asked[0] >= 0.4


def test_a_cooldown_that_is_too_long_is_an_error_and_nothing_is_asked() -> None:
    cooldown = Cooldown()
    cooldown.begin(3600, "hub: status 429")
    with pytest.raises(
        TransientError, match=r"hub: status 429, and nobody may ask the server for 3,600 s, expected at most 5 s; try"
    ):
        retry(lambda: pytest.fail("it was asked"), RetryPolicy(max_demanded_wait=5.0), cooldown)


def test_a_longer_cooldown_is_not_shortened_by_a_shorter_one() -> None:
    cooldown = Cooldown()
    cooldown.begin(60, "first")
    cooldown.begin(1, "second")
    with pytest.raises(TransientError, match="first, and nobody may ask the server for 60 s"):
        cooldown.wait(5.0, 0.0, Deadline())


def test_all_addresses_of_one_server_share_a_cooldown() -> None:
    cooldowns = Cooldowns()
    hub = cooldowns.of("https://hub.example.org")
    assert cooldowns.of("https://hub.example.org/org/model") is hub
    assert cooldowns.of("https://hub.example.org:8443/org/model") is not hub
    assert cooldowns.of("https://cdn.example.org") is not hub
