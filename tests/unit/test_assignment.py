"""This worker's share: each model has one worker, one repository's models the same, and the bytes are balanced."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.errors import ConfigError
from job.models.references import ModelRef
from job.runs.assignment import assign_workers
from job.runs.pinned_list import Assignment, PinnedList, parse_pinned_list, pinned_list_as_bytes

LOADS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 10**10)), max_size=40)


@given(LOADS, st.integers(1, 12))
def test_every_item_has_one_worker_and_a_group_stays_together(loads: list[tuple[str, int]], workers: int) -> None:
    taken_by = assign_workers(loads, workers)
    assert len(taken_by) == len(loads)
    assert set(taken_by) <= set(range(workers))
    assert len({(group, worker) for (group, _), worker in zip(loads, taken_by, strict=True)}) == len(
        {group for group, _ in loads}
    )


@given(LOADS, st.integers(1, 12))
def test_no_worker_moves_more_than_its_part_and_the_largest_group(loads: list[tuple[str, int]], workers: int) -> None:
    groups = {group: sum(nbytes for other, nbytes in loads if other == group) for group, _ in loads}
    moved = [0] * workers
    for (_, nbytes), worker in zip(loads, assign_workers(loads, workers), strict=True):
        moved[worker] += nbytes
    # R. L. Graham's bound for whoever is handed work as soon as it has the least.
    assert max(moved) <= sum(moved) / workers + max(groups.values(), default=0)


def test_large_models_are_spread_and_small_ones_fill_up() -> None:
    loads = [("a", 6), ("b", 1), ("c", 5), ("d", 2), ("e", 2), ("f", 2)]
    taken_by = assign_workers(loads, 3)
    assert sorted(
        sum(nbytes for (_, nbytes), taker in zip(loads, taken_by, strict=True) if taker == worker)
        for worker in range(3)
    ) == [6, 6, 6]


def test_as_many_models_as_workers_are_one_each_also_where_some_move_nothing() -> None:
    assert sorted(assign_workers([("a", 5), ("b", 0), ("c", 5), ("d", 0), ("e", 7), ("f", 0)], 6)) == [0, 1, 2, 3, 4, 5]


def test_there_are_no_shares_without_workers() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        assign_workers([("a", 1)], 0)


PLAN = PinnedList(
    "nightly-1",
    2,
    "0" * 64,
    "2026-11-25T04:17:00+00:00",
    (
        Assignment(ModelRef("hub", "org/a", revision="v1", commit="c" * 40, follow_base=True), 10, 1),
        Assignment(ModelRef("folder", "./b", tensor="lm_head.weight", note="a note", file="b.gguf"), 0, 0),
        Assignment(ModelRef("hub", "org/c", commit="d" * 40, found_by="hub?author=org"), 5, 0),
    ),
)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    assert parse_pinned_list(pinned_list_as_bytes(PLAN), "plan.json") == PLAN
    assert [str(ref) for ref in PLAN.share(0)] == ["./b", "org/c"]


def test_a_plan_of_an_earlier_version_names_the_source_of_web_addresses_otherwise() -> None:
    ref = ModelRef("http", "https://models.example.org/a/model")
    plan = replace(PLAN, models=(Assignment(ref, 10, 0),))
    content = pinned_list_as_bytes(plan)
    assert parse_pinned_list(content.replace(b'"source": "http"', b'"source": "mirror"'), "plan.json") == plan


DAMAGED = {
    "no-json": b"{",
    "no-object": b"[]",
    "another-schema": pinned_list_as_bytes(PLAN).replace(b'"schema_version": 1', b'"schema_version": 2'),
    "no-such-worker": pinned_list_as_bytes(PLAN).replace(b'"worker": 1', b'"worker": 2'),
    "a-worker-in-words": pinned_list_as_bytes(PLAN).replace(b'"worker": 1', b'"worker": "1"'),
    "a-negative-size": pinned_list_as_bytes(PLAN).replace(b'"read_nbytes": 10', b'"read_nbytes": -10'),
    "an-unknown-option": pinned_list_as_bytes(PLAN).replace(b'"tensor"', b'"tensors"'),
    "an-unknown-source": pinned_list_as_bytes(PLAN).replace(b'"source": "hub"', b'"source": "ftp"'),
    "a-reference-as-text": pinned_list_as_bytes(PLAN).replace(b'"ref": {', b'"ref": "org/a", "was": {'),
    "no-models": json.dumps({"schema_version": 1, "run": "x", "workers": 1, "list_sha256": ""}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_plan_is_refused_with_its_address(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/runs/x/plan\.json: .*choose another RUN"):
        parse_pinned_list(content, "s3://bucket/runs/x/plan.json")
