"""How much memory this process may use, and what a model may claim of it before its files are parsed."""

import ctypes
import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from job.errors import UnsupportedCheckpoint

_ROOT: Final = Path("/")
_CGROUP_FILES: Final = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By the type of the file system: the files of the limit and the usage, and the line of ``memory.stat`` with the part
of the usage that the kernel gives up first, copies of files on disk (``Documentation/admin-guide/cgroup-v*``)."""

_SMALL_NBYTES: Final = 16 << 20
"""What each of several models may claim at once. A plan asks about 8 by default, and a config and a header take less
than 1 MB; the indexes and headers of the largest models take more."""

RESERVE_NBYTES: Final = 64 << 20
"""What stays for all that the process does meanwhile, such as fetching ranges."""


_KEPT_NBYTES: Final = 256 << 20
"""How much freed memory a process keeps at most at the end of its heap."""


@dataclass(frozen=True)
class Memory:
    """Memory in bytes that something has: a control group, this process, or the machine."""

    limit: int
    left: int


def memory_limit(root: Path = _ROOT) -> int:
    """The bytes that this process and its children may use: the least limit of its control groups, of the process
    itself and of the machine. ``root``: where the system's /proc and /sys are."""
    return min(memory.limit for memory in _memories(root))


def memory_left(root: Path = _ROOT) -> int:
    """How many bytes of ``memory_limit`` are not used, as far as the system tells; not below 0."""
    return max(0, min(memory.left for memory in _memories(root)))


GIVES_BACK: Final[set[Callable[[], None]]] = set()
"""What gives back memory that is kept for later, such as an idle server's. Any thread may call it."""


def give_back_memory() -> None:
    """Give memory that nobody needs now back to the system: what ``GIVES_BACK`` keeps, and what parsers of large files
    have freed, which else stays with the process and counts as used."""
    for give_back in list(GIVES_BACK):
        give_back()
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Let this process use the memory that it frees again, instead of giving it back to the kernel and asking anew.

    A page that comes from the kernel is filled with zeros first: that takes longer than most of what is computed with
    blocks of rows. All threads share one heap, so that what one of them frees serves the others. malloc(3) calls these
    settings M_MMAP_THRESHOLD (32 MiB is the most that it takes), M_TRIM_THRESHOLD and M_ARENA_MAX.
    """
    with suppress(OSError, AttributeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in ((-3, 32 << 20), (-1, _KEPT_NBYTES), (-8, 1)):
            mallopt(setting, value)


def megabytes(nbytes: int) -> str:
    """A size for people."""
    return f"{nbytes / 1e6:,.0f} MB"


@dataclass
class _Claims:
    """What the model that a thread looks into has claimed so far."""

    nbytes: int = 0
    is_alone: bool = False


_CLAIMS: Final[ContextVar[_Claims | None]] = ContextVar("claims", default=None)
_ALONE: Final = Lock()
"""Held for a model with large files, until it has been looked into: several at once could take all memory."""


@contextmanager
def claims_of_one_model() -> Iterator[None]:
    """What is claimed within counts together, and is given back at the end."""
    claims = _Claims()
    token = _CLAIMS.set(claims)
    try:
        yield
    finally:
        _CLAIMS.reset(token)
        if claims.is_alone:
            _ALONE.release()


def claim_memory(nbytes: int, where: str) -> None:
    """Make sure that there is memory to parse a file that takes up to ``nbytes`` when it is parsed. If the model has
    claimed much, wait until no other such model is being looked into.

    Raises:
        UnsupportedCheckpoint: this process does not have as much.
    """
    claims = _CLAIMS.get() or _Claims(is_alone=True)
    claims.nbytes += nbytes
    if claims.nbytes > _SMALL_NBYTES and not claims.is_alone:
        _ALONE.acquire()
        claims.is_alone = True
    if claims.nbytes <= _SMALL_NBYTES or nbytes <= memory_left() - RESERVE_NBYTES:
        return
    give_back_memory()
    if nbytes > (left := max(0, memory_left() - RESERVE_NBYTES)):
        raise UnsupportedCheckpoint(
            f"{where}: found what takes up to {megabytes(nbytes)} of memory to read, expected at most "
            f"{megabytes(left)}, which this process has left; raise its memory limit, such as the container's"
        )


def _memories(root: Path) -> Iterator[Memory]:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Memory(machine, _fields(root / "proc/meminfo", 1024).get("MemAvailable:", machine))
    used = _fields(root / "proc/self/status", 1024)
    for kind, name in ((resource.RLIMIT_DATA, "VmData:"), (resource.RLIMIT_AS, "VmSize:")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield Memory(limit, limit - used.get(name, 0))
    for folder, (limit_file, usage_file, cache) in _control_groups(root):
        allowed, usage = _number(folder / limit_file), _number(folder / usage_file)
        if allowed is not None:
            yield Memory(allowed, allowed - (usage or 0) + _fields(folder / "memory.stat").get(cache, 0))


def _control_groups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The folder of each control group that limits the memory of this process, from the process's own to the outermost
    that is mounted. In a container these may be mounted as if the container's own was the outermost."""
    for mount in _lines(root / "proc/self/mountinfo"):
        fields, _, about = mount.partition(" - ")
        kind, _, options = about.partition(" ")
        if kind not in _CGROUP_FILES or (kind == "cgroup" and "memory" not in options.rpartition(" ")[2].split(",")):
            continue
        mounted_from, mounted_at = fields.split(" ")[3:5]
        for line in _lines(root / "proc/self/cgroup"):
            _, controllers, path = line.split(":", 2)
            if ("memory" in controllers.split(",")) if kind == "cgroup" else not controllers:
                inside = path.removeprefix(mounted_from.rstrip("/")).strip("/")
                below = Path(mounted_at.lstrip("/"))
                for folder in (Path(inside), *Path(inside).parents):
                    yield root / below / folder, _CGROUP_FILES[kind]


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none if it is not there, as on another system than Linux."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _fields(path: Path, unit: int = 1) -> dict[str, int]:
    """The numbers of a file in which each line is a name and a number, as bytes; ``unit``: the bytes of one."""
    words = (line.split() for line in _lines(path))
    return {line[0]: int(line[1]) * unit for line in words if len(line) > 1 and line[1].isdigit()}


def _number(path: Path) -> int | None:
    """The number in a file of the system; None if it is not there, or ``max``."""
    (text,) = _lines(path) or [""]
    return int(text) if text.isdigit() else None
