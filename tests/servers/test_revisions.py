"""Many revisions of one model, as one entry of a list: what is surveyed, in which order, and what it costs."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from huggingface_hub import HfApi

from entrypoint import main
from job.catalogue.families import revisions
from job.catalogue.rows_file import rows_of_parquet
from job.checkpoints.sources.access import Access
from job.checkpoints.sources.open import open_checkpoint
from job.checkpoints.sources.revisions import revisions_of
from job.checkpoints.transport.cooldowns import Cooldowns
from job.checkpoints.transport.retries import RetryPolicy
from job.errors import ConfigError, ModelError, ModelUnavailable, TransientError, UnsupportedCheckpoint
from job.locate import locate
from job.models.references import ModelRef
from job.models.revisions import ModelRevisions
from job.store.folder import FolderStore
from tests.checkpoints import planted, write_checkpoint
from tests.servers.hub_protocol import Json
from tests.servers.loopback_hub import Fault, LoopbackHub

N_STEPS = 12
OF_ONE_W = {0, 3, 5, 6, 8, 9, 11}
"""The steps that serve one and the same file of weights."""
N_ROWS, HIDDEN_SIZE = 100_000, 16
W_NBYTES = N_ROWS * HIDDEN_SIZE * 2
STEPS = [f"step{n}" for n in range(N_STEPS)]
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.01, max_wait=0.05, max_demanded_wait=5.0)

Survey = Callable[..., int]


def write_step(folder: Path, n_holes: int, readme: str, n_rows: int = N_ROWS) -> Path:
    """A checkpoint with so many black holes, and a file by which its commit differs from others with the same W."""
    groups = [[10 * hole, 10 * hole + 1] for hole in range(1, n_holes + 1)]
    write_checkpoint(folder, planted(n_rows, HIDDEN_SIZE, groups))
    (folder / "README.md").write_text(readme)
    return folder


def add_branches(hub: LoopbackHub, models: Path, n_rows: int) -> None:
    """The branches of a training run, of which many serve the same weights; main and a tag are at its end."""
    for n, step in enumerate(STEPS):
        hub.add("org/model", write_step(models / step, 0 if n in OF_ONE_W else n, step, n_rows), branch=step)
    repo = hub.repos["org/model"]
    repo.refs["main"] = repo.tags["v1.0"] = repo.refs[STEPS[-1]]
    repo.pull_requests["refs/pr/1"] = hub.add("org/model", models / "step1", branch="refs/pr/1")
    del repo.refs["refs/pr/1"]


@pytest.fixture
def trained(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """A Hub with a model of many branches, with few rows."""
    add_branches(hub, tmp_path / "models", 200)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def large(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The same with so many rows that W has many more bytes than the headers that are read."""
    add_branches(hub, tmp_path / "models", N_ROWS)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


@pytest.fixture
def survey(tmp_path: Path, output: Path) -> Survey:
    """Runs a verb on a list."""

    def survey(entries: str, *arguments: str) -> int:
        (tmp_path / "list.yaml").write_text(entries)
        return main([*arguments, "--models-file", str(tmp_path / "list.yaml"), "--output", str(output)])

    return survey


ALL = '- {model: org/model, revisions: ["step*", "v*", main], tensor: lm_head.weight, note: a training run}\n'


def manifests_of(output: Path) -> list[dict[str, Any]]:
    """All manifests, in the order of their publication."""
    found = [json.loads(path.read_text()) for path in output.glob("org/model/**/manifest.json")]
    return sorted(found, key=lambda manifest: manifest["sequence"])


def asked(hub: LoopbackHub, begin: str) -> list[str]:
    return [request.path for request in hub.log if request.host == "hub" and request.path.startswith(begin)]


