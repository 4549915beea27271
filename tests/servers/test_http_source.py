"""Checkpoints on a plain web server: what is found without a listing, what pins it, and what is refused."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrypoint import main
from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.sources.http import NAMES, open_http
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import CorruptCheckpoint, ModelUnavailable, SurveyError, TransientError, UnsupportedCheckpoint
from job.geometry.dedup import find_black_holes
from job.tokens.kinds import file_choice
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import Fault, LoopbackHub

CONTENT = bytes(range(256)) * 1_000
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=5.0)


@pytest.fixture
def folder(hub: LoopbackHub, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "unknown.txt").write_bytes(b"nobody asks for this")
    hub.mirrors["some-model"] = folder
    return folder


@pytest.fixture
def open_it(hub: LoopbackHub, folder: Path) -> Callable[[], Checkpoint]:  # noqa: ARG001 - it must be there
    return lambda: open_http(f"{hub.endpoint}/mirror/some-model/", read_timeout=2.0, retry_policy=IMPATIENT)


def index(folder: Path, *shards: str) -> None:
    weight_map = {f"tensor{number}": shard for number, shard in enumerate(shards)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_what_lies_under_a_known_name_is_found_and_filed_under_the_last_part_of_the_address(
    hub: LoopbackHub, open_it: Callable[[], Checkpoint]
) -> None:
    checkpoint = open_it()
    assert set(checkpoint.files) == {"config.json", "model.safetensors"}
    assert (checkpoint.repo_id, checkpoint.revision) == ("local/some-model", None)
    assert checkpoint.source == f"{hub.endpoint}/mirror/some-model"
    assert checkpoint.fetch("model.safetensors", 1000, 9000) == CONTENT[1000:9000]
    assert sum(request.nbytes for request in hub.log) == 8000
    asked = Counter(request.path.rpartition("/")[2] for request in hub.log if request.method == "HEAD")
    # A file is absent only if the server says so twice.
    assert asked == dict.fromkeys(NAMES, 2) | {"config.json": 1, "model.safetensors": 1}


def test_every_file_of_a_tokenizer_is_asked_for() -> None:
    assert set(file_choice.TOKENIZER_FILES) <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("generation_config.json", Fault("*/generation_config.json", host="hub", status=405, times=None)),
        ("vocab.txt", Fault("*/vocab.txt", host="hub", status=400, times=None)),
        ("config.json", Fault("*/config.json", host="hub", headers={"ETag": "", "Last-Modified": ""}, times=None)),
    ],
)
def test_a_file_that_cannot_be_read_exactly_is_set_aside(
    hub: LoopbackHub, open_it: Callable[[], Checkpoint], name: str, fault: Fault
) -> None:
    hub.faults = [Fault(**vars(fault))]
    checkpoint = open_it()
    assert "model.safetensors" in checkpoint.files
    assert list(checkpoint.set_aside) == [name]
    assert "use another server" in checkpoint.set_aside[name]


def test_a_shard_that_cannot_be_read_exactly_is_set_aside(
    hub: LoopbackHub, folder: Path, open_it: Callable[[], Checkpoint]
) -> None:
    index(folder, "a.safetensors")
    hub.faults = [Fault("*/a.safetensors", host="hub", status=405, times=None)]
    assert list(open_it().set_aside) == ["a.safetensors"]


def test_shards_are_those_that_the_index_names(folder: Path, open_it: Callable[[], Checkpoint]) -> None:
    index(folder, "a.safetensors", "part/b.safetensors", "lost.safetensors")
    (folder / "part").mkdir()
    for shard in ("a.safetensors", "part/b.safetensors"):
        (folder / shard).write_bytes(shard.encode())
    checkpoint = open_it()
    assert "lost.safetensors" not in checkpoint.files
    assert checkpoint.fetch("part/b.safetensors", 0, 4) == b"part"


@pytest.mark.parametrize("shard", ["../secret", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_an_index_that_leads_out_of_the_checkpoint_is_refused_before_it_is_followed(
    hub: LoopbackHub, folder: Path, open_it: Callable[[], Checkpoint], shard: str
) -> None:
    index(folder, "model.safetensors", shard)
    with pytest.raises(CorruptCheckpoint, match="a path inside the checkpoint"):
        open_it()
    asked = {request.path.removeprefix("/mirror/some-model/") for request in hub.log}
    assert asked == set(NAMES)


def test_an_index_of_absurdly_many_files_is_refused(folder: Path, open_it: Callable[[], Checkpoint]) -> None:
    index(folder, *(f"{number}.safetensors" for number in range(3_000)))
    with pytest.raises(CorruptCheckpoint, match="names 3,000 files"):
        open_it()


def test_without_an_etag_the_date_and_the_size_pin_a_file(
    hub: LoopbackHub, folder: Path, open_it: Callable[[], Checkpoint]
) -> None:
    hub.faults = [Fault("/mirror/*", host="hub", headers={"ETag": ""}, times=None)]
    first, again = open_it(), open_it()
    assert first.commit == again.commit
    assert first.fetch("config.json", 0, 2) == b"{}"
    (folder / "config.json").write_bytes(b"{ }")
    assert open_it().commit != first.commit
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        first.fetch("config.json", 0, 2)


def test_redirects_are_followed_and_an_expired_address_is_asked_for_again(hub: LoopbackHub, folder: Path) -> None:
    commit = hub.add("org/model", folder)
    address = f"{hub.endpoint}/org/model/resolve/{commit}"
    checkpoint = open_http(address, read_timeout=2.0, retry_policy=IMPATIENT)
    assert checkpoint.repo_id == f"local/{commit}"
    assert checkpoint.fetch("model.safetensors", 5, 50) == CONTENT[5:50]
    hub.expire_signatures()
    assert checkpoint.fetch("model.safetensors", 50, 500) == CONTENT[50:500]
    assert checkpoint.read("config.json", 10) == b"{}"


@pytest.mark.parametrize("status", [302, 403, 404, 410])
@pytest.mark.parametrize("etag", [{}, {"ETag": ""}], ids=["etag", "date"])
def test_an_address_that_is_asked_for_again_must_lead_to_the_same_content(
    hub: LoopbackHub, folder: Path, open_it: Callable[[], Checkpoint], status: int, etag: dict[str, str]
) -> None:
    """A mirror that is synchronised moves the old file away before the new one is there."""
    path = folder / "model.safetensors"

    def replace() -> None:
        path.write_bytes(CONTENT[::-1])
        os.utime(path, (1, 1))

    no_etag = Fault("/mirror/*", host="hub", headers=etag, times=None)
    hub.faults = [no_etag]
    checkpoint = open_it()
    checkpoint.fetch("model.safetensors", 0, 1000)
    hub.faults = [Fault("*", host="hub", method="GET", status=status, meanwhile=replace), no_etag]
    with pytest.raises(CorruptCheckpoint, match="changed while it was read"):
        checkpoint.fetch("model.safetensors", 1000, 2000)


def test_a_file_that_was_replaced_when_its_last_bytes_had_come_is_not_surveyed(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been replaced while they came."""
    write_checkpoint(folder, planted(40, 8, [[1, 2]]))

    def replace_and_find(*arguments: Any) -> Any:
        write_checkpoint(folder, planted(40, 8, [[3, 4]]))
        return find_black_holes(*arguments)

    monkeypatch.setattr("job.measuring.passes.find_black_holes", replace_and_find)
    assert main([f"{hub.endpoint}/mirror/some-model", "--output", str(tmp_path / "surveys")]) == 65
    assert not list(tmp_path.rglob("manifest.json"))


