"""report.html of a survey: it is there, says all that the survey found, and is made again when it has to be."""

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from entrypoint import main
from job.report.pages.columns import shown_text
from tests.checkpoints import planted, write_checkpoint
from tests.pages import ParsedPage, assert_harmless
from tests.surveys import survey

GROUPS = [[3, 9, 21, 30], [10, 11], [38, 39]]
HOSTILE = (
    *("</script><script>alert(1)</script>", "<!--", "\u202ereversed", "nul\0", "=cmd()", "y" * 10_000, "\u2028"),
    *("a\ttab", "'\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "</style><style>*{}", "&lt;"),
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint whose tokens are hostile, and whose last two rows lie beyond its tokenizer."""
    folder = write_checkpoint(tmp_path / "<b>&{{model}}", planted(40, 8, GROUPS))
    vocabulary = {**{text: index for index, text in enumerate(HOSTILE)}, **{f"token{n}": n for n in range(12, 38)}}
    Tokenizer(WordLevel(vocabulary, unk_token="token12")).save(str(folder / "tokenizer.json"))
    return folder


def page_of(output: Path, manifest: dict[str, Any]) -> ParsedPage:
    return ParsedPage((output / manifest["pages"]["html"]).read_bytes())


def test_the_page_of_a_hostile_model_is_harmless_and_has_every_row(checkpoint: Path, output: Path) -> None:
    manifest = survey(checkpoint, output)
    page = page_of(output, manifest)
    assert_harmless(page)
    assert manifest["pages"]["html"] == manifest["pages"]["report"].replace("report.md", "report.html")
    assert page.facts["model"] == manifest["model"]
    assert page.column("text") == [*map(shown_text, HOSTILE), *(f"token{n}" for n in range(12, 38)), "", ""]
    holes = np.zeros(40, np.int32)
    for number, group in enumerate(GROUPS, 1):
        holes[group] = number
    assert page.numbers("hole").tolist() == holes.tolist()
    assert page.numbers("hole-population").tolist() == [4, 2, 2]
    w = load_file(output / manifest["artifacts"]["W"]["key"])["W"].double()
    np.testing.assert_allclose(page.numbers("norm"), w.norm(dim=1), rtol=1e-6)
    firsts = w[[group[0] for group in GROUPS]]
    np.testing.assert_allclose(page.numbers("hole-distances"), torch.cdist(firsts, firsts).flatten(), rtol=1e-6)
    names = [*page.facts["classNames"], None]
    assert [names[code] for code in page.numbers("class").tolist()][-2:] == ["beyond tokenizer"] * 2
    shown = page.text
    assert "3 black holes swallow 8 of 40 tokens." in shown
    assert "nul\\x00 {{ 7 * 7 }} token21 token30" in shown, "the first holes are shown before a script runs"
    assert "</style><style>*{} &lt;" in shown


def test_all_that_is_printed_by_hand_is_on_the_page(tmp_path: Path, output: Path) -> None:
    manifest = survey(write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40), output)
    text, s = page_of(output, manifest).text, manifest["statistics"]
    for title, value in (
        ("shape of W", "40 rows × 8 columns, BF16"),
        ("parameters", "320"),
        ("size", "640 bytes as stored; 0.00 GB as float32"),
        ("unique rows", "35, 87.50 % of all rows"),
        ("duplicate rows (rows − unique rows)", "5, 12.50 % of all rows"),
        ("black holes", "3"),
        ("rows in a hole", "8, 20.000 % of all rows"),
        ("largest and smallest population", "4 and 2"),
        ("mean and median population", "2.67 and 2.0"),
        ("deduplication ratio (rows ÷ unique rows)", "1.1429"),
        ("rows in the hole holes", "4 1 2 2"),
    ):
        assert f"{title} {value}" in text, title
    for norms in ("row_norm", "black_hole_row_norm", "gamma_centered_norm", "mu"):
        assert " ".join(f"{s[norms][name]:,.5g}" for name in ("mean", "std", "min", "median", "max")) in text, norms
    assert f"whose norm is {s['mu']['norm']:,.5g}" in text
    assert ", ".join(f"{norm:,.5g}" for norm in s["gamma_centered_norm_of_first_rows"]) in text
    for value in (manifest["commit"], manifest["w_sha256"], manifest["tensor"]["name"], manifest["tensor"]["reason"]):
        assert value in text
    assert "token3 token9 token21 token30" in text


def test_the_code_on_the_page_runs(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_checkpoint(tmp_path / 'it\'s "q" {x} \u202e', planted(40, 8, GROUPS), n_tokens=40)
    manifest = survey(model, output)
    content = (output / manifest["pages"]["html"]).read_text("utf-8")
    pieces = [html.unescape(piece) for piece in re.findall(r"<pre[^>]*><code[^>]*>(.*?)</code>", content, re.DOTALL)]
    assert len(pieces) == 4
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "surveys").symlink_to(output)
    for piece in pieces:
        exec(compile(piece, "page", "exec"), names)  # noqa: S102 - the page's own code
    assert names["survey"].W.shape == (40, 8)
    assert names["black_holes"]["black_hole_mask"].sum() == 8
    assert names["tokens"]["hole"].max() == 3


def test_a_page_is_made_again_if_it_is_missing_and_left_alone_if_not(tmp_path: Path, output: Path) -> None:
    model = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)
    manifest = survey(model, output)
    page = output / manifest["pages"]["html"]
    content, before = page.read_bytes(), page.stat()
    assert survey(model, output) == manifest
    assert page.stat() == before
    page.unlink()
    assert survey(model, output) == manifest
    assert page.read_bytes() == content, "the same input gives the same bytes"


def test_a_survey_of_an_earlier_version_gets_its_page_once(tmp_path: Path, output: Path) -> None:
    model = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)
    new = survey(model, output)
    page = output / new["pages"]["html"]
    content = page.read_bytes()
    page.unlink()
    for path in (*output.rglob("manifest.json"), *output.rglob("latest.json")):
        earlier = new | {"pages": {"report": new["pages"]["report"]}, "tool": new["tool"] | {"version": "0.0.1"}}
        path.write_text(json.dumps(earlier))
    assert survey(model, output)["pages"] == new["pages"]
    (stored,) = output.rglob("manifest.json")
    assert json.loads(stored.read_text())["pages"] == new["pages"]
    made = page.stat()
    assert survey(model, output)["pages"] == new["pages"]
    assert page.stat() == made
    page.write_bytes(content.replace(b"black-hole-survey ", b"black-hole-survey 0.0.1 of "))
    survey(model, output)
    assert b"0.0.1 of" not in page.read_bytes()


def test_no_manifest_or_report_names_a_page_that_is_gone_and_cannot_be_made_again(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)
    survey(model, output)
    write_checkpoint(model, planted(40, 8, GROUPS[:1]), n_tokens=40)
    pages = survey(model, output)["pages"]
    for name in ("html", "changes"):
        (output / pages[name]).unlink()
    table = (output / pages["html"]).with_name("tokens.parquet")
    table.write_bytes(bytes(table.stat().st_size))
    capsys.readouterr()
    assert survey(model, output)["pages"] == {"report": pages["report"]}
    assert ".html" not in (output / pages["report"]).read_text()
    assert f"begin with {output / pages['report']}" in capsys.readouterr().out


@pytest.mark.parametrize("artifact", ["tokens", "black_holes"])
def test_a_page_that_cannot_be_made_is_a_warning_and_the_survey_stands(
    tmp_path: Path, output: Path, artifact: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)
    manifest = survey(model, output)
    file, page = output / manifest["artifacts"][artifact]["key"], output / manifest["pages"]["html"]
    content = file.read_bytes()
    page.unlink()
    file.write_bytes(bytes(len(content)))
    assert main([str(model), "--output", str(output)]) == 0
    assert f"{page}: cannot be made: " in caplog.text
    assert not page.exists()
    file.write_bytes(content)
    assert main([str(model), "--output", str(output)]) == 0
    assert_harmless(ParsedPage(page.read_bytes()))


@pytest.mark.parametrize("tensors", ["W", "black_holes", "mu,tokens"])
def test_a_page_says_which_tensors_publish_what_it_lacks(tmp_path: Path, output: Path, tensors: str) -> None:
    model = write_checkpoint(tmp_path / "model", planted(40, 8, GROUPS), n_tokens=40)
    page = page_of(output, survey(model, output, "--tensors", tensors))
    assert_harmless(page)
    assert "TENSORS=projection adds it" in page.text
    assert ("TENSORS=tokens adds it" in page.text) == ("tokens" not in tensors)
    known = {element.attributes.get("id") for element in page.elements}
    assert ("col-hole" in known) == (tensors != "W")
    assert "token3 token9 token21 token30" in page.text


def test_a_page_of_a_w_with_nan_and_infinity_has_them_as_no_numbers(tmp_path: Path, output: Path) -> None:
    w = planted(40, 8, GROUPS, torch.float32)
    w[38:] = float("nan")
    w[10:12] = float("inf")
    model = write_checkpoint(tmp_path / "model", w, n_tokens=40)
    page = page_of(output, survey(model, output))
    assert_harmless(page)
    assert np.isnan(page.numbers("norm")[38:]).all()
    assert np.isnan(page.numbers("hole-distances").reshape(3, 3)[1:]).all()


def test_every_link_of_a_page_leads_to_a_file_of_the_output(tmp_path: Path, output: Path) -> None:
    model = write_checkpoint(tmp_path / "a %2F #b? c", planted(40, 8, [[3, 9, 21]]), n_tokens=40)
    survey(model, output)
    save_file({"lm_head.weight": planted(40, 8, [[3, 9], [30, 31]])}, model / "model.safetensors")
    manifest = survey(model, output)
    page = output / manifest["pages"]["html"]
    links = [value for tag, name, value in page_of(output, manifest).attributes if (tag, name) == ("a", "href")]
    files = {(page.parent / unquote(link)).resolve() for link in links if not link.startswith("#")}
    expected = {output / key for key in manifest["pages"].values()} - {page} | {output / "index.html"}
    assert files == expected | {output / entry["key"] for entry in manifest["artifacts"].values()}
    assert {path for path in files if not path.is_file()} == set()


def test_what_changed_since_the_previous_survey_stands_on_the_page(tmp_path: Path, output: Path) -> None:
    first = survey(write_checkpoint(tmp_path / "model", planted(40, 8, [[3, 9, 21]]), n_tokens=40), output)
    save_file({"lm_head.weight": planted(40, 8, [[3, 9], [30, 31]])}, tmp_path / "model" / "model.safetensors")
    text = page_of(output, survey(tmp_path / "model", output)).text
    assert f"Changed since the previous survey, of commit {first['commit'][:8]}" in text
    assert "which found 1 black hole with 3 rows" in text
    assert "2 tokens entered a hole: token30 token31" in text
    assert "1 token left all holes: token21" in text
    assert text.index("Changed since") < text.index("The token cloud")
