"""What every store promises, tested on a folder and on a real S3 server."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, current_thread
from types import FrameType

import pytest

from job.errors import CorruptCheckpoint, Terminated, TransientError
from job.store.folder import FolderStore
from job.store.s3.store import open_s3_store
from job.store.s3.upload import PART_NBYTES
from job.store.store import Store, creates_once
from tests.servers.seaweed import SeaweedServer

MIB = 1 << 20
SIZES = [0, 1, PART_NBYTES - 1, PART_NBYTES, PART_NBYTES + 1, 3 * PART_NBYTES]


@dataclass(frozen=True)
class Place:
    """A store under test, its address, and a look at what it must not leave behind."""

    store: Store
    output: str
    leftovers: Callable[[], list[str]]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        root = tmp_path / "surveys"
        return Place(
            FolderStore(root),
            str(root),
            lambda: [str(path) for path in root.rglob("*") if path.is_file() and path.name.endswith(".unfinished")],
        )
    bucket: str = request.getfixturevalue("s3_bucket")
    server: SeaweedServer = request.getfixturevalue("s3_server")
    output = f"s3://{bucket}/some/prefix"
    return Place(open_s3_store(output), output, lambda: unfinished_uploads(server, bucket))


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def unfinished_uploads(server: SeaweedServer, bucket: str) -> list[str]:
    return [upload["Key"] for upload in server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def noise(nbytes: int) -> bytes:
    return random.Random(nbytes).randbytes(nbytes)  # noqa: S311 (reproducible, not secret)


def cut(content: bytes, chunk_nbytes: int = 3 * MIB + 5) -> Iterator[bytes]:
    return (content[begin : begin + chunk_nbytes] for begin in range(0, len(content), chunk_nbytes))


@pytest.mark.writes_invalid_manifests
def test_a_small_object_is_read_back_and_replaced(store: Store) -> None:
    store.write("org/name/manifest.json", b"one")
    store.write("org/name/manifest.json", b"two, longer")
    assert store.read("org/name/manifest.json") == b"two, longer"
    store.write("org/name/manifest.json", b"")
    assert store.read("org/name/manifest.json") == b""


@pytest.mark.parametrize("nbytes", [1, 5, 6, 100])
def test_the_first_bytes_of_an_object_are_read(store: Store, nbytes: int) -> None:
    store.write("org/model/a.txt", b"hello")
    assert store.read_begin("org/model/a.txt", nbytes) == b"hello"[:nbytes]
    assert store.read_begin("org/model/none.txt", nbytes) == b""


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (1, 3), (4, 9), (5, 6), (9, 10)])
def test_a_range_of_an_object_is_read(store: Store, begin: int, end: int) -> None:
    store.write("org/model/a.txt", b"hello")
    assert store.read_range("org/model/a.txt", begin, end) == b"hello"[begin:end]
    assert store.read_range("org/model/none.txt", begin, end) == b""


def test_what_is_not_there_reads_as_none_and_deletes_as_nothing(store: Store) -> None:
    assert store.read("org/none.json") is None
    store.delete("org/none.json")
    store.write("org/some.json", b"{}")
    store.delete("org/some.json")
    assert store.read("org/some.json") is None
    assert list(store.sizes("")) == []


def test_only_the_first_to_create_an_object_does(place: Place) -> None:
    assert place.store.create("runs/a/plan.json", b"first")
    assert not place.store.create("runs/a/plan.json", b"second")
    assert place.store.read("runs/a/plan.json") == b"first"
    assert creates_once(place.store, "runs/a/")
    assert list(place.store.sizes("")) == ["runs/a/plan.json"]
    assert place.leftovers() == []


def test_of_many_who_create_at_once_one_does_and_all_read_what_it_wrote(place: Place) -> None:
    together = Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return place.store.create("runs/a/plan.json", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert sum(created) == 1
    assert place.store.read("runs/a/plan.json") == str(created.index(True)).encode()
    assert place.leftovers() == []


def test_a_store_that_ignores_the_condition_is_found_out(weak_s3: str) -> None:
    store = open_s3_store(weak_s3)
    assert not creates_once(store, "runs/a/")
    assert list(store.sizes("")) == []


@pytest.mark.parametrize("nbytes", [3, 100])
def test_the_beginning_of_an_object_takes_one_request_on_a_store_that_gives_ranges_with_200(
    weak_s3: str, caplog: pytest.LogCaptureFixture, nbytes: int
) -> None:
    store = open_s3_store(weak_s3)
    store.write("org/model/a.txt", b"hello")
    assert store.read_begin("org/model/a.txt", nbytes) == b"hello"[:nbytes]
    assert "trying again" not in caplog.text


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_stream_of_any_size_arrives_whole(place: Place, nbytes: int) -> None:
    content = noise(nbytes)
    place.store.write_stream("org/stream", cut(content), nbytes)
    assert place.store.read("org/stream") == content
    assert place.leftovers() == []


def test_nothing_is_visible_until_the_last_byte_is_there(store: Store) -> None:
    content = noise(3 * PART_NBYTES)

    def chunks() -> Iterator[bytes]:
        yield from cut(content)
        assert list(store.sizes("")) == []
        assert store.read("org/stream") is None

    store.write_stream("org/stream", chunks(), len(content))
    assert list(store.sizes("")) == ["org/stream"]


def test_the_callers_thread_pulls_the_stream(store: Store) -> None:
    threads = set()

    def chunks() -> Iterator[bytes]:
        for chunk in cut(noise(2 * PART_NBYTES)):
            threads.add(current_thread())
            yield chunk

    store.write_stream("org/stream", chunks(), 2 * PART_NBYTES)
    assert threads == {current_thread()}


@pytest.mark.parametrize(
    ("cause", "nbytes"),
    [
        (CorruptCheckpoint("cut short"), 0),
        (Terminated(), 5),
        (TransientError("503"), 2 * PART_NBYTES + 1),
        (KeyboardInterrupt(), 2 * PART_NBYTES + 1),
    ],
    ids=["at once", "early", "midway", "interrupted midway"],
)
def test_what_the_stream_raises_comes_through_and_leaves_the_old_object_alone(
    place: Place, cause: BaseException, nbytes: int
) -> None:
    place.store.write("org/stream", b"old")

    def chunks() -> Iterator[bytes]:
        yield from cut(noise(nbytes))
        raise cause

    with pytest.raises(type(cause)) as caught:
        place.store.write_stream("org/stream", chunks(), 4 * PART_NBYTES)
    assert caught.value is cause
    assert place.store.read("org/stream") == b"old"
    assert list(place.store.sizes("")) == ["org/stream"]
    assert place.leftovers() == []


@pytest.mark.parametrize(
    ("nbytes", "announced"),
    [
        (10, 9),
        (10, 11),
        (3 * PART_NBYTES, 3 * PART_NBYTES - 1),
        (3 * PART_NBYTES, 10),
        (3 * PART_NBYTES, 5 * PART_NBYTES),
    ],
)
def test_more_or_fewer_bytes_than_announced_are_refused(place: Place, nbytes: int, announced: int) -> None:
    with pytest.raises(ValueError, match=f"expected {announced:,}"):
        place.store.write_stream("org/stream", cut(noise(nbytes)), announced)
    assert list(place.store.sizes("")) == []
    assert place.leftovers() == []


def test_a_signal_ends_an_endless_stream_and_leaves_nothing(place: Place) -> None:
    chunk, terminated = noise(MIB), Terminated()

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise terminated

    def chunks() -> Iterator[bytes]:
        pulled = 0
        while True:
            yield chunk
            pulled += 1
            if pulled == 20:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(Terminated) as caught:
            place.store.write_stream("org/stream", chunks(), 10**10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value is terminated
    assert list(place.store.sizes("")) == []
    assert place.leftovers() == []


def test_two_writers_of_one_key_do_not_meet_and_the_last_to_end_stands(place: Place) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"slow"
        place.store.write_stream("org/stream", iter([b"quick"]), 5)
        assert place.store.read("org/stream") == b"quick"
        yield b"er"

    place.store.write_stream("org/stream", chunks(), 6)
    assert place.store.read("org/stream") == b"slower"
    assert place.leftovers() == []


def test_keys_are_listed_by_prefix_in_order(store: Store) -> None:
    keys = ["a/b/c.json", "a/b.json", "a/bb/d.json", "a b/ä+?.json", "index.html"]
    for key in keys:
        store.write(key, b"{}")
    assert list(store.sizes("")) == sorted(keys)
    assert list(store.sizes("a/b")) == ["a/b.json", "a/b/c.json", "a/bb/d.json"]
    assert list(store.sizes("a/b/")) == ["a/b/c.json"]
    assert list(store.sizes("nothing/here")) == []
    assert store.read("a b/ä+?.json") == b"{}"


def test_a_listing_tells_sizes_and_proves_no_other_content(store: Store) -> None:
    store.write("a/b.json", b"{}")
    store.write_stream("a/b/W", [b"1234", b"56"], 6)
    listing = store.listing("a/")
    assert {key: listed.size for key, listed in listing.items()} == store.sizes("a/") == {"a/b.json": 2, "a/b/W": 6}
    assert not listing["a/b.json"].holds(b"[]")
    assert not listing["a/b.json"].holds(b"{} ")
    assert not listing["a/b/W"].holds(b"123465")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/./b", "a/"])
def test_no_key_leads_out_of_the_store(store: Store, key: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: store.write(key, b"x"),
        lambda: store.create(key, b"x"),
        lambda: store.read(key),
        lambda: store.delete(key),
        lambda: store.url(key),
        lambda: store.write_stream(key, iter([b"x"]), 1),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="expected names"):
            attempt()
    assert list(store.sizes("")) == []


def test_a_check_of_a_good_store_leaves_nothing(place: Place) -> None:
    place.store.check()
    assert list(place.store.sizes("")) == []
    assert place.leftovers() == []


KILLED = """
import sys, os, signal
from job.store.{module} import {opener}
store = {opener}({output!r})
def chunks():
    for _ in range(30):
        yield bytes(1 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
store.write_stream({key!r}, chunks(), 1 << 30)
"""


def run_python(place: Place, template: str, **values: object) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own, with the store's module and address filled in."""
    on_s3 = place.output.startswith("s3://")
    script = template.format(
        module="s3.store" if on_s3 else "folder",
        opener="open_s3_store" if on_s3 else "FolderStore",
        output=place.output,
        **values,
    ).replace(f"FolderStore({place.output!r})", f"FolderStore(__import__('pathlib').Path({place.output!r}))")
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


COMMITS = ("org/mine/0123abcd", "org/mine/4567abcd", "local/other/89abcdef/tensor-01234567")


def test_what_killed_runs_left_is_discarded_wherever_it_lies_once_it_is_old(place: Place) -> None:
    for folder in COMMITS:
        assert run_python(place, KILLED, key=f"{folder}/W.safetensors").returncode == -signal.SIGKILL
    assert len(place.leftovers()) == 3
    assert list(place.store.sizes("")) == []
    place.store.discard_unfinished()
    assert len(place.leftovers()) == 3, "a run that is alive could have begun them just now"
    place.store.discard_unfinished(0.0)
    assert place.leftovers() == []


def test_old_probes_are_discarded_and_nothing_else(place: Place) -> None:
    probes = ["runs/a/condition-check-0123456789abcdef", "write-check", "write-check-0123456789abcdef"]
    others = ["org/name/0123abcd/W.safetensors", "runs/a/plan.json", "runs/condition-check.json", "write-checks/a"]
    for key in probes + others:
        place.store.write(key, b"")
    place.store.discard_unfinished()
    assert list(place.store.sizes("")) == sorted(probes + others)
    place.store.discard_unfinished(0.0)
    assert list(place.store.sizes("")) == sorted(others)


MEMORY = """
from job.store.{module} import {opener}
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
store = {opener}({output!r})
store.write("first", b"connects")
before, nbytes = peak(), {mib} << 20
chunks = (bytes(4 << 20) for _ in range({mib} // 4))
store.write_stream("big", chunks, nbytes)
print((peak() - before) // 1024)
"""


def test_a_large_stream_takes_a_few_parts_of_memory(place: Place) -> None:
    done = run_python(place, MEMORY, mib=256)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100  # MiB: four parts in flight, one being filled, one held back, and what carries them
