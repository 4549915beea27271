"""The rows of small models: many in one run, new and published, and the requests that each of them costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from benchmarks.checkpoints import write_small
from benchmarks.results import Key, Run
from benchmarks.rows import Case
from benchmarks.runner import Runner

N_MODELS = 100
N_ON_THE_HUB = 11


@dataclass(frozen=True)
class ManyRows:
    """The rows of small models, which are written on demand."""

    runner: Runner
    jobs: Mapping[str, Path]
    folder: Path

    def warm_up(self) -> None:
        """Run each version once, so that what it imports is compiled and in memory."""
        for who, entrypoint in self.jobs.items():
            list(self._in_folders(who, entrypoint, 1))

    def cases(self, rows: Sequence[str]) -> Iterator[Case]:
        """Those of 1, 10 and 100 models in folders, and those of models on the Hub."""
        for who, entrypoint in self.jobs.items():
            if "small" in rows:
                for n_models in (1, 10, N_MODELS):
                    yield Case(f"{n_models} small, {who}", partial(self._in_folders, who, entrypoint, n_models))
            if "requests" in rows:
                yield Case(f"requests, {who}", partial(self._on_the_hub, who, entrypoint))

    def _in_folders(self, who: str, entrypoint: Path, n_models: int) -> Iterator[tuple[Key, Run]]:
        models = [str(self._checkpoint(number)) for number in range(n_models)]
        with self.runner.output() as output:
            new = self.runner.job(entrypoint, models, output, {})
            yield Key(f"folder → folder, {n_models} new", who), new
            published = self.runner.job(entrypoint, models, output, {})
            yield Key(f"folder → folder, {n_models} published", who), published

    def _on_the_hub(self, who: str, entrypoint: Path) -> Iterator[tuple[Key, Run]]:
        """What one model more costs: a run of several, less a run of one."""
        models = [f"benchmark/small-{number}" for number in range(N_ON_THE_HUB)]
        for number, repo_id in enumerate(models):
            if repo_id not in self.runner.servers.hub.repos:
                self.runner.servers.add(repo_id, self._checkpoint(number))
        number, store = next(self.runner.numbers), self.runner.servers.sink("plain")
        outputs = {"one": f"s3://surveys/{number}-one", "all": f"s3://surveys/{number}-all"}
        for what, verb in (("new", []), ("published", []), ("published, in a plan", ["plan"])):
            one, several = (
                self.runner.job(entrypoint, asked, outputs[name], store, verb=verb, w_begin=1)
                for name, asked in (("one", models[:1]), ("all", models))
            )
            yield Key(f"Hub → S3, 1 {what}", who), one
            difference = {
                each.name: (getattr(several, each.name) - getattr(one, each.name)) / (N_ON_THE_HUB - 1)
                for each in fields(Run)
            }
            yield Key(f"Hub → S3, each further {what}", who), Run(**difference)

    def _checkpoint(self, number: int) -> Path:
        folder = self.folder / f"small-{number}"
        return folder if folder.exists() else write_small(folder, number).folder
