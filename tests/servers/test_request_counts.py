"""How many requests a model costs its Hub and its store, as they count them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from entrypoint import main
from job import __version__
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.meddling_store import Asked, meddling_store
from tests.servers.seaweed import SeaweedServer

GROUPS = [[3, 9, 21], [10, 11]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "models" / "model", planted(40, 8, GROUPS), n_tokens=40)


@pytest.fixture
def served(hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The Hub, with the model as org/model."""
    hub.add("org/model", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


def requests_of(hub: LoopbackHub, *arguments: str) -> list[str]:
    """What a run that succeeds asks the Hub and its CDN for."""
    hub.log.clear()
    assert main([*arguments]) == 0
    return [f"{request.method} {request.path}" for request in hub.log]


def manifest_in(output: Path, name: str = "org/model") -> Any:
    return json.loads((output / name / "latest.json").read_text())


def contents(output: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file, and when it was written, but for what each run writes anew: what came of it, and the page of all
    surveys, which shows that."""
    paths = [path for path in output.rglob("*") if path.is_file() and output / "runs" not in path.parents]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths if path != output / "index.html"}


@pytest.mark.parametrize("verb", ["survey", "plan"])
def test_a_published_commit_costs_one_request_and_nothing_is_written(
    served: LoopbackHub, output: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["org/model", "--output", str(output)]) == 0
    before = contents(output)
    assert requests_of(served, verb, "org/model", "--output", str(output)) == ["GET /api/models/org/model"]
    assert requests_of(served, verb, "org/model", "--output", str(output), "--tensors", "mu") == [
        "GET /api/models/org/model"
    ]
    assert "1 already published" in capsys.readouterr().out
    assert contents(output) == before


def test_a_plan_says_of_a_published_model_what_it_said_before(
    served: LoopbackHub, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def need() -> dict[str, Any]:
        capsys.readouterr()
        assert main(["plan", "org/model", "--output", str(output), "--format", "json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["models"][0]["need"]
        return found

    before = need()
    assert main(["org/model", "--output", str(output)]) == 0
    served.log.clear()
    after = need()
    assert len(served.log) == 1
    to_do = ("read_nbytes", "scratch_nbytes", "output_nbytes", "memory_nbytes")
    assert {name: after[name] for name in after if name not in to_do} == {
        name: before[name] for name in before if name not in to_do
    }
    assert (after["read_nbytes"], after["scratch_nbytes"], after["output_nbytes"]) == (0, 0, 0)


@pytest.mark.parametrize("lines", ["tensor: lm_head.weight", "file: model.safetensors", "revision: main"])
def test_a_published_model_of_which_more_is_asked_costs_one_request(
    served: LoopbackHub, output: Path, tmp_path: Path, lines: str
) -> None:
    (tmp_path / "list.yaml").write_text(f"- model: org/model\n  {lines}\n")
    arguments = ["--models-file", str(tmp_path / "list.yaml"), "--output", str(output)]
    assert main(arguments) == 0
    before = contents(output)
    assert len(requests_of(served, *arguments)) == len(requests_of(served, "plan", *arguments)) == 1
    assert contents(output) == before


def test_a_published_adapter_costs_its_own_commit_its_config_and_the_commit_of_its_base(
    served: LoopbackHub, output: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/model"}))
    (adapter / "adapter_model.safetensors").write_bytes(bytes(100))
    commit = served.add("me/tuned", adapter)
    (tmp_path / "list.yaml").write_text("- model: me/tuned\n  follow_base: true\n")
    arguments = ["--models-file", str(tmp_path / "list.yaml"), "--output", str(output)]
    assert main(arguments) == 0
    assert requests_of(served, *arguments) == [
        "GET /api/models/me/tuned",
        f"HEAD /me/tuned/resolve/{commit}/adapter_config.json",
        f"GET /api/resolve-cache/models/me/tuned/{commit}/adapter_config.json",
        "GET /api/models/org/model",
    ]


@contextmanager
def counting(server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """A store whose requests are counted: those since the last call that concern a model, and not the run's start."""
    asked: list[Asked] = []
    with meddling_store(server.endpoint, asked.append) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)

        def since_last() -> list[str]:
            found = [request for request in asked if "org" in f"{request.path}{request.query}"]
            asked.clear()
            names = (request.path.rpartition("/")[2] for request in found)
            return [f"{request.operation} {name}" for request, name in zip(found, names, strict=True)]

        yield since_last


@pytest.mark.parametrize("verb", ["survey", "plan"])
def test_a_published_commit_costs_two_requests_of_an_s3_store(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    output = f"s3://{s3_bucket}/surveys"
    assert main(["org/model", "--output", output]) == 0
    with counting(s3_server, monkeypatch) as since_last:
        assert len(requests_of(served, verb, "org/model", "--output", output)) == 1
        assert since_last() == [f"GET list-type {s3_bucket}", "GET manifest.json"]


def test_the_index_costs_a_run_the_same_few_requests_however_many_models_it_has(
    hub: LoopbackHub,
    checkpoint: Path,
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"org/model-{number}" for number in range(5)]
    for name in names:
        hub.add(name, checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    output = f"s3://{s3_bucket}/surveys"
    asked: list[Asked] = []

    def of_index(*models: str) -> list[str]:
        """The requests of a run that are of no model and no probe."""
        asked.clear()
        assert main([*models, "--output", output]) == 0
        of_model_or_probe = ("org", "check")
        of_no_model = [one for one in asked if not any(mark in f"{one.path}{one.query}" for mark in of_model_or_probe)]
        return sorted(f"{one.operation} {one.path.rpartition('/')[2]}" for one in of_no_model)

    assert main([*names, "--output", output]) == 0
    with meddling_store(s3_server.endpoint, asked.append) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        of_one = of_index(names[0])
        assert of_index(*names) == of_one
        at_the_start = [f"GET list-type {s3_bucket}", f"GET uploads {s3_bucket}", f"GET list-type {s3_bucket}"]
        of_the_index = [f"GET list-type {s3_bucket}"] * 2 + ["GET surveys.parquet", "GET outcomes-0.json"]
        assert of_one == sorted([*at_the_start, *of_the_index, "PUT index.html", "PUT outcomes-0.json"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)


def test_a_published_commit_that_is_not_the_latest_costs_an_s3_store_one_request_more(
    served: LoopbackHub, checkpoint: Path, s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ["--output", f"s3://{s3_bucket}/surveys"]
    earlier = served.repos["org/model"].refs["main"]
    assert main(["org/model", *output]) == 0
    (checkpoint / "README.md").write_text("another commit")
    served.add("org/model", checkpoint)
    assert main(["org/model", *output]) == 0
    with counting(s3_server, monkeypatch) as since_last:
        assert len(requests_of(served, f"org/model@{earlier}", *output)) == 1
        assert since_last() == [f"GET list-type {s3_bucket}", "GET manifest.json", "GET latest.json"]
        assert len(requests_of(served, "org/model", *output)) == 1
        assert since_last() == [f"GET list-type {s3_bucket}", "GET manifest.json"]


@pytest.mark.parametrize("file", ["report.md", "latest.json"])
@pytest.mark.parametrize("change", ["missing", "another of the same length"])
@pytest.mark.writes_invalid_manifests
def test_a_published_page_and_latest_json_in_an_s3_store_are_mended(
    served: LoopbackHub, s3_server: SeaweedServer, s3_bucket: str, file: str, change: str
) -> None:
    assert main(["org/model", "--output", f"s3://{s3_bucket}"]) == 0
    client = s3_server.client()
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]]
    (key,) = [key for key in keys if key.endswith(file)]
    content = client.get_object(Bucket=s3_bucket, Key=key)["Body"].read()
    if change == "missing":
        client.delete_object(Bucket=s3_bucket, Key=key)
    else:
        client.put_object(Bucket=s3_bucket, Key=key, Body=content.replace(b"lm_head", b"my_head"))
    assert len(requests_of(served, "org/model", "--output", f"s3://{s3_bucket}")) == 1
    assert client.get_object(Bucket=s3_bucket, Key=key)["Body"].read() == content


def test_a_published_model_that_the_hub_does_not_show_any_more_fails(served: LoopbackHub, output: Path) -> None:
    assert main(["org/model", "--output", str(output)]) == 0
    served.repos["org/model"].access = "gated"
    assert len(requests_of(served, "org/model", "--output", str(output))) == 1  # everybody sees its commit
    served.repos["org/model"].access = "private"
    assert main(["org/model", "--output", str(output)]) == 65


def by_another_version(output: Path) -> None:
    """Make a published manifest and its copy those of another version of the tool."""
    manifest = manifest_in(output)
    manifest["tool"]["version"] = "0.0.1"
    for path in (*output.rglob("manifest.json"), *output.rglob("latest.json")):
        path.write_text(json.dumps(manifest))


def test_what_another_version_published_is_looked_at_once_more_and_then_costs_one_request(
    served: LoopbackHub, output: Path
) -> None:
    assert main(["org/model", "--output", str(output)]) == 0
    by_another_version(output)
    earlier, files = manifest_in(output), contents(output)
    assert f"GET /api/resolve-cache/models/org/model/{earlier['commit']}/config.json" in requests_of(
        served, "plan", "org/model", "--output", str(output)
    )
    assert contents(output) == files
    assert len(requests_of(served, "org/model", "--output", str(output))) > 1
    assert manifest_in(output) == earlier | {"examined_by": __version__}
    tensors = {path: file for path, file in files.items() if path.suffix == ".safetensors"}
    assert {path: contents(output)[path] for path in tensors} == tensors
    assert len(requests_of(served, "org/model", "--output", str(output))) == 1
    assert len(requests_of(served, "plan", "org/model", "--output", str(output))) == 1


@pytest.mark.usefixtures("served")
def test_a_tensor_that_another_version_chose_is_not_taken_for_this_versions_choice(output: Path) -> None:
    assert main(["org/model", "--output", str(output)]) == 0
    by_another_version(output)
    other = manifest_in(output)
    other["tensor"] |= {"begin": other["tensor"]["begin"] + 16, "end": other["tensor"]["end"] + 16}
    (output / "org/model" / other["commit"] / "manifest.json").write_text(json.dumps(other))
    for _ in range(2):
        assert main(["org/model", "--output", str(output)]) == 0
        manifests = [json.loads(path.read_text()) for path in output.rglob("manifest.json")]
        assert len(manifests) == 2
        assert all("examined_by" not in manifest for manifest in manifests)
        assert other in manifests


def test_a_published_survey_that_lost_a_file_or_names_another_one_is_made_again(
    served: LoopbackHub, output: Path
) -> None:
    assert main(["org/model", "--output", str(output)]) == 0
    (w,) = output.rglob("W.safetensors")
    content = w.read_bytes()
    w.write_bytes(content[:-1])
    assert main(["org/model", "--output", str(output)]) == 0
    assert w.read_bytes() == content
    manifest = manifest_in(output)
    manifest["tensor"]["content_id"] = "0" * 64
    (output / "org/model" / manifest["commit"] / "manifest.json").write_text(json.dumps(manifest))
    assert len(requests_of(served, "org/model", "--output", str(output))) > 1


BESIDE_TOKENIZER_JSON = (
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
)
"""Files that many models have, and that no survey needs where there is a tokenizer.json."""


def test_a_web_server_is_asked_once_for_the_content_of_each_small_file(
    hub: LoopbackHub, output: Path, tmp_path: Path
) -> None:
    in_shards(tmp_path / "new")
    hub.mirrors["new"] = tmp_path / "new"
    requests = requests_of(hub, f"{hub.endpoint}/mirror/new", "--output", str(output))
    small = ("config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json")
    assert [requests.count(f"GET /mirror/new/{name}") for name in small] == [1, 1, 1, 1]
    assert not [
        request for request in requests if request.startswith("GET") and request.endswith(BESIDE_TOKENIZER_JSON)
    ]
    again = requests_of(hub, f"{hub.endpoint}/mirror/new", "--output", str(output))
    assert [request for request in again if request.startswith("GET")] == [
        "GET /mirror/new/model.safetensors.index.json"  # which names the shards
    ]


def in_one_file(folder: Path) -> None:
    """The head in one file, with every usual file beside it."""
    write_checkpoint(folder, planted(40, 8, GROUPS), n_tokens=40)
    (folder / "tokenizer_config.json").write_text("{}")
    for name in BESIDE_TOKENIZER_JSON:
        (folder / name).write_text("{}")


def with_tokenizer_json_alone(folder: Path) -> None:
    write_checkpoint(folder, planted(40, 8, GROUPS), n_tokens=40)


def tied_in_one_file(folder: Path) -> None:
    in_one_file(folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"model.embed_tokens.weight": planted(40, 8, GROUPS)}, folder / "model.safetensors")


def in_shards(folder: Path) -> None:
    """A head in the last of several shards, and the embedding in the first."""
    in_one_file(folder)
    (folder / "model.safetensors").unlink()
    shards = {
        "model-00001-of-00003.safetensors": {"model.embed_tokens.weight": planted(40, 8, [])},
        "model-00002-of-00003.safetensors": {"model.norm.weight": torch.zeros(8)},
        "model-00003-of-00003.safetensors": {"lm_head.weight": planted(40, 8, GROUPS)},
    }
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


LAYOUTS = {
    "one-file": (in_one_file, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]),
    "tokenizer-json-alone": (with_tokenizer_json_alone, ["config.json", "model.safetensors", "tokenizer.json"]),
    "tied": (tied_in_one_file, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]),
    "shards": (
        in_shards,
        [
            "config.json",
            "model-00001-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ],
    ),
}


@pytest.mark.parametrize(("write", "files"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_new_model_costs_one_request_for_its_commit_and_one_for_each_file_that_is_needed(
    hub: LoopbackHub,
    output: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], None],
    files: list[str],
) -> None:
    write(tmp_path / "new")
    commit = hub.add("org/new", tmp_path / "new")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    requests = requests_of(hub, "org/new", "--output", str(output))
    cached = [request for request in requests if "/api/resolve-cache/" in request]
    assert sorted(request for request in requests if " /blobs/" not in request and request not in cached) == [
        "GET /api/models/org/new",
        *(f"HEAD /org/new/resolve/{commit}/{file}" for file in files),
    ]
    # Of a small file the Hub redirects to a copy in its cache.
    small = [file for file in files if file.endswith(".json")]
    prefix = f"GET /api/resolve-cache/models/org/new/{commit}"
    assert sorted(cached) == [f"{prefix}/{file}" for file in small]
    assert manifest_in(output, "org/new")["tokenizer"]["n_tokens"] == 40