def test_revisions_are_surveyed_oldest_first_and_each_w_is_read_once(
    large: LoopbackHub, survey: Survey, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert survey(ALL) == 0
    commits = large.repos["org/model"].refs
    manifests = manifests_of(output)
    assert [manifest["revision"] for manifest in manifests] == STEPS
    assert [manifest["commit"] for manifest in manifests] == [commits[step] for step in STEPS]
    assert [manifest["revisions"] for manifest in manifests] == [[step] for step in STEPS[:-1]] + [
        [STEPS[-1], "v1.0", "main"]
    ]
    assert {manifest["warnings"][0] for manifest in manifests} == {"a training run"}
    assert {manifest["tensor"]["chosen_by_user"] for manifest in manifests} == {True}
    assert "step11, v1.0, main" in (output / manifests[-1]["pages"]["report"]).read_text()
    # One request for the names, one for each commit.
    assert asked(large, "/api/models/") == ["/api/models/org/model/refs"] + [
        f"/api/models/org/model/revision/{commits[step]}" for step in STEPS
    ]
    read: Counter[str] = Counter()
    for request in large.log:
        if request.host == "cdn" and request.path.endswith(".safetensors"):
            read[request.path] += request.nbytes
    assert len(read) == N_STEPS - len(OF_ONE_W) + 1
    assert all(W_NBYTES < nbytes < 1.5 * W_NBYTES for nbytes in read.values()), "besides W, headers alone are read"
    keys = Counter(manifest["artifacts"]["W"]["key"] for manifest in manifests)
    assert sorted(keys.values()) == [1] * (N_STEPS - len(OF_ONE_W)) + [len(OF_ONE_W)]
    assert f"{len(read)} surveyed" in capsys.readouterr().out


def test_each_revision_is_compared_with_the_one_before_it(trained: LoopbackHub, survey: Survey, output: Path) -> None:
    assert survey('- {model: org/model, revisions: ["step*"]}\n') == 0
    commits = trained.repos["org/model"].refs
    manifests = manifests_of(output)
    assert manifests[0]["previous"] is None
    assert [manifest["previous"]["commit"] for manifest in manifests[1:]] == [commits[step] for step in STEPS[:-1]]
    n_holes = [0 if n in OF_ONE_W else n for n in range(N_STEPS)]
    assert [manifest["previous"]["black_holes"] for manifest in manifests[1:]] == n_holes[:-1]
    latest = json.loads((output / "org/model/latest.json").read_text())
    assert latest["commit"] == commits[STEPS[-1]]
    indexed = rows_of_parquet((output / "surveys.parquet").read_bytes(), "surveys.parquet")
    assert indexed is not None
    (timeline,) = revisions(indexed.rows)
    assert [indexed.rows[place].revision for place in timeline] == STEPS


def test_the_manifests_that_a_new_revision_needs_are_read_several_at_once(
    trained: LoopbackHub, survey: Survey, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert survey("- {model: org/model, revisions: ['step*']}\n") == 0
    trained.add("org/model", write_step(tmp_path / "models" / "next", 15, "next", 200), branch="next")
    at_once, read = Barrier(N_STEPS // 2), FolderStore.read

    def read_together(store: FolderStore, key: str) -> bytes | None:
        if key.endswith("/manifest.json"):
            at_once.wait(timeout=60)
        return read(store, key)

    monkeypatch.setattr(FolderStore, "read", read_together)
    located = locate(ModelRef("hub", "org/model", "next"), access_to(trained), FolderStore(output), frozenset({"W"}))
    assert located.published.last_sequence == N_STEPS
    previous = located.published.previous_survey
    assert previous is not None
    assert previous["revision"] == STEPS[-1]


def test_published_revisions_cost_a_request_each_and_one_for_their_names(
    large: LoopbackHub, survey: Survey, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert survey(ALL) == 0
    before = {path: path.read_bytes() for path in (output / "org").rglob("*") if path.is_file()}
    large.log.clear()
    large.repos["org/model"].tags["v2.0"] = large.repos["org/model"].refs["step3"]
    assert survey(ALL) == 0
    assert len(large.log) == 1 + N_STEPS
    assert {path: path.read_bytes() for path in (output / "org").rglob("*") if path.is_file()} == before
    large.add("org/model", write_step(tmp_path / "models" / "next", 20, "next"), branch="step12")
    large.log.clear()
    capsys.readouterr()
    assert survey(ALL) == 0
    summary = capsys.readouterr().out
    assert "1 surveyed" in summary
    assert "12 already published" in summary
    assert W_NBYTES < large.weight_bytes_sent < 1.5 * W_NBYTES
    before_it, newest = manifests_of(output)[-2:]
    assert (newest["revision"], newest["previous"]["commit"]) == ("step12", before_it["commit"])


def test_a_plan_lists_revisions_in_their_order_and_writes_nothing(
    trained: LoopbackHub, survey: Survey, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert survey(ALL, "plan", "--format", "json") == 0
    planned = json.loads(capsys.readouterr().out)["models"]
    assert [model["model"] for model in planned] == [f"org/model@{step}" for step in STEPS]
    assert {model["status"] for model in planned} == {"to survey"}
    assert len(asked(trained, "/api/models/org/model/refs")) == 1
    assert not output.exists()


def test_a_run_of_workers_pins_the_revisions_once_and_gives_them_to_one_worker(
    trained: LoopbackHub, survey: Survey, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN", "nightly")
    monkeypatch.setenv("JOB_COMPLETIONS", "2")
    for index in range(2):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert survey(ALL) == 0
        trained.repos["org/model"].refs["step1"] = trained.repos["org/model"].refs["step2"]
    plan = json.loads((output / "runs/nightly/plan.json").read_text())["models"]
    assert [entry["ref"]["revisions"] for entry in plan][-2:] == [["step10"], ["step11", "v1.0", "main"]]
    assert len({entry["worker"] for entry in plan}) == 1
    assert [manifest["revision"] for manifest in manifests_of(output)] == STEPS
    assert len(asked(trained, "/api/models/org/model/refs")) == 1


def test_the_hubs_own_client_lists_the_same_revisions(trained: LoopbackHub) -> None:
    refs = HfApi(trained.endpoint, token=False).list_repo_refs("org/model", include_pull_requests=True)
    assert {ref.name for ref in refs.branches} == {*STEPS, "main"}
    assert [(ref.name, ref.ref) for ref in refs.tags] == [("v1.0", "refs/tags/v1.0")]
    assert [ref.ref for ref in refs.pull_requests or []] == ["refs/pr/1"]
    listed = {ref.name: ref.target_commit for ref in refs.branches + refs.tags}
    found = resolved(trained, "*")
    assert {name: ref.commit for ref in found for name in ref.revisions} == listed


def resolved(hub: LoopbackHub, *patterns: str, model: str = "org/model", token: str | None = None) -> list[ModelRef]:
    return revisions_of(ModelRevisions(ModelRef("hub", model), patterns), access_to(hub, token))


def access_to(hub: LoopbackHub, token: str | None = None) -> Access:
    return Access(hub.endpoint, token, 2.0, Cooldowns(), retry_policy=IMPATIENT)


def test_pull_requests_are_asked_for_only_if_a_pattern_is_for_them(trained: LoopbackHub) -> None:
    resolved(trained, "*", "refs/pr/1")
    assert [request.query for request in trained.log] == [{}]
    (ref,) = resolved(trained, "refs/pr/*")
    assert (ref.revision, ref.commit) == ("refs/pr/1", trained.repos["org/model"].pull_requests["refs/pr/1"])
    assert trained.log[-1].query == {"include_prs": "1"}


def test_what_does_not_exist_fails_by_itself_and_says_so(
    trained: LoopbackHub, survey: Survey, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = "- {model: org/model, revisions: [step1, 'release-*', gone, refs/pr/1]}\n"
    assert survey(entries) == 65
    summary = " ".join(capsys.readouterr().out.split())
    assert "ModelUnavailable org/model@release-*: found the revisions main, step0, step1" in summary
    assert "expected one or more that match release-*; correct 'revisions'" in summary
    assert "org/model@gone: no such revision" in summary
    assert [manifest["revision"] for manifest in manifests_of(output)] == ["step1", "refs/pr/1"]
    commit = trained.repos["org/model"].refs["step1"]
    assert survey(f"- {{model: org/model, revisions: ['{commit}', step1]}}\n") == 0


MISSING = Fault("/api/models/org/model*", "hub", status=404, headers={"X-Error-Code": "RepoNotFound"}, times=None)
GATED = Fault("*/refs", "hub", status=403, headers={"X-Error-Code": "GatedRepo"}, times=None)
NO_SUCH_PAGE = Fault("*/refs", "hub", status=404, times=None)
NOT_A_HUBS = Fault("*/refs", "hub", status=200, body=b'{"branches": 7}', times=None)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (MISSING, ModelUnavailable, "org/model: no such repository"),
        (GATED, ModelUnavailable, "org/model: a gated model"),
        (NO_SUCH_PAGE, ModelUnavailable, "org/model: found status 404 without a token"),
        (NOT_A_HUBS, UnsupportedCheckpoint, "org/model: the answer is not a Hub's .*expected its branches and tags"),
    ],
    ids=["missing", "gated", "no-such-page", "not-a-hubs"],
)
def test_a_model_whose_revisions_cannot_be_listed_is_refused_with_the_servers_reason(
    trained: LoopbackHub, fault: Fault, error: type[ModelError], message: str
) -> None:
    trained.faults = [Fault(**vars(fault))]
    (ref,) = resolved(trained, "step*")
    with pytest.raises(error, match=message):
        open_checkpoint(ref, access_to(trained))


def test_a_model_whose_revisions_cannot_be_listed_fails_alone(
    trained: LoopbackHub, survey: Survey, output: Path, tmp_path: Path
) -> None:
    trained.add("org/other", tmp_path / "models" / "step1")
    trained.faults = [Fault(**vars(GATED))]
    assert survey("- {model: org/model, revisions: ['step*']}\n- org/other\n") == 65
    assert (output / "org/other/latest.json").exists()
    assert manifests_of(output) == [], "no revision that was not asked for is surveyed"


def test_revisions_that_are_named_need_no_list_of_them(trained: LoopbackHub) -> None:
    trained.faults = [Fault(**vars(NO_SUCH_PAGE))]
    refs = resolved(trained, "step2", "step1")
    commits = trained.repos["org/model"].refs
    opened = [open_checkpoint(ref, access_to(trained)) for ref in refs]
    assert [checkpoint.commit for checkpoint in opened] == [commits["step2"], commits["step1"]]


def test_a_pattern_that_is_matched_only_later_is_to_be_tried_again(trained: LoopbackHub) -> None:
    (ref,) = resolved(trained, "release-*")
    trained.repos["org/model"].tags["release-1"] = trained.repos["org/model"].refs["main"]
    with pytest.raises(TransientError, match="finds one now; run again"):
        open_checkpoint(ref, access_to(trained))


def test_trouble_that_passes_is_waited_out_and_trouble_that_stays_is_transient(trained: LoopbackHub) -> None:
    trained.faults = [Fault("*/refs", "hub", status=503, times=2)]
    assert len(resolved(trained, "step*")) == N_STEPS
    trained.faults = [Fault("*/refs", "hub", status=503, times=None)]
    with pytest.raises(TransientError, match="status 503"):
        resolved(trained, "step*")
    trained.faults = []
    with pytest.raises(ConfigError, match="refuses HF_TOKEN") as refusal:
        resolved(trained, "step*", token="hf_wrong")
    assert "hf_wrong" not in str(refusal.value)


ODD: list[dict[str, Json]] = [
    {"name": "step1 \u202e<script>", "ref": "refs/heads/x", "targetCommit": "1" * 40},
    {"name": "step\x00", "ref": "refs/heads/x", "targetCommit": "1" * 40},
    {"name": "step" + "1" * 10_000, "ref": "refs/heads/x", "targetCommit": "1" * 40},
    {"name": "step1", "ref": "refs/heads/step1", "targetCommit": "../../other"},
    {"name": "step1", "ref": "refs/heads/step1", "targetCommit": None},
    {"name": ["step1"], "ref": "refs/heads/step1", "targetCommit": "1" * 40},
]


def test_odd_names_and_commits_are_passed_over_with_a_warning(
    trained: LoopbackHub, caplog: pytest.LogCaptureFixture
) -> None:
    good: dict[str, Json] = {"name": "step7", "ref": "refs/heads/step7", "targetCommit": "7" * 40}
    body = json.dumps({"branches": [*ODD, good], "tags": [], "converts": []}).encode()
    trained.faults = [Fault("*/refs", "hub", status=200, body=body, times=None)]
    assert [(ref.revision, ref.commit) for ref in resolved(trained, "step*")] == [("step7", "7" * 40)]
    assert len([message for message in caplog.messages if "cannot be read" in message]) == len(ODD)


def test_patterns_for_too_many_commits_are_refused_with_what_to_do(trained: LoopbackHub) -> None:
    branches = [{"name": f"s{n}", "ref": f"refs/heads/s{n}", "targetCommit": f"{n:040x}"} for n in range(1_001)]
    body = json.dumps({"branches": branches, "tags": []}).encode()
    trained.faults = [Fault("*/refs", "hub", status=200, body=body, times=None)]
    with pytest.raises(ConfigError, match=r"stands for 1,001 commits, expected at most 1,000; narrow the patterns"):
        resolved(trained, "s*")


def test_the_hubs_cache_knows_the_revisions_that_were_downloaded(
    trained: LoopbackHub, survey: Survey, output: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "hub"
    for step in ("step10", "step2"):
        HfApi(trained.endpoint, token=False).snapshot_download("org/model", revision=step, cache_dir=cache)
    trained.log.clear()
    assert survey(f"- {{model: {cache}/models--org--model, revisions: ['step*']}}\n") == 0
    assert [manifest["revisions"] for manifest in manifests_of(output)] == [["step2"], ["step10"]]
    assert survey(f"- {{model: {cache}/models--org--model, revisions: ['v*']}}\n") == 65
    assert trained.log == []
