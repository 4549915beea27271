"""How much memory a process has, and that no file takes more: it is refused by its kind, before it is parsed."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from job.errors import UnsupportedCheckpoint
from job.limits.memory import claim_memory, claims_of_one_model, memory_left, memory_limit
from tests import hostile

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def system(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """The files in which Linux tells what a process may use."""
    for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
SYSTEMS = {
    "v2, a container's own": (
        V2,
        "0::/\n",
        {"memory.max": "500000000\n", "memory.current": "200000000\n", "memory.stat": "inactive_file 50000000\n"},
    ),
    "v2, the limit of a group above": (
        V2,
        "0::/kubepods/pod1/survey\n",
        {
            "kubepods/pod1/memory.max": "500000000\n",
            "kubepods/pod1/memory.current": "200000000\n",
            "kubepods/pod1/memory.stat": "anon 1\ninactive_file 50000000\n",
            "kubepods/pod1/survey/memory.max": "max\n",
            "kubepods/pod1/survey/memory.current": "200000000\n",
        },
    ),
    "v1": (
        V1.format(root="/"),
        "5:cpu:/\n4:memory:/docker/1\n0::/\n",
        {
            "memory/docker/1/memory.limit_in_bytes": "500000000\n",
            "memory/docker/1/memory.usage_in_bytes": "200000000\n",
            "memory/docker/1/memory.stat": "total_inactive_file 50000000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    ),
    "v1, a container's own": (
        V1.format(root="/docker/1"),
        "4:memory:/docker/1\n",
        {
            "memory/memory.limit_in_bytes": "500000000\n",
            "memory/memory.usage_in_bytes": "200000000\n",
            "memory/memory.stat": "total_inactive_file 50000000\n",
        },
    ),
}


@pytest.mark.parametrize(("mounts", "groups", "files"), SYSTEMS.values(), ids=SYSTEMS)
def test_the_limit_of_a_control_group_is_found(tmp_path: Path, mounts: str, groups: str, files: dict[str, str]) -> None:
    root = system(tmp_path, mounts, groups, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert (memory_limit(root), memory_left(root)) == (500 * MB, 350 * MB)


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    root = system(tmp_path, V2, "0::/\n", {"proc/meminfo": "MemTotal: 1 kB\nMemAvailable:   1024 kB\n"})
    assert (memory_limit(root), memory_left(root)) == (machine, 1 << 20)
    assert memory_limit(tmp_path / "nothing") == machine


def test_the_limit_of_the_process_counts() -> None:
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, limits[1]))
    try:
        assert memory_limit() <= 1 << 40
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def test_models_with_large_files_are_looked_into_one_at_a_time_and_others_meanwhile() -> None:
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def large(name: str) -> None:
        with claims_of_one_model():
            claim_memory(10 * MB, name)
            claim_memory(10 * MB, name)
            order.append(name)
            inside.set()
            assert leave.wait(30)

    threads = [threading.Thread(target=large, args=[name]) for name in ("first", "second")]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    with claims_of_one_model():
        claim_memory(15 * MB, "small")
    assert order == ["first"]
    leave.set()
    for thread in threads:
        thread.join(30)
    assert order == ["first", "second"]


def test_what_no_process_has_is_refused() -> None:
    message = "^here: found what takes up to 1,000,000,000 MB of memory to read, expected at most .* which this process"
    with claims_of_one_model(), pytest.raises(UnsupportedCheckpoint, match=message):
        claim_memory(10**15, "here")


FIND = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (500_000_000, 500_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from pathlib import Path
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import ModelError
try:
    find_unembedding(open_folder(Path(sys.argv[1])), None)
except ModelError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("make", [hostile.full_config, hostile.huge_index, hostile.huge_header, hostile.long_pickle])
def test_a_file_that_would_take_all_memory_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    done = subprocess.run([sys.executable, "-c", FIND, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("UnsupportedCheckpoint ")


@pytest.mark.parametrize("verb", ["plan", "survey"])
@pytest.mark.parametrize(
    ("shape", "limit", "need"),
    [((100, 8), 180 * MB, "188 MB"), ((4, 50_000_000), 1000 * MB, "19,288 MB")],
    ids=["any W", "long rows"],
)
def test_a_survey_that_needs_more_memory_than_the_process_has_is_refused(
    tmp_path: Path, verb: str, shape: tuple[int, int], limit: int, need: str
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    hostile.zeros(model, shape, vocab_size=shape[0], hidden_size=shape[1])
    program = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit})); "
    program += (
        f"import sys, entrypoint; sys.exit(entrypoint.main({[verb, str(model), '--output', str(tmp_path / 'out')]}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 65, done.stderr
    found = f"{model}: found that its survey needs {need} of memory, expected at most {limit // MB:,} MB, which"
    assert f"UnsupportedCheckpoint: {found}" in done.stderr
    assert not list(tmp_path.rglob("*.safetensors"))[1:]
