"""What is published of the tokens, from a loopback Hub into folders and a real S3 store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas  # type: ignore[import-untyped]  # it ships no types
import polars
import pyarrow.dataset  # type: ignore[import-untyped]  # it ships no types
import pyarrow.fs  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
import tokenizers
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from tokenizers.models import WordLevel

from entrypoint import main
from job.store.artifacts import TOKEN_ARTIFACTS
from job.tokens.table import write_table
from tests.checkpoints import planted, write_checkpoint
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.meddling_store import meddling_store
from tests.servers.seaweed import ADMIN, REGION, SeaweedServer
from tests.surveys import ALL_ARTIFACTS, TENSOR_FILES, WITHOUT_TOKENIZER
from tests.token_tables import Row, numbers_of_qwen3_4b, write_columns

GROUPS = [[3, 9, 21], [10, 38]]
N_TOKENS, N_ROWS = 37, 40


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", planted(N_ROWS, 8, GROUPS), n_tokens=N_TOKENS)


@pytest.fixture
def served(hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    hub.add("org/model", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "surveys"


def latest(output: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((output / "org/model/latest.json").read_text())
    return manifest


def survey(output: Path, *arguments: str) -> dict[str, Any]:
    assert main(["org/model", "--output", str(output), *arguments]) == 0
    return latest(output)


def file_of(manifest: dict[str, Any], output: Path, name: str) -> Path:
    return output / str(manifest["artifacts"][name]["key"])


def table_of(manifest: dict[str, Any], output: Path) -> "pandas.DataFrame":
    return pandas.read_parquet(file_of(manifest, output, "tokens"))


def with_tokenizer(folder: Path, prefix: str, n_tokens: int = N_TOKENS) -> None:
    vocabulary = {f"{prefix}{index}": index for index in range(n_tokens)}
    tokenizers.Tokenizer(WordLevel(vocabulary, unk_token=f"{prefix}0")).save(str(folder / "tokenizer.json"))


@pytest.mark.usefixtures("served")
def test_a_table_says_of_every_row_its_token_its_norms_and_its_hole(output: Path) -> None:
    manifest = survey(output)
    assert manifest["artifacts"].keys() == ALL_ARTIFACTS
    table = table_of(manifest, output)
    assert table["id"].tolist() == list(range(N_ROWS))
    assert table["piece"].tolist()[:N_TOKENS] == [f"token{index}" for index in range(N_TOKENS)]
    assert table["piece"].isna().tolist() == [index >= N_TOKENS for index in range(N_ROWS)]
    assert table["class"].tolist()[N_TOKENS:] == ["beyond_tokenizer"] * 3
    w = load_torch_file(file_of(manifest, output, "W"))["W"].double().numpy()
    gamma = load_file(file_of(manifest, output, "gamma_centered"))["gamma_centered"].astype(np.float64)
    assert np.allclose(table["norm"], np.linalg.norm(w, axis=1), rtol=1e-6, atol=0)
    assert np.allclose(table["gamma_norm"], np.linalg.norm(gamma, axis=1), rtol=1e-6, atol=0)
    holes = load_torch_file(file_of(manifest, output, "black_holes"))["black_hole_id"]
    assert table["hole"].tolist() == holes.tolist()
    metadata = pyarrow.parquet.read_metadata(file_of(manifest, output, "tokens")).metadata
    assert json.loads(metadata[b"black_hole_survey"]) == {
        "model": "org/model",
        "commit": manifest["commit"],
        "tensor": "lm_head.weight",
        "version": manifest["tool"]["version"],
        "w_sha256": manifest["w_sha256"],
    }


@pytest.mark.usefixtures("served")
def test_dead_tokens_and_valid_ids_agree_with_the_table_and_with_the_manifests_counts(output: Path) -> None:
    manifest = survey(output)
    table = table_of(manifest, output)
    document = json.loads(file_of(manifest, output, "dead_tokens").read_text())
    ids = document["ids"]
    assert ids["in_black_hole"] == [3, 9, 10, 21, 38]
    assert ids["beyond_tokenizer"] == [37, 38, 39]
    assert ids["reserved"] == ids["reserved_in_black_hole"] == []
    assert ids["unreachable"] in (None, table["id"][table["reachable"] == False].tolist())  # noqa: E712 - of a column
    assert (document["model"], document["commit"]) == ("org/model", manifest["commit"])
    assert (document["n_rows"], document["n_tokens"]) == (N_ROWS, N_TOKENS)
    assert document["w_sha256"] == manifest["w_sha256"]
    valid = load_file(file_of(manifest, output, "valid_ids"))["valid_ids"]
    unreachable = ids["unreachable"] or []
    assert np.flatnonzero(~valid).tolist() == sorted({*unreachable, *ids["beyond_tokenizer"], *ids["reserved"]})
    counts = manifest["token_counts"]
    assert counts["valid_ids"] == valid.sum()
    assert counts["dead_tokens"] == {name: None if rows is None else len(rows) for name, rows in ids.items()}
    assert {name: n for name, n in counts["classes"].items() if n} == table["class"].value_counts().to_dict()
    page = (output / manifest["pages"]["report"]).read_text()
    assert "| beyond the tokenizer | 3 |" in page


def test_the_map_of_special_tokens_counts_where_no_config_of_the_tokenizer_names_them(
    served: LoopbackHub, checkpoint: Path, output: Path
) -> None:
    (checkpoint / "special_tokens_map.json").write_text('{"eos_token": "token5"}')
    served.add("org/model", checkpoint)
    manifest = survey(output)
    assert table_of(manifest, output)["class"][5] == "special"
    assert "special_tokens_map.json" in manifest["tokenizer"]["files"]


def test_without_a_tokenizer_nothing_is_said_of_tokens(served: LoopbackHub, checkpoint: Path, output: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    served.add("org/model", checkpoint)
    manifest = survey(output)
    assert manifest["artifacts"].keys() == WITHOUT_TOKENIZER
    assert table_of(manifest, output).columns.tolist() == ["id", "norm", "gamma_norm", "hole"]
    document = json.loads(file_of(manifest, output, "dead_tokens").read_text())
    assert document["n_tokens"] is None
    assert {name for name, ids in document["ids"].items() if ids is not None} == {"in_black_hole"}
    assert manifest["token_counts"]["classes"] is manifest["token_counts"]["valid_ids"] is None


def test_a_new_commit_with_the_same_tokenizer_points_at_the_same_table(
    served: LoopbackHub, checkpoint: Path, output: Path
) -> None:
    before = survey(output)
    (checkpoint / "README.md").write_text("another commit")
    served.add("org/model", checkpoint)
    after = survey(output)
    assert after["commit"] != before["commit"]
    assert (after["artifacts"], after["token_counts"]) == (before["artifacts"], before["token_counts"])


def test_a_new_commit_with_another_tokenizer_gets_its_own_table_and_w_is_not_read(
    served: LoopbackHub, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = survey(output)
    with_tokenizer(checkpoint, "word", 39)
    commit = served.add("org/model", checkpoint)
    capsys.readouterr()
    assert main(["plan", "org/model", "--output", str(output), "--format", "json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)["models"]
    assert (planned["status"], planned["need"]["output_nbytes"]) == ("same content", 40 * N_ROWS)
    after = survey(output)
    assert "stream W" in before["seconds"]
    assert "stream W" not in after["seconds"]
    assert after["commit"] == commit
    assert {name: after["artifacts"][name] for name in TENSOR_FILES} == {
        name: before["artifacts"][name] for name in TENSOR_FILES
    }
    for name in TOKEN_ARTIFACTS:
        assert commit in after["artifacts"][name]["key"]
    one, two = (table_of(manifest, output) for manifest in (before, after))
    assert two["piece"].tolist()[:39] == [f"word{index}" for index in range(39)]
    for column in ("norm", "gamma_norm", "hole"):
        assert two[column].to_numpy().tobytes() == one[column].to_numpy().tobytes()
    assert after["token_counts"]["classes"]["beyond_tokenizer"] == 1
    assert [token["piece"] for hole in after["black_holes"] for token in hole["tokens"]] == [
        f"word{id}" for group in GROUPS for id in group
    ]


def test_a_damaged_table_is_not_used_for_another_commit(
    served: LoopbackHub, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(survey(output), output, "tokens")
    path.write_bytes(path.read_bytes()[:-12] + bytes(12))
    with_tokenizer(checkpoint, "word")
    served.add("org/model", checkpoint)
    assert main(["org/model", "--output", str(output)]) == 75
    assert "found other bytes than were published" in capsys.readouterr().out


@pytest.mark.usefixtures("served")
def test_a_survey_of_an_earlier_version_gets_the_tokens_it_lacks_and_keeps_the_rest(output: Path) -> None:
    before = survey(output, "--tensors", ",".join(TENSOR_FILES))
    assert before["artifacts"].keys() == set(TENSOR_FILES)
    for path in output.glob("org/**/*.json"):  # as an earlier version wrote it
        manifest = json.loads(path.read_text())
        del manifest["token_counts"]
        path.write_text(json.dumps(manifest))
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    after = survey(output)
    assert after["artifacts"].keys() == ALL_ARTIFACTS
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert "stream W" in after["seconds"]
    assert after["token_counts"]["classes"]["ordinary"] == N_TOKENS


@pytest.mark.usefixtures("served")
def test_tensors_asked_for_later_keep_the_tokens_that_are_there(output: Path) -> None:
    before = survey(output, "--tensors", "tokens")
    assert before["artifacts"].keys() == set(TOKEN_ARTIFACTS)
    assert "reachability" in before["seconds"]
    after = survey(output, "--tensors", "mu")
    assert after["seconds"].get("reachability", 0.0) < 0.001, "it is told for tables alone"
    assert after["artifacts"] == before["artifacts"] | {"mu": after["artifacts"]["mu"]}
    assert after["token_counts"] == before["token_counts"]


def s3_files(endpoint: str) -> "pyarrow.fs.S3FileSystem":
    return pyarrow.fs.S3FileSystem(
        access_key=ADMIN.access_key,
        secret_key=ADMIN.secret_key,
        region=REGION,
        endpoint_override=endpoint.removeprefix("http://"),
        scheme="http",
    )


def by_pyarrow(key: str, endpoint: str) -> int:
    columns = ["id", "hole"]
    found = pyarrow.parquet.read_table(key, columns=columns, filters=[("hole", ">", 0)], filesystem=s3_files(endpoint))
    return int(found.num_rows)


def by_pandas(key: str, endpoint: str) -> int:
    files = s3_files(endpoint)
    return len(pandas.read_parquet(key, columns=["id", "hole"], filters=[("hole", ">", 0)], filesystem=files))


def by_polars(key: str, endpoint: str) -> int:
    options = {
        "aws_access_key_id": ADMIN.access_key,
        "aws_secret_access_key": ADMIN.secret_key,
        "aws_region": REGION,
        "aws_endpoint_url": endpoint,
        "aws_allow_http": "true",
    }
    # It reads 256 kB to begin with, and in one range what lies near to each other, so ids are counted and not read.
    rows = polars.scan_parquet(f"s3://{key}", storage_options=options, row_index_name="row").select("row", "hole")
    return len(rows.filter(polars.col("hole") > 0).collect())


def by_duckdb(key: str, endpoint: str) -> int:
    # By way of pyarrow, which reads the footer twice: duckdb's own extension for S3 is no part of its package.
    tokens = pyarrow.dataset.dataset(key, filesystem=s3_files(endpoint))
    with duckdb.connect() as connection:
        connection.register("tokens", tokens)
        return len(connection.execute("SELECT id, hole FROM tokens WHERE hole > 0").fetchall())


@pytest.mark.parametrize(
    ("read", "share"), [(by_pyarrow, 0.05), (by_pandas, 0.05), (by_polars, 0.15), (by_duckdb, 0.06)]
)
def test_only_the_holes_of_a_table_in_s3_take_a_few_percent_of_its_bytes(
    read: Callable[[str, str], int], share: float, s3_server: SeaweedServer, s3_bucket: str, tmp_path: Path
) -> None:
    numbers, path = numbers_of_qwen3_4b(), tmp_path / "tokens.parquet"
    rows = [Row(f"{number * 2_654_435_761 % 2**32:x}") for number in range(len(numbers.hole))]
    write_table(write_columns(tmp_path / "columns", rows), numbers, path, {})
    s3_server.client().put_object(Bucket=s3_bucket, Key="org/model/c0ffee/tokens.parquet", Body=path.read_bytes())
    received: list[int] = []

    def counted(body: bytes) -> bytes:
        received.append(len(body))
        return body

    with meddling_store(s3_server.endpoint, lambda _: None, counted) as proxy:
        assert read(f"{s3_bucket}/org/model/c0ffee/tokens.parquet", proxy.endpoint) == 2_100
    assert sum(received) < share * path.stat().st_size
