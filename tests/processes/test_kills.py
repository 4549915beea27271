"""Runs that are killed at each file operation: what they leave is sound, and the next run completes it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints import planted, write_checkpoint
from tests.killed_runs import KilledRuns, check_index, check_same, check_whole, killed_runs

A_LONG_TIME = 4_000_000
"""Seconds after which what a run left is nobody's any more."""

SCENARIOS: dict[str, tuple[list[list[int]] | None, int | None, tuple[str, ...]]] = {
    "first survey": (None, 40, ()),
    "new commit": ([[3, 4]], None, ()),
    "same W": ([[1, 2]], 39, ()),
    "further tensors": ([[1, 2]], None, ("--tensors", "W")),
    "all published": ([[1, 2]], None, ()),
    "further tensors for an earlier version's": ([[1, 2]], None, ("--tensors", "W")),
    "all published by an earlier version": ([[1, 2]], None, ()),
}
"""The model's black holes before, its number of tokens, and how it was surveyed. Two have a tokenizer: its process
takes most of a run's time, and there are hundreds of runs."""


@pytest.fixture(scope="module")
def runs() -> Iterator[KilledRuns]:
    with killed_runs() as process:
        yield process


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def age(folder: Path) -> None:
    """Let all that is there be from long ago."""
    for path in (folder, *folder.rglob("*")):
        seconds = path.stat().st_mtime - A_LONG_TIME
        os.utime(path, (seconds, seconds))


def make_earlier(output: Path) -> None:
    """Make manifests what versions wrote that named the page among the artifacts, with its hash. Their page differs."""
    for path in (*output.rglob("manifest.json"), *output.rglob("latest.json")):
        manifest = json.loads(path.read_text())
        key = manifest.pop("pages")["report"]
        (output / key).write_bytes(b"a page of an earlier version")
        digest = hashlib.sha256((output / key).read_bytes()).hexdigest()
        manifest["artifacts"]["report"] = {"key": key, "size": (output / key).stat().st_size, "sha256": digest}
        del manifest["sequence"]
        path.write_text(json.dumps(manifest))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_killed_at_any_file_operation_leaves_nothing_torn_and_the_next_completes_it(
    scenario: str, runs: KilledRuns, tmp_path: Path
) -> None:
    before, n_tokens, options = SCENARIOS[scenario]
    model, start, done, output, scratch = (tmp_path / name for name in ("model", "start", "done", "output", "scratch"))
    start.mkdir()
    scratch.mkdir()
    if before is not None:
        write_checkpoint(model, planted(40, 8, before), n_tokens=n_tokens)
        assert runs.run([str(model), "--output", str(start), *options], str(start))[0] == 0
        if "earlier version" in scenario:
            make_earlier(start)
    write_checkpoint(model, planted(40, 8, [[1, 2]]), n_tokens=n_tokens and 40)

    def survey(folder: Path, at: int | None = None) -> tuple[int, int]:
        return runs.run([str(model), "--output", str(folder), "--scratch", str(scratch)], str(tmp_path), at=at)

    shutil.copytree(start, done)
    status, steps = survey(done)
    assert status == 0
    assert steps > 5
    expected = contents(done)
    for at in range(1, steps + 1):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(start, output)
        assert survey(output, at)[0] in (-9, 0), at
        check_whole(contents(output), contents(start))
        age(output)
        age(scratch)
        assert survey(output)[0] == 0, at
        check_whole(contents(output))
        check_index(contents(output))
        check_same(contents(output), expected)
        assert list(scratch.iterdir()) == []