def test_no_token_and_nothing_of_the_hub_is_asked_or_sent(
    hub: LoopbackHub, open_it: Callable[[], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    open_it().read("config.json", 10)
    assert {request.token for request in hub.log} == {None}
    assert all(request.path.startswith("/mirror/") for request in hub.log)


REFUSED = {
    "nothing-there": (Fault("*", host="hub", status=404, times=None), ModelUnavailable, "none of config.json"),
    "forbidden": (Fault("*", host="hub", status=403, times=None), ModelUnavailable, "may be read"),
    "no-head": (Fault("*", host="hub", status=405, times=None), UnsupportedCheckpoint, "status 405"),
    "not-implemented": (Fault("*", host="hub", status=501, times=None), UnsupportedCheckpoint, "status 501"),
    "no-size": (
        Fault("*", host="hub", headers={"Content-Length": "x"}, times=None),
        SurveyError,
        "Content-Length|again",
    ),
    "no-identity": (
        Fault("*", host="hub", headers={"ETag": "", "Last-Modified": ""}, times=None),
        UnsupportedCheckpoint,
        "neither ETag nor Last-Modified",
    ),
    "down": (Fault("*", host="hub", status=503, times=None), TransientError, "status 503, 3 times in a row"),
    "too-busy-for-long": (
        Fault("*", host="hub", status=429, headers={"Retry-After": "3600"}, times=None),
        TransientError,
        "a wait of 3,600 s|nobody may ask the server",
    ),
}


@pytest.mark.parametrize(("fault", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_server_that_cannot_be_read_exactly_is_refused(
    hub: LoopbackHub, open_it: Callable[[], Checkpoint], fault: Fault, error: type[SurveyError], message: str
) -> None:
    hub.faults = [Fault(**vars(fault))]
    with pytest.raises(error, match=message):
        open_it()


@pytest.mark.parametrize("ranges", ["ignored", "shifted", "with status 200", "of another size"])
def test_an_answer_that_is_not_the_range_is_not_believed(
    hub: LoopbackHub, open_it: Callable[[], Checkpoint], ranges: str
) -> None:
    checkpoint = open_it()
    hub.faults = [Fault("/mirror/*", host="hub", times=None)]
    hub.faults[0].ranges = ranges  # type: ignore[assignment]  # one of those it knows
    with pytest.raises((UnsupportedCheckpoint, CorruptCheckpoint)):
        checkpoint.fetch("model.safetensors", 10, 20)


def test_a_break_is_resumed_at_the_exact_byte(hub: LoopbackHub, open_it: Callable[[], Checkpoint]) -> None:
    checkpoint = open_it()
    hub.faults = [
        Fault("/mirror/*", host="hub", ending="cut", nbytes=1_234),
        Fault("/mirror/*", host="hub", status=503),
    ]
    assert checkpoint.fetch("model.safetensors", 100, 200_000) == CONTENT[100:200_000]
    assert hub.log[-1].range == "bytes=1334-199999"


PASSING = {
    "401": Fault("*/config.json", host="hub", status=401),
    "403": Fault("*/config.json", host="hub", status=403),
    "404": Fault("*/config.json", host="hub", status=404),
    "400": Fault("*/config.json", host="hub", status=400),
    "302": Fault("*/config.json", host="hub", status=302),
    "redirect-to-itself": Fault("*/config.json", host="hub", status=302, headers={"Location": ""}, times=21),
    "bad-redirect": Fault("*/config.json", host="hub", status=302, headers={"Location": "http://[cdn/"}),
    "other-protocol": Fault("*/config.json", host="hub", status=302, headers={"Location": "ftp://cdn/"}),
    "no-etag": Fault("*/config.json", host="hub", headers={"ETag": "", "Last-Modified": ""}),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_one_refusal_does_not_hide_a_file(hub: LoopbackHub, open_it: Callable[[], Checkpoint], fault: Fault) -> None:
    """Else a model would be read without its config, as if it had none."""
    hub.faults = [Fault(**vars(fault))]
    checkpoint = open_it()
    assert hub.faults[0].times == 0, "the fault was not met"
    assert checkpoint.files["config.json"].size == 2
    assert not checkpoint.set_aside


def test_one_404_in_the_middle_of_a_file_is_not_believed(hub: LoopbackHub, open_it: Callable[[], Checkpoint]) -> None:
    checkpoint = open_it()
    hub.faults = [Fault("*/model.safetensors", host="hub", status=404, times=2)]
    assert checkpoint.fetch("model.safetensors", 100, 200) == CONTENT[100:200]


def test_a_server_that_redirects_for_ever_is_refused(hub: LoopbackHub, open_it: Callable[[], Checkpoint]) -> None:
    hub.faults = [Fault("*", host="hub", status=302, headers={"Location": ""}, times=None)]
    with pytest.raises(UnsupportedCheckpoint, match=r"a redirect that leads nowhere .*check the address"):
        open_it()


def test_a_file_that_is_gone_later_is_unavailable(folder: Path, open_it: Callable[[], Checkpoint]) -> None:
    checkpoint = open_it()
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match="put the file back"):
        checkpoint.read("config.json", 10)
