"""Runs of the job that are killed at a chosen step. One process imports all that a survey needs and is forked for each
run, so that hundreds of runs take minutes.

As a program it answers requests, a line of JSON each: ``{"arguments", "environment", "within", "at"}``.
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import polars

ROOT = Path(__file__).parents[1]

INDEX_FILES: Final = ("index.html", "surveys.csv", "surveys.parquet")
FILE_STEPS: Final = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")
"""The file operations that Python audits. It audits no write and no sync: what they leave, the next rename finds."""
REQUEST_STEPS: Final = ("http.client.send",)
"""What Python audits of botocore's requests: once for the head of a request, and once or more for its body."""


@dataclass(frozen=True)
class KilledRuns:
    """A process that runs the job in children of its own."""

    requests: IO[str]
    answers: IO[str]

    def run(
        self, arguments: Sequence[str], within: str, environment: Mapping[str, str] = {}, at: int | None = None
    ) -> tuple[int, int]:
        """Run the job, and kill it at step ``at`` (from 1). Returns its status (negative: a signal's number) and the
        number of its steps, which is 0 if it was killed.

        ``within``: a folder, of which each file operation counts as a step; or ``requests``.
        """
        request = {"arguments": arguments, "environment": environment, "within": within, "at": at}
        self.requests.write(json.dumps(request) + "\n")
        self.requests.flush()
        status, steps = json.loads(self.answers.readline())
        return status, steps


@contextmanager
def killed_runs(environment: Mapping[str, str] = {}) -> Iterator[KilledRuns]:
    """The process, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.killed_runs"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield KilledRuns(process.stdin, process.stdout)
        finally:
            process.stdin.close()


def check_whole(objects: Mapping[str, bytes], before: Mapping[str, bytes] = {}) -> None:
    """Check what is published: each manifest names objects that have the size and digest which it says, and each
    latest.json is one of them, or is as it was.

    ``objects``: the content by key; ``before``: the same before the run.
    """
    manifests = {key: content for key, content in objects.items() if key.endswith(("/manifest.json", "/latest.json"))}
    for key, content in manifests.items():
        for entry in json.loads(content)["artifacts"].values():
            found = objects[entry["key"]]
            assert (len(found), hashlib.sha256(found).hexdigest()) == (entry["size"], entry["sha256"]), key
    for key, content in manifests.items():
        home = key.removesuffix("latest.json")
        if key.endswith("/latest.json") and content != before.get(key):
            assert content in [other for name, other in manifests.items() if name.startswith(home) and name != key]


def is_of_index(key: str) -> bool:
    """Whether an object is of the index of all surveys, or says what came of a run. Both hold times."""
    return key in INDEX_FILES or key.startswith("runs/")


def check_index(objects: Mapping[str, bytes]) -> None:
    """Check that the index names each manifest, and nothing else."""
    table = polars.read_parquet(io.BytesIO(objects["surveys.parquet"]))
    assert sorted(table["key"]) == sorted(key for key in objects if key.endswith("/manifest.json"))
    assert all(objects[name] for name in INDEX_FILES)


def check_same(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
    """Check that two runs published the same, but for the times in manifests, pages and the index."""
    keys = {key for key in expected if not is_of_index(key)}
    assert keys == {key for key in found if not is_of_index(key)}
    for key in keys:
        content = expected[key]
        if key.endswith(".json"):
            assert _without_times(found[key]) == _without_times(content), key
        elif not key.endswith((".md", ".html")):
            assert found[key] == content, key


def _without_times(manifest: bytes) -> dict[str, object]:
    times = ("seconds", "activity_seconds", "published_at", "previous")
    return {name: value for name, value in json.loads(manifest).items() if name not in times}


def _count_steps(within: str, at: int | None) -> list[int]:
    """Count the steps of this process from now on in the list's only item, and kill the process at the chosen one."""
    steps = [0]
    kinds = REQUEST_STEPS if within == "requests" else FILE_STEPS

    def is_within(argument: object) -> bool:
        return isinstance(argument, str | os.PathLike) and os.fsdecode(argument).startswith(within)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in kinds and (kinds is REQUEST_STEPS or any(map(is_within, arguments))):
            steps[0] += 1
            if steps[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    return steps


def _answer(request: Mapping[str, Any]) -> tuple[int, int]:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(read)
            os.environ.update(request["environment"])
            silent = os.open(os.devnull, os.O_RDWR)
            os.dup2(silent, 1)
            from entrypoint import main
            from job.store.s3.store import S3Store

            # A store's clock cannot be set, so what killed runs left is dead at once.
            S3Store.discard_unfinished.__defaults__ = (0.0,)
            steps = _count_steps(request["within"], request["at"])
            status = main(request["arguments"])
            os.write(write, str(steps[0]).encode())
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as told:
        steps_taken = int(told.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), steps_taken


def _serve() -> None:
    import job.measuring.passes
    import job.store.s3.store
    import job.survey  # noqa: F401 - so that each child has them

    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
