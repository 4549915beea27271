"""Queries asked of a Hub on this machine: what they find, whatever goes wrong, and what a run makes of it."""

import json
import logging
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from entrypoint import main
from job.checkpoints.sources.access import Access
from job.checkpoints.sources.hub_queries import DEFAULT_LIMITS, QueryLimits, find_models
from job.checkpoints.sources.revisions import revisions_of
from job.checkpoints.transport.cooldowns import Cooldowns
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import ConfigError, TransientError
from job.models.lists import parse_entry
from job.models.queries import Entry
from job.models.references import ModelRef
from job.models.resolve import resolve
from tests.checkpoints import planted, write_checkpoint
from tests.servers.hub_protocol import Json
from tests.servers.loopback_hub import Fault, LoopbackHub

TODAY = date(2026, 6, 30)
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=5.0)
N_MODELS = 40

Find = Callable[..., list[str]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A checkpoint that can be surveyed."""
    return write_checkpoint(tmp_path / "models" / "tiny", planted(300, 16, [[1, 2]]), n_tokens=300)


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "headless"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaModel"], "model_type": "llama"}))
    save_file({"model.norm.weight": torch.zeros(16)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def stocked(hub: LoopbackHub, tiny: Path) -> LoopbackHub:
    """A Hub with forty models of June by two authors, listed in pages of seven: model 1 was released on the 1st, and so
    on; the later ones are downloaded less and trend more."""
    hub.page_length = 7
    for n in range(1, N_MODELS + 1):
        author = "even" if n % 2 == 0 else "odd"
        about: dict[str, Json] = {
            "createdAt": f"2026-{6 if n <= 30 else 7:02}-{n if n <= 30 else n - 30:02}T12:00:00.000Z",
            "downloads": 1000 - n,
            "trendingScore": n,
            "pipeline_tag": "text-generation" if n % 4 == 0 else "fill-mask",
        }
        hub.add(f"{author}/model-{n}{'-GGUF' if n % 10 == 0 else ''}", tiny, about=about)
    return hub


@pytest.fixture
def find(stocked: LoopbackHub) -> Find:
    """The numbers of the models that entries resolve to."""

    def find(*entries: str, **settings: Any) -> list[str]:
        return [re.sub(r"\D+", "", ref.location) for ref in resolved(stocked, *entries, **settings)]

    return find


def resolved(
    hub: LoopbackHub, *entries: str, limits: QueryLimits = DEFAULT_LIMITS, hf_token: str | None = None
) -> list[ModelRef]:
    access = Access(hub.endpoint, hf_token, 2.0, Cooldowns(), retry_policy=IMPATIENT)
    parsed: list[Entry] = [parse_entry(entry, "test") for entry in entries]
    return resolve(
        parsed, lambda query: find_models(query, access, TODAY, limits), lambda entry: revisions_of(entry, access)
    )


def numbers(first: int, last: int, step: int = 1) -> list[str]:
    return [str(n) for n in range(first, last + (1 if step > 0 else -1), step)]


FOUND = {
    "author": ("hub?author=even", numbers(40, 2, -2)),
    "author-in-capitals": ("hub?author=EVEN&name=MODEL-1", ["18", "16", "14", "12", "10"]),
    "name": ("hub?name=model-3", [*numbers(39, 30, -1), "3"]),
    "name-of-an-author": ("hub?name=odd", []),
    "task": ("hub?task=text-generation", numbers(40, 4, -4)),
    "newest": ("hub?limit=9", numbers(40, 32, -1)),
    "most-downloaded": ("hub?sort=downloads&limit=9", numbers(1, 9)),
    "trending": ("hub?sort=trending&limit=3", ["40", "39", "38"]),
    "since": ("hub?since=2026-06-20", numbers(40, 20, -1)),
    "since-days": ("hub?since=3d", numbers(40, 27, -1)),
    "since-with-limit": ("hub?since=2026-06-20&limit=8", numbers(40, 33, -1)),
    "most-downloaded-since": ("hub?since=2026-06-20&sort=downloads&limit=5", numbers(20, 24)),
    "trending-since": ("hub?author=odd&since=2026-06-20&sort=trending&limit=2", ["39", "37"]),
    "excluded-by-name": (
        "hub?author=even&exclude=*-gguf&exclude=model-3?",
        ["28", "26", "24", "22", "18", "16", "14", "12", "8", "6", "4", "2"],
    ),
    "excluded-by-owner": ("hub?limit=3&exclude=Even/*", ["39", "37", "35"]),
    "limit-after-exclusions": ("hub?limit=12&exclude=*-GGUF", [n for n in numbers(39, 27, -1) if n != "30"]),
}


@pytest.mark.parametrize(("query", "found"), FOUND.values(), ids=FOUND)
def test_a_query_finds_what_it_asks_for_in_its_order(find: Find, query: str, found: list[str]) -> None:
    assert find(query) == found


def test_what_is_found_is_pinned_and_says_what_found_it(stocked: LoopbackHub) -> None:
    (ref,) = resolved(stocked, "hub?author=even&limit=1&follow_base=true")
    commit = stocked.repos["even/model-40-GGUF"].refs["main"]
    query = "hub?author=even&limit=1&follow_base=true"
    assert ref == ModelRef("hub", "even/model-40-GGUF", commit=commit, found_by=query, follow_base=True)


def test_no_more_pages_are_asked_for_than_it_takes(stocked: LoopbackHub, find: Find) -> None:
    find("hub?limit=14")
    assert len(stocked.log) == 2
    stocked.log.clear()
    find("hub?since=2026-06-29")
    assert len(stocked.log) == 2  # seven, then five and the first that is too old


def test_the_hubs_own_client_lists_the_same(stocked: LoopbackHub, find: Find) -> None:
    listed = HfApi(stocked.endpoint, token=False).list_models(author="odd", sort="downloads", expand=["sha"])
    assert [re.sub(r"\D+", "", model.id) for model in listed] == find("hub?author=odd&sort=downloads")


def test_a_model_that_the_list_names_is_surveyed_as_named_and_each_model_once(stocked: LoopbackHub) -> None:
    entries = ["hub?author=even&limit=3", "EVEN/model-38@v1", "hub?limit=4", "other/model"]
    refs = resolved(stocked, *entries)
    names = ["even/model-40-GGUF", "even/model-36", "EVEN/model-38@v1", "odd/model-39", "odd/model-37", "other/model"]
    assert [str(ref) for ref in refs] == names
    assert [ref.found_by for ref in refs] == [entries[0], entries[0], None, entries[2], entries[2], None]
    assert refs[2] == ModelRef("hub", "EVEN/model-38", "v1")


def test_a_list_without_queries_is_not_asked_about(stocked: LoopbackHub, find: Find) -> None:
    assert find("odd/model-1", "odd/model-3") == ["1", "3"]
    assert stocked.log == []


FAULTS = {
    "503": Fault("/api/models", host="hub", status=503),
    "429": Fault("/api/models", host="hub", status=429, headers={"Retry-After": "1"}),
    "cut": Fault("/api/models", host="hub", ending="cut", nbytes=500),
    "reset": Fault("/api/models", host="hub", ending="reset", nbytes=500),
    "silent": Fault("/api/models", host="hub", ending="silent"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_on_a_page_loses_and_doubles_nothing(stocked: LoopbackHub, find: Find, fault: Fault) -> None:
    n_pages = 6
    stocked.faults = [
        Fault("/api/models", host="hub", times=3),
        Fault(**vars(fault)),
    ]  # three pages come as they should
    assert find("hub?name=model") == numbers(N_MODELS, 1, -1)
    asked = [request.query.get("cursor") for request in stocked.log]
    assert len(asked) == n_pages + 1
    assert asked[3] == asked[4], "only the page that failed is asked for again"
    if "Retry-After" in fault.headers:
        assert stocked.log[4].at - stocked.log[3].at >= 1


def test_a_hub_that_wants_to_be_left_alone_for_long_is_left_alone(stocked: LoopbackHub, find: Find) -> None:
    stocked.faults = [Fault("/api/models", host="hub", status=429, headers={"Retry-After": "3600"}, times=None)]
    with pytest.raises(TransientError, match=r"hub\?author=odd at http://.*: status 429.*3,600 s"):
        find("hub?author=odd")
    assert len(stocked.log) == 1


def test_a_release_between_two_pages_is_not_missed_in_the_rest(stocked: LoopbackHub, find: Find, tiny: Path) -> None:
    def release() -> None:
        stocked.add("odd/model-99", tiny, about={"createdAt": "2026-08-01T00:00:00.000Z"})

    stocked.faults = [Fault("/api/models", host="hub", times=3), Fault("/api/models", host="hub", meanwhile=release)]
    assert find("hub?name=model") == numbers(N_MODELS, 1, -1)


def test_a_model_whose_downloads_fall_between_two_pages_is_found_once(stocked: LoopbackHub, find: Find) -> None:
    fall = Fault("/api/models", "hub", meanwhile=lambda: stocked.repos["odd/model-1"].about.update(downloads=980))
    stocked.faults = [Fault("/api/models", host="hub"), fall]
    assert find("hub?sort=downloads&limit=30") == numbers(1, 30)


def test_a_model_whose_downloads_rise_between_two_pages_is_not_missed(stocked: LoopbackHub, find: Find) -> None:
    rise = Fault("/api/models", "hub", meanwhile=lambda: stocked.repos["odd/model-39"].about.update(downloads=5000))
    stocked.faults = [Fault("/api/models", host="hub"), rise]
    assert sorted(find("hub?name=model&sort=downloads"), key=int) == numbers(1, N_MODELS)


def test_a_list_that_leads_back_to_its_beginning_ends(stocked: LoopbackHub, find: Find) -> None:
    again = {"Link": f'<{stocked.endpoint}/api/models?limit=7>; rel="next"'}
    stocked.faults = [Fault("/api/models", host="hub", headers=again, times=None)]
    with pytest.raises(ConfigError, match="found two pages in a row without a new model"):
        find("hub?name=model")


def test_a_last_page_whose_models_have_been_listed_is_no_fault(stocked: LoopbackHub, find: Find) -> None:
    def change_places() -> None:
        stocked.repos["even/model-40-GGUF"].about.update(downloads=5000)
        stocked.repos["even/model-38"].about.update(downloads=1)

    stocked.page_length = 39
    stocked.faults = [Fault("/api/models", "hub"), Fault("/api/models", "hub", meanwhile=change_places)]
    assert find("hub?sort=downloads&limit=40") == numbers(1, 39)


def test_the_token_reaches_the_hub_alone_wherever_pages_lead(stocked: LoopbackHub, find: Find) -> None:
    stocked.tokens["hf_secret"] = set()
    stocked.next_page = stocked.cdn
    assert find("hub?author=odd", hf_token="hf_secret") == numbers(39, 1, -2)
    assert {(request.host, request.token) for request in stocked.log} == {("hub", "hf_secret")}
    stocked.log.clear()
    to_cdn = {"Location": f"{stocked.cdn}/api/models"}
    stocked.faults = [Fault("/api/models", host="hub", status=307, headers=to_cdn, times=None)]
    with pytest.raises(ConfigError):
        find("hub?author=odd", hf_token="hf_secret")
    assert {(request.host, request.token) for request in stocked.log} == {("hub", "hf_secret"), ("cdn", None)}


def test_a_refused_token_is_named_and_not_shown(find: Find) -> None:
    with pytest.raises(ConfigError, match=r"hub\?author=odd at .* refuses HF_TOKEN .* unset it") as refusal:
        find("hub?author=odd", hf_token="hf_wrong")
    assert "hf_wrong" not in str(refusal.value)


NOT_A_HUB = {
    "no-list": b"{}",
    "no-json": b"<html>",
    "no-models": b"[1]",
    "no-date": b'[{"id": "a/b"}]',
    "null-id": b'[{"id": null, "createdAt": "2026-01-01T00:00:00.000Z"}]',
    "number-as-sha": b'[{"id": "a/b", "sha": 1, "createdAt": "2026-01-01T00:00:00.000Z"}]',
    "number-as-date": b'[{"id": "a/b", "createdAt": 1}]',
    "not-a-number": b'[{"id": "a/b", "createdAt": "2026-01-01T00:00:00.000Z", "trendingScore": NaN}]',
    "list-as-task": b'[{"id": "a/b", "createdAt": "2026-01-01T00:00:00.000Z", "pipeline_tag": []}]',
    "null-model": b"[null]",
    "deep": b"[" * 100_000,
    "no-number": b'[{"id": "a/b", "createdAt": "2026-01-01T00:00:00.000Z", "downloads": "many"}]',
}


@pytest.mark.parametrize("body", NOT_A_HUB.values(), ids=NOT_A_HUB)
def test_an_answer_that_is_not_a_hubs_is_a_config_error(stocked: LoopbackHub, find: Find, body: bytes) -> None:
    stocked.faults = [Fault("/api/models", host="hub", status=200, body=body, times=None)]
    with pytest.raises(ConfigError, match=r"hub\?limit=1 at .*not a Hub's .*HF_ENDPOINT"):
        find("hub?limit=1")


PASSING = {
    "401": Fault("/api/*", host="hub", status=401),
    "403": Fault("/api/*", host="hub", status=403),
    "404": Fault("/api/*", host="hub", status=404),
    "400": Fault("/api/*", host="hub", status=400),
    "page-of-a-proxy": Fault("/api/*", host="hub", status=200, body=b"<html>"),
    "half-a-page": Fault("/api/*", host="hub", status=200, body=b'[{"id": "a/b", "creat'),
    "redirect-without-a-location": Fault("/api/*", host="hub", status=302),
    "redirect-to-itself": Fault("/api/*", host="hub", status=302, headers={"Location": ""}, times=21),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("query", ["hub?author=odd", "hub?collection=org/mine-1"])
def test_one_odd_answer_does_not_end_a_query(stocked: LoopbackHub, find: Find, query: str, fault: Fault) -> None:
    stocked.collections["org/mine-1"] = [("model", f"odd/model-{n}") for n in range(39, 0, -2)]
    stocked.faults = [Fault(**vars(fault))]
    assert find(query) == numbers(39, 1, -2)
    assert stocked.faults[0].times == 0, "the fault was not met"


@pytest.mark.parametrize("about", [{"createdAt": None}, {"id": None}, {"sha": 7}, {"downloads": "many"}])
def test_an_odd_entry_of_a_page_is_passed_over_with_a_warning(
    stocked: LoopbackHub, find: Find, about: dict[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    stocked.repos["odd/model-3"].about.update(about)
    assert find("hub?author=odd&sort=downloads") == [n for n in numbers(1, 39, 2) if n != "3"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "hub?author=odd&sort=downloads: item" in warning
    assert "cannot be read" in warning


def test_a_hub_that_redirects_for_ever_is_a_config_error(stocked: LoopbackHub, find: Find) -> None:
    stocked.faults = [Fault("*", host="hub", status=302, headers={"Location": "/api/models"}, times=None)]
    with pytest.raises(ConfigError, match=r"a redirect that leads nowhere .*check HF_ENDPOINT"):
        find("hub?author=odd")


def test_a_query_that_finds_too_much_is_refused_with_what_to_do(find: Find) -> None:
    with pytest.raises(ConfigError, match=r"hub\?author=odd: finds more than 19 models, .* give a limit"):
        find("hub?author=odd", limits=QueryLimits(matches=19))
    assert len(find("hub?author=odd", limits=QueryLimits(matches=20))) == 20
    assert len(find("hub?limit=25", limits=QueryLimits(listed=25))) == 25
    with pytest.raises(ConfigError, match=r"the Hub lists more than 25 models, .* narrow the query"):
        find("hub?since=2026-06-02&sort=downloads&limit=30", limits=QueryLimits(listed=25))


def test_where_the_newest_are_too_many_the_first_of_them_are_found_in_the_querys_own_order(find: Find) -> None:
    query = "hub?since=2026-06-02&sort=downloads&limit=5"
    assert find(query, limits=QueryLimits(listed=25)) == find(query) == numbers(2, 6)
    few = "hub?since=2026-06-28&sort=downloads&limit=5"
    assert find(few, limits=QueryLimits(listed=25)) == ["28", "29", "30", "31", "32"]


def test_a_query_that_finds_nothing_is_a_warning(stocked: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "job"):
        assert [str(ref) for ref in resolved(stocked, "hub?author=nobody", "a/b")] == ["a/b"]
    assert ("WARNING", "hub?author=nobody: finds no model") in [(r.levelname, r.getMessage()) for r in caplog.records]


COLLECTED = {
    "all": ("hub?collection=org/mine-1", ["7", "4", "40", "30", "1"]),
    "author": ("hub?collection=org/mine-1&author=odd", ["7", "1"]),
    "excluded": ("hub?collection=org/mine-1&exclude=*-GGUF", ["7", "4", "1"]),
    "limit": ("hub?collection=org/mine-1&limit=2", ["7", "4"]),
    "newest": ("hub?collection=org/mine-1&sort=created&limit=2", ["40", "30"]),
    "since": ("hub?collection=org/mine-1&since=2026-06-05", ["7", "40", "30"]),
    "task": ("hub?collection=org/mine-1&task=text-generation", ["4", "40"]),
}


@pytest.mark.parametrize(("query", "found"), COLLECTED.values(), ids=COLLECTED)
def test_a_collection_holds_its_models_in_its_order(
    stocked: LoopbackHub, find: Find, query: str, found: list[str]
) -> None:
    names = ["odd/model-7", "even/model-4", "even/model-40-GGUF", "even/model-30-GGUF", "odd/model-1"]
    stocked.collections["org/mine-1"] = [("model", name) for name in names]
    stocked.collections["org/mine-1"][2:2] = [("dataset", "odd/model-9"), ("paper", "2307.09288"), ("model", names[0])]
    assert find(query) == found


def test_the_models_of_a_collection_are_pinned_but_for_those_that_are_gone(stocked: LoopbackHub) -> None:
    stocked.collections["org/mine-1"] = [("model", "org/gone"), ("model", "odd/model-1")]
    stocked.faults = [Fault("/api/*", host="hub", status=503, times=2)]
    commits = {ref.location: ref.commit for ref in resolved(stocked, "hub?collection=org/mine-1")}
    assert commits == {"odd/model-1": stocked.repos["odd/model-1"].refs["main"], "org/gone": None}


@pytest.mark.parametrize("about", [{"sha": 7}, {"createdAt": None}, {"id": None}, {"downloads": "many"}])
def test_an_odd_answer_about_a_model_of_a_collection_ends_no_query(
    stocked: LoopbackHub, about: dict[str, Json]
) -> None:
    stocked.collections["org/mine-1"] = [("model", "odd/model-3"), ("model", "odd/model-1")]
    stocked.repos["odd/model-3"].about.update(about)
    commits = {ref.location: ref.commit for ref in resolved(stocked, "hub?collection=org/mine-1")}
    assert commits == {"odd/model-1": stocked.repos["odd/model-1"].refs["main"], "odd/model-3": None}


@pytest.mark.parametrize("items", [b'[{"type": "model", "id": null}]', b"null", b'[{"id": "a/b"}]', b"[1]"])
def test_an_odd_collection_is_a_config_error(stocked: LoopbackHub, find: Find, items: bytes) -> None:
    body = b'{"items": ' + items + b"}"
    stocked.faults = [Fault("/api/collections/*", host="hub", status=200, body=body, times=None)]
    with pytest.raises(ConfigError, match=r"not a Hub's .*HF_ENDPOINT"):
        find("hub?collection=org/mine-1")


def test_a_collection_that_does_not_exist_is_a_config_error(find: Find) -> None:
    with pytest.raises(
        ConfigError, match=r"hub\?collection=org/none at .*status 404.*check the query's names.*HF_TOKEN"
    ):
        find("hub?collection=org/none")


@pytest.fixture
def family(
    hub: LoopbackHub, tiny: Path, headless: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> LoopbackHub:
    """A Hub with an author's models, of which one is gated, one disabled, one has no head, and one vanishes once it has
    been listed; and a job that publishes to ``out``."""
    hub.add("org/good", write_checkpoint(tmp_path / "models" / "good", planted(100_000, 16, []), n_tokens=300))
    hub.add("org/gated", tiny, access="gated")
    hub.add("org/disabled", tiny, access="disabled")
    hub.add("org/headless", headless)
    hub.add("org/vanished", tiny)
    hub.faults = [
        Fault("/api/models/org/vanished*", "hub", status=404, headers={"X-Error-Code": "RepoNotFound"}, times=None)
    ]
    for name, value in {"HF_ENDPOINT": hub.endpoint, "OUTPUT": str(tmp_path / "out"), "SCRATCH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return hub


HEADERS_NBYTES = 250_000
"""More than is read of two weight files to find their headers, and less than any W that is to be surveyed."""


UNUSABLE = {"gated": "ModelUnavailable", "disabled": "ModelUnavailable", "headless": "NoUnembedding"}
UNUSABLE |= {"vanished": "ModelUnavailable"}


@pytest.mark.usefixtures("family")
def test_what_a_query_finds_and_cannot_be_surveyed_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub?author=org"]) == 0
    summary = capsys.readouterr().out
    for name, kind in UNUSABLE.items():
        assert re.search(rf"^Passed over  {kind}  org/{name}: http://.*/org/{name}", summary, re.MULTILINE)
    assert "4 passed over" in summary
    assert "1 surveyed" in summary
    assert [path.parent.name for path in (tmp_path / "out").rglob("latest.json")] == ["good"]


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_the_list_names_and_cannot_be_surveyed_fails(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hub?author=org", f"org/{name}"]) == 65
    assert "1 failed" in capsys.readouterr().out


def test_a_failure_that_may_pass_is_a_failure_also_of_what_a_query_found(family: LoopbackHub) -> None:
    family.faults.insert(0, Fault("/org/good/*", "hub", status=429, headers={"Retry-After": "100000"}, times=None))
    assert main(["hub?author=org"]) == 75


@pytest.mark.usefixtures("family")
def test_a_plan_passes_over_what_the_run_will(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "hub?author=org", "--format", "json"]) == 0
    planned = json.loads(capsys.readouterr().out)["models"]
    statuses = {model["model"]: (model["status"], model["error"] and model["error"]["kind"]) for model in planned}
    expected = {f"org/{name}": ("passed over", kind) for name, kind in UNUSABLE.items()}
    assert statuses == expected | {"org/good": ("to survey", None)}
    assert main(["plan", "hub?author=org", "org/gated"]) == 65
    table = capsys.readouterr().out
    assert "3 passed over" in table
    assert "1 fails" in table
    assert re.search(r"^Passed over  NoUnembedding  org/headless: ", table, re.MULTILINE)
    assert not (tmp_path / "out").exists()


def test_a_run_whose_queries_find_nothing_ends_with_0_and_says_so(
    family: LoopbackHub, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["hub?author=nobody"]) == 0
    assert "the list's queries find no model" in caplog.text
    assert main(["plan", "hub?author=nobody", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == []
    assert main(["plan", "hub?author=nobody"]) == 0
    assert "no models" in capsys.readouterr().out
    assert {request.path for request in family.log} == {"/api/models"}


def test_the_next_run_reads_no_tensor_and_after_a_release_that_ones_alone(
    family: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub?author=org"]) == 0
    family.log.clear()
    assert main(["hub?author=org"]) == 0
    assert family.weight_bytes_sent < HEADERS_NBYTES
    released = write_checkpoint(tmp_path / "models" / "new", planted(200_000, 16, []), n_tokens=300)
    family.add("org/new", released)
    family.log.clear()
    capsys.readouterr()
    assert main(["hub?author=org"]) == 0
    n_bytes = 200_000 * 16 * 2
    assert n_bytes <= family.weight_bytes_sent < n_bytes + HEADERS_NBYTES
    summary = capsys.readouterr().out
    assert "1 surveyed" in summary
    assert "1 already published" in summary


def test_what_was_pinned_is_surveyed_though_its_branch_moves_on(
    family: LoopbackHub, tiny: Path, tmp_path: Path
) -> None:
    pinned = family.repos["org/good"].refs["main"]
    family.faults.insert(0, Fault("/api/models/*", "hub", meanwhile=lambda: family.add("org/good", tiny)))
    assert main(["hub?author=org"]) == 0
    assert family.repos["org/good"].refs["main"] != pinned
    assert json.loads((tmp_path / "out/org/good/latest.json").read_text())["commit"] == pinned
