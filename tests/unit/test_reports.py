"""What people look at: hostile texts stay harmless, and nothing that was promised is missing."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from rich.console import Console
from safetensors.torch import save_file
from tokenizers.models import WordLevel

from entrypoint import main
from job.errors import UnsupportedCheckpoint
from job.models.references import parse_reference
from job.monitor import progress
from job.monitor.current import CurrentStage
from job.monitor.progress import ProgressReporter
from job.outcome import Outcome
from job.plan import NUMBERS_ROW_NBYTES, TOKEN_ROW_NBYTES, plan_models
from job.report.model_page import model_page
from job.report.plan_table import kubernetes_limits, print_plan
from job.report.terminal import print_summary
from job.report.text import escape
from job.settings import read_settings
from job.store.artifacts import TOKEN_ARTIFACTS
from tests.checkpoints import planted, write_checkpoint
from tests.unit.test_metrics import metrics_in

HOSTILE = {
    "markup": "<script>alert(1)</script>",
    "table": "a|b",
    "image": "![x](http://evil.example/x.png)",
    "code": "`rm -rf`",
    "escape": "\x1b[31mred\x1b[2J",
    "direction": "\u202etxt.exe",
    "line": "one\ntwo\r\n| three |",
    "rich": "[bold red]loud[/]",
}


@pytest.fixture
def surveyed(tmp_path: Path) -> Path:
    """A survey whose one black hole holds every hostile token; the folder it was published to."""
    n = len(HOSTILE)
    checkpoint = write_checkpoint(tmp_path / "hostile", planted(n + 2, 8, [list(range(n))]))
    vocabulary = {text: index for index, text in enumerate([*HOSTILE.values(), "[UNK]"])}
    tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")).save(str(checkpoint / "tokenizer.json"))
    assert main([str(checkpoint), "--output", str(tmp_path / "out"), "--show-tokens", "20"]) == 0
    return tmp_path / "out"


def test_the_page_shows_hostile_tokens_as_text_in_their_own_row(surveyed: Path) -> None:
    (path,) = surveyed.rglob("report.md")
    page = path.read_text()
    for raw in ("<script>", "\x1b", "\u202e", "![x]("):
        assert raw not in page
    rows = [line for line in page.splitlines() if line.startswith("| ") and '| "' in line]
    assert len(rows) == len(HOSTILE)
    assert all(row.replace("\\|", "").count("|") == 4 for row in rows)
    assert "\\<script\\>" in page
    assert page.count("`") == page.count("\\`") + 2 * 4  # those of the page itself enclose ids and digests


def test_the_page_shows_every_text_of_a_manifest_as_text(surveyed: Path) -> None:
    (path,) = surveyed.rglob("manifest.json")
    hostile = "`</td>`|<script>\x1b[31m\n# title\n![x](http://evil.example/x.png)"

    def with_hostile_texts(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key == "tie" else with_hostile_texts(item) for key, item in value.items()}
        if isinstance(value, list):
            return [with_hostile_texts(item) for item in value]
        return hostile if isinstance(value, str) else value

    page = model_page(with_hostile_texts(json.loads(path.read_text())))
    for raw in ("<script>", "\x1b", "![x](", "\n# title", "</td>"):
        assert raw not in page
    assert page.count("`") == page.count("\\`")
    table_rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in table_rows} == {3, 4, 7}


def test_the_terminal_shows_hostile_tokens_without_obeying_them(
    surveyed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(tmp_path / "hostile"), "--output", str(surveyed), "--show-tokens", "20"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "[bold red]loud[/]" in printed
    assert "<script>" in printed


def test_the_manifest_has_every_token_as_it_is(surveyed: Path) -> None:
    (path,) = surveyed.rglob("manifest.json")
    (hole,) = json.loads(path.read_text())["black_holes"]
    assert [token["piece"] for token in hole["tokens"]] == list(HOSTILE.values())


def test_the_summary_has_a_row_for_every_model_with_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_checkpoint(tmp_path / "one", planted(1000, 16, [[1, 2, 3], [4, 5]]))
    assert main([str(one), str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 65
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith(str(one))]
    for cell in ("1,000 × 16", "BF16", "997", " 2 ", " 5 ", "3, 2", "surveyed"):
        assert cell in row
    assert "ModelUnavailable" in printed
    assert f"surveys are in {tmp_path / 'out'}" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain ä 漢", "plain ä 漢"), ("a\nb\t", "a\\nb\\t"), ("\u200b\u2028", "\\u200b\\u2028"), ("\ud800", "\\ud800")],
)
def test_characters_that_do_not_print_are_shown_as_escapes(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize("verb", ["survey", "plan"])
def test_brackets_in_a_name_are_shown_and_not_taken_for_a_style(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_checkpoint(tmp_path / "[/b]" / "x[red]y", planted(40, 8, [[1, 2]]))
    assert main([verb, str(one), "--output", str(tmp_path / "out")]) == 0
    assert any(line.startswith(f"{one}  ") for line in capsys.readouterr().out.splitlines())


def test_a_narrow_terminal_keeps_the_status_and_whole_numbers(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one", planted(1000, 16, [[1, 2, 3]]), n_tokens=1000)
    assert main([str(one), "--output", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").rglob("manifest.json")
    console = Console(width=80, record=True, file=io.StringIO())
    print_summary(console, [Outcome(parse_reference(str(one)), "surveyed", 1.0, 5, json.loads(path.read_text()))])
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "1,000 × 16" in text
    assert "surveyed" in text


@pytest.mark.parametrize("width", [80, 90, 110, 140])
def test_a_plan_on_a_narrow_terminal_keeps_the_status_and_whole_numbers(width: int, tmp_path: Path) -> None:
    settings = read_settings(
        [str(write_checkpoint(tmp_path / "one", planted(1000, 16, [[1, 2]]))), str(tmp_path / "no")]
    )
    console = Console(width=width, record=True, file=io.StringIO())
    print_plan(console, [planned for _, planned in plan_models(settings)])
    table = console.export_text().partition("\nWhy")[0].splitlines()
    assert all(len(line) <= width for line in table)
    for whole in ("1,000 × 16", "32.0 kB", "to survey", "ModelUnavailable"):
        assert any(whole in line for line in table)


@pytest.mark.parametrize(
    ("memory_nbytes", "scratch_nbytes", "limits"),
    [
        pytest.param(420_000_000, 0, ("512Mi", "1Gi", "1Gi"), id="a local checkpoint"),
        pytest.param(5 * 2**27, 2**30, ("640Mi", "1Gi", "2Gi"), id="exactly"),
        pytest.param(5 * 2**27 + 1, 2**30 + 1, ("768Mi", "2Gi", "2Gi"), id="a byte more"),
        pytest.param(2**30, 0, ("1Gi", "1Gi", "1Gi"), id="as Kubernetes writes it"),
        pytest.param(5 * 2**27, 2**31 - (50 << 20), ("640Mi", "2Gi", "2Gi"), id="exactly with the log"),
    ],
)
def test_kubernetes_limits_are_rounded_up(
    memory_nbytes: int, scratch_nbytes: int, limits: tuple[str, str, str]
) -> None:
    found = kubernetes_limits({"memory_nbytes": memory_nbytes, "scratch_nbytes": scratch_nbytes})
    assert (found["memory"], found["scratch_size_limit"], found["ephemeral_storage"]) == limits


def test_a_plan_states_the_limits_of_a_pod(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "model", planted(10, 8, [[1, 2]])))
    assert main(["plan", checkpoint, "--output", str(tmp_path / "out")]) == 0
    assert "Kubernetes: ephemeral-storage 1Gi, memory 512Mi for the largest of these models" in capsys.readouterr().out
    assert main(["plan", checkpoint, "--output", str(tmp_path / "out"), "--format", "json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert totals["kubernetes"] == {"scratch_size_limit": "1Gi", "ephemeral_storage": "1Gi", "memory": "512Mi"}


def test_a_plan_without_a_model_that_can_be_surveyed_states_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path / "nothing"), "--output", str(tmp_path / "out")]) == 65
    assert "Kubernetes" not in capsys.readouterr().out


def test_a_run_without_a_survey_names_no_place_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, output = write_checkpoint(tmp_path / "one", planted(50, 8, [[1, 2]])), ["--output", str(tmp_path / "out")]
    assert main([str(tmp_path / "none"), str(tmp_path / "nor-this"), *output]) == 65
    assert "surveys are in" not in capsys.readouterr().out
    for _ in range(2):  # surveyed, then already published
        assert main([str(tmp_path / "none"), str(one), *output]) == 65
        assert f"surveys are in {tmp_path / 'out'}; begin with" in capsys.readouterr().out


def test_what_was_fetched_is_not_called_a_part_of_a_smaller_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_checkpoint(tmp_path / "one", planted(50, 8, [[1, 2]]), n_tokens=50)
    assert main([str(one), "--output", str(tmp_path / "out")]) == 0
    assert "fetched / checkpoint" in capsys.readouterr().out
    (page,), (path,) = (tmp_path / "out").rglob("report.md"), (tmp_path / "out").rglob("manifest.json")
    counts = json.loads(path.read_text())["checkpoint"]
    assert counts["bytes_fetched"] > counts["nbytes"], "the headers are read twice"
    fetched, whole = (f"{counts[name]:,}" for name in ("bytes_fetched", "nbytes"))
    assert f"{fetched}, with what was read again; the checkpoint has {whole} |" in page.read_text()
    assert f"{fetched} of " not in page.read_text()


NAMES = ("read_nbytes", "output_nbytes")


@pytest.mark.parametrize("kind", ["untied", "copy", "by-columns", "no-tokenizer"])
def test_a_plan_states_what_the_survey_reads_and_publishes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    w = planted(4000, 16, [[1, 2]])
    model = write_checkpoint(tmp_path / "one", w, n_tokens=None if kind == "no-tokenizer" else 4000)
    copies = 1 if kind in ("copy", "by-columns") else 0
    if kind == "copy":
        save_file({"lm_head.weight": w, "model.embed_tokens.weight": w.clone()}, model / "model.safetensors")
    if kind == "by-columns":
        (model / "model.safetensors").unlink()
        stored = {name: w.T.contiguous().T for name in ("lm_head.weight", "model.embed_tokens.weight")}
        torch.save(stored, model / "pytorch_model.bin")
    output = ["--output", str(tmp_path / "out")]

    def need() -> dict[str, int]:
        capsys.readouterr()
        assert main(["plan", str(model), *output, "--format", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        found: dict[str, int] = document["models"][0]["need"]
        assert [document["totals"][name] for name in NAMES] == [found[name] for name in NAMES]
        return found

    planned = need()
    nbytes = 4000 * 16 * 2
    files = [model / "tokenizer.json", model / "config.json"] if kind != "no-tokenizer" else []
    assert planned["read_nbytes"] == nbytes * (1 + copies) + sum(path.stat().st_size for path in files)
    assert main([str(model), *output, "--tensors", "W"]) == 0
    assert need()["output_nbytes"] == planned["output_nbytes"] - nbytes
    assert main([str(model), *output]) == 0
    (path,) = (tmp_path / "out").rglob("manifest.json")
    manifest = json.loads(path.read_text())
    tokens = sum(manifest["artifacts"].pop(name, {"size": 0})["size"] for name in TOKEN_ARTIFACTS)
    tensors = sum(entry["size"] for entry in manifest["artifacts"].values())
    planned_tokens = 4000 * (NUMBERS_ROW_NBYTES if kind == "no-tokenizer" else TOKEN_ROW_NBYTES)
    assert 0 < tokens < planned_tokens * 1.1
    expected = planned["output_nbytes"] - planned_tokens
    assert abs(tensors - expected) < 4000 * 3 + 4 * 1000, "ids take one byte here, and headers count"
    assert (need()["read_nbytes"], need()["output_nbytes"]) == (0, 0)


def test_a_plan_ends_with_what_output_grows_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_checkpoint(tmp_path / "one", planted(1000, 16, []))
    assert main(["plan", str(model), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "; OUTPUT grows by 123.3 kB" in printed  # 32,000 + 64,000 + 64 + 5,000 + 12,216 + 10,000


def wide_outcomes() -> list[Outcome]:
    """Outcomes of models with long names and wide numbers."""
    manifest: Any = {
        "tensor": {"shape": [262_208, 16_384], "dtype": "BF16"},
        "statistics": {"unique_rows": 125_043, "black_holes": 1_234, "black_hole_tokens": 137_170},
        "black_holes": [{"population": n} for n in (123_456, 12_345, 1_234, 123, 12)],
        "checkpoint": {"nbytes": 800_000_000_000},
        "warnings": [],
    }
    long = parse_reference("meta-llama/Llama-4-Maverick-17B-128E-Instruct-with-a-name-that-has-no-end-at-all")
    pinned = parse_reference("Qwen/Qwen3-4B-Instruct-2507@cdbee75f17c01a7cc42f958dc650907174af0554")
    return [
        Outcome(long, "surveyed", 12_345.6, 2_147_483_648, manifest),
        Outcome(pinned, "already published", 0.3, 0, manifest),
        Outcome(parse_reference("org/name"), "failed", 1.0, error=UnsupportedCheckpoint("org/name: is quantised")),
    ]


@pytest.mark.parametrize("width", [80, 100, 120, 160, 250])
def test_wide_numbers_and_long_names_leave_no_cell_cut(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    outcomes = wide_outcomes()
    print_summary(console, outcomes)
    table = console.export_text().partition("\nUnsupported")[0].splitlines()
    assert all(len(line) <= width for line in table)
    assert not any("…" in line.replace("123 …", "") for line in table)
    names = re.sub(r"\s", "", "".join(line[: table[0].index("rows × columns") - 2] for line in table[1:]))
    assert all(str(outcome.ref)[:40] in names for outcome in outcomes)
    for whole in ("262,208 × 16,384", "137,170", "surveyed", "already published", "UnsupportedCheckpoint"):
        assert any(whole in line for line in table), whole
    if width == 250:
        assert "2.1 GB / 800.0 GB" in table[1]


def test_progress_is_logged_by_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    reporter = ProgressReporter(Console(file=io.StringIO()), False, metrics_in(tmp_path / "run.prom", CurrentStage()))
    chunks = [b"12345"] * 10
    assert list(reporter.track("org/name", chunks, 50, "W")) == chunks
    assert caplog.messages == []
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    assert list(reporter.track("org/name", chunks, 50, "W")) == chunks
    assert [message.partition(" %")[0] for message in caplog.messages] == [f"org/name: W {n}0" for n in range(1, 11)]
    assert "done in" in caplog.messages[-1]
