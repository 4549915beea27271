"""What every source of a checkpoint promises, tested on each: a folder, the Hub's cache, the Hub, S3, a web server."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import shake_256
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.sources.folder import open_folder
from job.checkpoints.sources.http import open_http
from job.checkpoints.sources.hub import open_hub
from job.checkpoints.sources.hub_cache import open_hub_cache
from job.checkpoints.sources.s3 import open_s3
from job.checkpoints.transport.parallel import stream_range
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import CorruptCheckpoint, ModelUnavailable
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import SeaweedServer

SHARD, ODD = "model-00001-of-00002.safetensors", "sub folder/größe+%20#1?.safetensors"
FILES = {
    "config.json": b"{}",
    "model.safetensors.index.json": json.dumps({"weight_map": {"a": SHARD, "b": ODD}}).encode(),
    SHARD: shake_256(b"one").digest(700_001),
    ODD: b"a name that an address must quote",
    "merges.txt": b"",
}
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=1.0)


@dataclass(frozen=True)
class Source:
    """A place that checkpoints are put and read from."""

    put: Callable[[dict[str, bytes]], None]
    """Make these the files of ``model``, replacing those of the same name."""
    open: Callable[[str], Checkpoint]
    """Open the checkpoint of a name."""
    repo_id: str


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def folder_source(tmp_path: Path) -> Source:
    def put(files: dict[str, bytes]) -> None:
        write_files(tmp_path / "model", files)

    return Source(put, lambda name: open_folder(tmp_path / name), "local/model")


@pytest.fixture
def hub_source(hub: LoopbackHub, tmp_path: Path) -> Source:
    def put(files: dict[str, bytes]) -> None:
        write_files(tmp_path / "model", files)
        hub.add("org/model", tmp_path / "model")

    def open_model(name: str) -> Checkpoint:
        return open_hub(
            f"org/{name}", None, endpoint=hub.endpoint, token=None, read_timeout=5.0, retry_policy=IMPATIENT
        )

    return Source(put, open_model, "org/model")


@pytest.fixture
def s3_source(s3_server: SeaweedServer, s3_bucket: str) -> Source:
    client = s3_server.client()

    def put(files: dict[str, bytes]) -> None:
        for name, content in files.items():
            client.put_object(Bucket=s3_bucket, Key=f"checkpoints/model/{name}", Body=content)

    def open_model(name: str) -> Checkpoint:
        return open_s3(f"s3://{s3_bucket}/checkpoints/{name}", read_timeout=5.0, retry_policy=IMPATIENT)

    return Source(put, open_model, "local/model")


@pytest.fixture
def cache_source(hub: LoopbackHub, tmp_path: Path) -> Source:
    """The Hub's cache, filled by its own client."""
    cache = tmp_path / "cache"

    def put(files: dict[str, bytes]) -> None:
        write_files(tmp_path / "model", files)
        hub.add("org/model", tmp_path / "model")
        snapshot_download("org/model", cache_dir=cache, endpoint=hub.endpoint, token=False)

    return Source(put, lambda name: open_hub_cache(cache / f"models--org--{name}", None), "org/model")


@pytest.fixture
def http_source(hub: LoopbackHub, tmp_path: Path) -> Source:
    def put(files: dict[str, bytes]) -> None:
        write_files(tmp_path / "model", files)
        hub.mirrors["model"] = tmp_path / "model"

    def open_model(name: str) -> Checkpoint:
        return open_http(f"{hub.endpoint}/mirror/{name}", read_timeout=5.0, retry_policy=IMPATIENT)

    return Source(put, open_model, "local/model")


@pytest.fixture(params=["folder", "cache", "hub", "s3", "http"])
def source(request: pytest.FixtureRequest) -> Source:
    source = request.getfixturevalue(f"{request.param}_source")
    assert isinstance(source, Source)
    return source


def test_files_have_their_names_and_sizes(source: Source) -> None:
    source.put(FILES)
    checkpoint = source.open("model")
    assert {name: file.size for name, file in checkpoint.files.items()} == {
        name: len(content) for name, content in FILES.items()
    }
    assert checkpoint.nbytes == sum(map(len, FILES.values()))
    assert checkpoint.repo_id == source.repo_id


def test_every_file_reads_as_it_was_put(source: Source) -> None:
    source.put(FILES)
    checkpoint = source.open("model")
    assert {name: checkpoint.read(name, limit=1_000_000) for name in checkpoint.files} == FILES


