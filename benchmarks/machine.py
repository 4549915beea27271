"""What the benchmarks ran on."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path


def describe(folder: Path) -> dict[str, str]:
    """The machine, by what a reader wants to know of it. ``folder``: where the benchmarks read and write."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = [
        name for name in ("avx2", "avx512f", "sha_ni") if re.search(rf"\b{name}\b", Path("/proc/cpuinfo").read_text())
    ]
    disk = shutil.disk_usage(folder)
    device, kind = filesystem(folder)
    return {
        "CPU": f"{cpu[1] if cpu else platform.machine()} ({', '.join(flags)})",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_nbytes('MemTotal') / 1e9:.1f} GB",
        "disk": f"{kind} on {device}, {disk.free / 1e9:.0f} of {disk.total / 1e9:.0f} GB free",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def memory_nbytes(field: str) -> int:
    """What the kernel says of memory, such as ``MemAvailable``, in bytes."""
    (found,) = re.findall(rf"^{field}:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found) * 1024


def filesystem(folder: Path) -> tuple[str, str]:
    """The device and the kind of the file system that a folder is on."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [line for line in lines if folder.resolve().is_relative_to(line[1])]
    device, _, kind, *_ = max(above, key=lambda line: len(line[1]))
    return device, kind


def commit(checkout: Path) -> str:
    """The commit of a checkout, and whether files differ from it; empty if git does not know it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
