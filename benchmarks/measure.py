"""Runs a command and measures it: seconds, processor time and peak memory, of its children too.

It runs below a small process of its own, because the kernel counts the memory of whoever starts a process towards that
process. Whatever the command leaves behind is waited for and counted. Only the standard library, for the same reason.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

SAMPLE_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36


class CommandFailed(Exception):
    """A command did not end as it should have."""


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    began: float
    """Unix time."""
    wall: float
    """Seconds until it ended."""
    cpu: float
    """Core-seconds of it and its children, in user and in kernel mode."""
    peak: float
    """Bytes resident in its largest process."""
    peak_of_all: float
    """Bytes resident in it and its children together, as far as samples tell; what they share counts once."""


def measure(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Measured:
    """Run a command in a folder. What it prints is in ``printed`` there, and what it logs in ``logged``.

    Raises:
        CommandFailed: it did not end with 0; its last words are in the message.
    """
    measurer = [sys.executable, "-I", "-S", str(Path(__file__).absolute()), *command]
    os.sync()  # what earlier runs wrote is not to be waited for in this one
    done = subprocess.run(measurer, env=environment, cwd=folder, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    if status := found.pop("status"):
        logged = (folder / "logged").read_text(errors="replace")[-3000:]
        raise CommandFailed(f"{' '.join(command)}: ended with {status}, expected 0; it said:\n{logged}")
    return Measured(**found)


def _main(*command: str) -> None:
    """Run the command, and print what it took."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    peak_of_all, ended = 0, Event()

    def sample() -> None:
        nonlocal peak_of_all
        while not ended.wait(SAMPLE_SECONDS):
            with suppress(OSError):  # one of them has ended meanwhile
                peak_of_all = max(peak_of_all, _resident_nbytes(_descendants(process.pid)))

    with Path("printed").open("wb") as printed, Path("logged").open("wb") as logged:
        began, start = time.time(), time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=logged)
        sampler = Thread(target=sample)
        sampler.start()
        status = process.wait()
        wall = time.monotonic() - start
    ended.set()
    sampler.join()
    with suppress(ChildProcessError):  # none is left
        while True:
            os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss * 1024
    found = Measured(began, wall, usage.ru_utime + usage.ru_stime, peak, max(peak, peak_of_all))
    json.dump({"status": status, **vars(found)}, sys.stdout)


def _descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    pids = [pid]
    for one in pids:
        for task in Path(f"/proc/{one}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def _resident_nbytes(pids: list[int]) -> int:
    """The memory of several processes. Of one, the kernel knows the peak, and to ask would slow it down."""
    if len(pids) < 2:
        return 0
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    lines = [line for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
    return 1024 * sum(int(line.split()[1]) for line in lines)


if __name__ == "__main__":
    _main(*sys.argv[1:])