@pytest.mark.parametrize(
    ("begin", "end"), [(0, 0), (5, 5), (700_001, 700_001), (0, 1), (123, 456_789), (700_000, 700_001), (0, 700_001)]
)
def test_a_range_is_exactly_its_bytes(source: Source, begin: int, end: int) -> None:
    source.put(FILES)
    assert source.open("model").fetch(SHARD, begin, end) == FILES[SHARD][begin:end]


@pytest.mark.parametrize(
    ("file", "begin", "end"),
    [
        (SHARD, 0, 700_002),
        (SHARD, 700_002, 700_002),
        (SHARD, 2, 1),
        (SHARD, -1, 1),
        ("merges.txt", 0, 1),
        ("none.json", 0, 0),
        ("../model/config.json", 0, 1),
        ("/config.json", 0, 1),
    ],
)
def test_what_does_not_lie_in_the_checkpoint_is_refused(source: Source, file: str, begin: int, end: int) -> None:
    source.put(FILES)
    with pytest.raises(CorruptCheckpoint):
        source.open("model").fetch(file, begin, end)


def test_threads_may_read_at_once(source: Source) -> None:
    source.put(FILES)
    checkpoint = source.open("model")

    chunks = stream_range(partial(checkpoint.fill, SHARD), 1, 700_000, chunk_nbytes=50_000, connections=6)
    assert b"".join(chunks) == FILES[SHARD][1:700_000]
    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(FILES, pool.map(lambda name: checkpoint.read(name, 1_000_000), FILES), strict=True)) == FILES


@pytest.mark.parametrize("row_nbytes", [1, 7_000, 60_000])
def test_a_tensor_is_streamed_in_chunks_of_whole_rows_that_are_the_readers_own(
    source: Source, row_nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.checkpoints.checkpoint.CHUNK_NBYTES", 50_000)
    source.put(FILES)
    w = TensorLocation(SHARD, 1, 420_001, "U8", (420_000 // row_nbytes, row_nbytes))
    read: list[memoryview] = []
    nbytes = 0
    for chunk in source.open("model").stream(w, 6):
        assert len(chunk) % row_nbytes == 0
        assert len(chunk) <= max(50_000, row_nbytes)
        assert chunk == FILES[SHARD][1 + nbytes : 1 + nbytes + len(chunk)]
        nbytes += len(chunk)
        chunk[:] = bytes([len(read)]) * len(chunk)
        read.append(chunk)
    assert nbytes == 420_000
    assert all(set(chunk) == {number} for number, chunk in enumerate(read))


def test_a_tensor_beyond_its_file_is_refused_before_memory_is_taken_for_it(source: Source) -> None:
    source.put(FILES)
    checkpoint = source.open("model")
    with pytest.raises(CorruptCheckpoint, match=r"has 700,001 bytes, expected bytes 0 to 1,000,000,000,000,000 in it"):
        checkpoint.stream(TensorLocation(SHARD, 0, 10**15, "U8", (10**7, 10**8)), 2)
    with pytest.raises(CorruptCheckpoint, match=r"has 700,001 bytes, expected bytes 0 to 1,000,000,000,000,000 in it"):
        checkpoint.fetch(SHARD, 0, 10**15)


def test_an_unchanged_checkpoint_keeps_its_commit_and_a_changed_one_does_not(source: Source) -> None:
    source.put(FILES)
    first, again = source.open("model"), source.open("model")
    assert len(first.commit) == 40
    assert int(first.commit, 16) > 0
    assert first.commit == again.commit
    source.put({"config.json": b'{"changed": 1}'})
    changed = source.open("model")
    assert changed.commit != first.commit
    assert changed.files["config.json"].content_id != first.files["config.json"].content_id
    assert changed.files[SHARD].content_id == first.files[SHARD].content_id


def test_what_is_not_there_is_unavailable(source: Source) -> None:
    source.put(FILES)
    with pytest.raises(ModelUnavailable):
        source.open("nothing")


@pytest.mark.parametrize("source", ["folder", "s3", "http"], indirect=True)  # the Hub's commits do not change
def test_a_file_that_changed_after_it_was_pinned_is_refused(source: Source) -> None:
    source.put(FILES)
    checkpoint = source.open("model")
    source.put({SHARD: os.urandom(700_001)})
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        checkpoint.fetch(SHARD, 0, 100)
