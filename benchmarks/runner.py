"""Runs the job or a ruler, and adds to what it took what the servers saw of it."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.measure import Measured, measure
from benchmarks.nginx import Link
from benchmarks.results import Run
from benchmarks.servers import Servers, Stored

RULERS: Final = Path(__file__).parent / "rulers"
OUTPUT: Final = object()
"""Stands for a ruler's output among its arguments."""
LOG_SECONDS: Final = 0.2
"""After which nginx has logged the requests of a client that has ended."""


def clean_environment() -> dict[str, str]:
    """This process's own, without the settings of a Hub, a store or a proxy."""
    theirs = ("HF_", "AWS_", "HUGGING_FACE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}


@dataclass(frozen=True)
class Runner:
    """Runs commands in one folder, whose outputs last as long as they are needed."""

    folder: Path
    servers: Servers
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def output(self) -> Iterator[str]:
        """A path for an output, which is removed in the end."""
        path = self.folder / f"output-{next(self.numbers)}"
        try:
            yield str(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def ruler(self, name: str, *arguments: object) -> Run:
        """Run a ruler, whose output is removed: it takes the place of ``OUTPUT`` among the arguments."""
        with self.output() as output:
            words = [output if argument is OUTPUT else str(argument) for argument in arguments]
            return self.command([sys.executable, str(RULERS / f"{name}.py"), *words])

    def command(self, command: Sequence[str]) -> Run:
        """Run any command."""
        return _run_of(measure(command, clean_environment(), self.folder))

    def job(
        self,
        entrypoint: Path,
        models: Sequence[str],
        output: str,
        environment: Mapping[str, str],
        *,
        link: Link = "plain",
        w_begin: int | None = None,
        verb: Sequence[str] = (),
    ) -> Run:
        """Run the job. ``link``: how it reaches the Hub and the sink. ``w_begin``: where W begins in its file."""
        models_file = self.folder / "models.txt"
        models_file.write_text("\n".join(models))
        command = [sys.executable, str(entrypoint), *verb, "--models-file", str(models_file), "--output", output]
        settings = {**clean_environment(), "SCRATCH": str(self.folder), **environment}
        n_before = self.servers.hub_requests()
        with self.servers.reading(link) as hub:
            run = measure(command, settings | hub, self.folder)
        time.sleep(LOG_SECONDS)
        sent, stored = self.servers.sent(run.began), self.servers.stored(link, run.began)
        of_w = [request for request in sent if request.begin and request.begin >= (w_begin or 0)]
        return replace(
            _run_of(run),
            first_byte=of_w[0].began - run.began if of_w else 0.0,
            sent_nbytes=sum(request.nbytes for request in sent),
            stored_nbytes=sum(request.nbytes for request in stored),
            parts_in_flight=_most_at_once([request for request in stored if "partNumber" in request.query]),
            hub_requests=self.servers.hub_requests() - n_before,
            header_requests=len(sent) - len(of_w),
            store_requests=len(stored),
        )


def _run_of(measured: Measured) -> Run:
    return Run(measured.wall, measured.cpu, measured.peak, measured.peak_of_all)


def _most_at_once(requests: Sequence[Stored]) -> int:
    """How many of the requests overlapped, at most."""
    changes = sorted([(one.began, 1) for one in requests] + [(one.ended, -1) for one in requests])
    most = current = 0
    for _, change in changes:
        current += change
        most = max(most, current)
    return most
