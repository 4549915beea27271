"""The rows of one large W: which commands are run, and from where to where."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

from benchmarks.checkpoints import W_NAME, Written, write_large
from benchmarks.results import Key, Run, Tensors
from benchmarks.runner import OUTPUT, Runner

SIZES: Final[Mapping[str, Sequence[float]]] = {
    "local": (0.1, 0.8, 4.0),
    "notebook": (0.8,),
    "http": (0.8, 4.0),
    "tls": (0.8,),
    "s3": (0.8, 8.0),
    "seaweedfs": (0.8,),
    "shaped": (0.8,),
    "delayed": (0.8,),
}
"""The rows, and the gigabytes of W that each is measured with by default."""

TENSORS: Final[Mapping[Tensors, str]] = {
    "mu and black holes": "mu,black_holes",
    "all tensors": "W,mu,gamma_centered,black_holes",
    "all tensors and tokens": "W,mu,gamma_centered,black_holes,tokens",
}
"""``TENSORS`` of a job that writes these."""


@dataclass(frozen=True)
class Case:
    """What is run once a round."""

    title: str
    run: Callable[[], Iterator[tuple[Key, Run]]]
    disk_nbytes: float = 0.0
    """Free disk that it needs."""
    memory_nbytes: float = 0.0


@dataclass(frozen=True)
class LargeRows:
    """The rows of one checkpoint."""

    runner: Runner
    jobs: Mapping[str, Path]
    """The entrypoints of the versions that are compared, by their names."""
    checkpoint: Written
    repo_id: str
    """By which the Hub knows it."""
    whole: Written | None
    """The same W, with the rest of the model around it."""

    @classmethod
    def write(cls, runner: Runner, jobs: Mapping[str, Path], gigabytes: float, rows: Sequence[str]) -> Self:
        """Write the checkpoints that these rows read."""
        repo_id = f"benchmark/{gigabytes:g}"
        checkpoint = write_large(runner.folder / repo_id, gigabytes)
        whole = write_large(runner.folder / f"{repo_id}-whole", gigabytes, n_layers=36) if "notebook" in rows else None
        if set(rows) - {"local", "notebook"}:
            runner.servers.add(repo_id, checkpoint.folder)
        return cls(runner, jobs, checkpoint, repo_id, whole)

    def remove(self) -> None:
        """Free their disk."""
        for each in filter(None, (self.checkpoint, self.whole)):
            shutil.rmtree(each.folder)

    def cases(self, rows: Sequence[str]) -> Iterator[Case]:
        """The rulers that the rows need, then the rows themselves."""
        yield from self._rulers(rows)
        for row in [row for row in SIZES if row in rows and row != "notebook"]:
            for who, entrypoint in self.jobs.items():
                if row == "s3":
                    yield Case(f"plan, {who}", partial(self._stated, who, entrypoint))
                of_row: Sequence[Tensors] = tuple(TENSORS) if row in ("local", "http", "tls") else ("all tensors",)
                for tensors in of_row:
                    run = partial(self._job, row, who, entrypoint, tensors)
                    yield Case(f"{row}, {who}, {tensors}", run, disk_nbytes=4 * self.checkpoint.w_nbytes)

    def _rulers(self, rows: Sequence[str]) -> Iterator[Case]:
        nbytes = self.checkpoint.w_nbytes
        if {"local", "http", "tls"} & set(rows):
            yield Case("plain copy", self._copy, disk_nbytes=3 * nbytes)
        if "local" in rows:
            of_script: Sequence[Tensors] = ("all tensors", "mu and black holes")
            for tensors in of_script:
                run, title = partial(self._script, tensors), f"script, {tensors}"
                yield Case(title, run, disk_nbytes=3 * nbytes, memory_nbytes=4.5 * nbytes)
        if self.whole:
            run = partial(self._notebook, self.whole)
            yield Case("notebook", run, disk_nbytes=3 * nbytes, memory_nbytes=10 * nbytes)
        if "tls" in rows and (curl := shutil.which("curl")):
            yield Case("curl", partial(self._curl, curl))

    def _copy(self) -> Iterator[tuple[Key, Run]]:
        whole = self.checkpoint
        yield (
            self._key("folder → folder", "plain copy"),
            self.runner.ruler("plain_copy", whole.file, whole.begin, whole.end, OUTPUT),
        )

    def _script(self, tensors: Tensors) -> Iterator[tuple[Key, Run]]:
        arguments = [self.checkpoint.file, W_NAME, OUTPUT, *(["few"] if tensors == "mu and black holes" else [])]
        yield self._key("folder → folder", "script", tensors), self.runner.ruler("by_hand", *arguments)

    def _notebook(self, whole: Written) -> Iterator[tuple[Key, Run]]:
        yield self._key("folder → folder", "notebook"), self.runner.ruler("notebook", whole.folder, OUTPUT)

    def _curl(self, curl: str) -> Iterator[tuple[Key, Run]]:
        range_ = f"{self.checkpoint.begin}-{self.checkpoint.end - 1}"
        url, ca = self.runner.servers.address_over_tls(self.repo_id, self.checkpoint.file.name)
        command = [curl, "--silent", "--fail", "--cacert", ca, "--range", range_, "--output", os.devnull, url]
        yield self._key("TLS → nowhere", "curl"), self.runner.command(command)

    def _stated(self, who: str, entrypoint: Path) -> Iterator[tuple[Key, Run]]:
        """The memory that a plan states for the survey, as the peak of a run that takes no time."""
        environment = self.runner.servers.sink("plain") | {"FORMAT": "json"}
        bucket = f"s3://surveys/{next(self.runner.numbers)}"
        self.runner.job(entrypoint, [self.repo_id], bucket, environment, verb=["plan"])
        need = json.loads((self.runner.folder / "printed").read_text())["models"][0]["need"]
        stated = float(need["memory_nbytes"])
        yield self._key("HTTP → S3, as a plan states", who), Run(0.0, 0.0, stated, stated)

    def _job(self, row: str, who: str, entrypoint: Path, tensors: Tensors) -> Iterator[tuple[Key, Run]]:
        run = partial(self.runner.job, entrypoint, w_begin=self.checkpoint.begin)
        asked = {"TENSORS": TENSORS[tensors]}
        bucket = f"s3://surveys/{next(self.runner.numbers)}"
        servers = self.runner.servers
        with self.runner.output() as output:
            match row:
                case "local":
                    key, found = "folder → folder", run([str(self.checkpoint.folder)], output, asked)
                case "http":
                    key, found = "HTTP → folder", run([self.repo_id], output, asked)
                case "tls":
                    key, found = "TLS → folder", run([self.repo_id], output, asked, link="TLS")
                case "s3":
                    key, found = "HTTP → S3", run([self.repo_id], bucket, asked | servers.sink("plain"))
                case "seaweedfs":
                    key, found = "HTTP → SeaweedFS", run([self.repo_id], bucket, asked | servers.seaweed())
                case "shaped":
                    environment = asked | servers.sink("shaped")
                    key, found = "HTTP → S3, shaped", run([self.repo_id], bucket, environment, link="shaped")
                case _:
                    environment = asked | servers.sink("delayed")
                    key, found = "HTTP → S3, shaped, 50 ms", run([self.repo_id], bucket, environment, link="delayed")
            if tensors == "all tensors and tokens":
                found = replace(found, reachability=_seconds_for_reachability(Path(output)))
        yield self._key(key, who, tensors), found

    def _key(self, route: str, who: str, tensors: Tensors = "all tensors") -> Key:
        return Key(route, who, self.checkpoint.w_nbytes, tensors)


def _seconds_for_reachability(output: Path) -> float:
    """How long a survey waited for its tokenizer's process, in as far as that told which tokens can be reached."""
    (manifest,) = output.rglob("manifest.json")
    seconds = json.loads(manifest.read_text("utf-8"))["seconds"]
    return float(min(seconds["name tokens"], seconds.get("reachability", 0.0)))
