"""The page of a comparison, of the verb compare and beside a survey that found its model changed."""

import json
from pathlib import Path

import pytest
import tokenizers
from playwright.sync_api import Page, expect
from tokenizers.models import WordLevel

from tests.browser import checkpoints
from tests.browser.conftest import Visitor
from tests.browser.jobs import run_job
from tests.browser.visits import VIEWS, View
from tests.checkpoints import planted, write_checkpoint


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with hostile tokens, surveyed before and after its holes changed."""
    place = tmp_path_factory.mktemp("compare")
    n = len(checkpoints.HOSTILE) + 400
    for groups in ([[20, 21], [40, 41]], [[*range(12)], [*range(12, 30)], [50, 51, 52]]):
        folder = write_checkpoint(place / "model", planted(n, 16, groups) * (1 + len(groups)))
        vocabulary = {text: index for index, text in enumerate(checkpoints.HOSTILE)}
        vocabulary |= {f"token{index}": index for index in range(len(checkpoints.HOSTILE), n)}
        tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="=cmd()"))
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
        run_job(folder, "--output", place / "out")
    return place / "out"


def changes_page(output: Path) -> Path:
    (path,) = output.rglob("changes.html")
    return path


def open_changes(visit: Visitor, output: Path, view: View) -> Page:
    page = visit(changes_page(output), view).page
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_page_of_changes_has_no_faults_in_any_view(visit: Visitor, output: Path, view: View) -> None:
    page = open_changes(visit, output, view)
    for fold in page.locator("summary:visible").all():
        fold.click()


def test_a_comparison_has_no_faults_over_http(visit: Visitor, output: Path) -> None:
    content = run_job("compare", "local/model", "--format", "html", "--output", output, status=1)
    (output / "comparison.html").write_bytes(content)
    page = visit(output / "comparison.html", VIEWS[0], "http").page
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_hostile_tokens_that_moved_are_texts(visit: Visitor, output: Path) -> None:
    page = open_changes(visit, output, VIEWS[0])
    expect(page.get_by_text("</script><script>document.title='taken'</script>").first).to_be_visible()
    assert "taken" not in page.title()
    assert page.locator("img").count() == 0
    text = page.locator("body").inner_text()
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []


def test_the_report_leads_to_the_page_of_changes_and_its_links_back(visit: Visitor, output: Path) -> None:
    folder = changes_page(output).parent
    page = visit(folder / "report.html").page
    link = page.get_by_role("link", name="All changes")
    assert link.get_attribute("href") == "changes.html"
    changes = open_changes(visit, output, VIEWS[0])
    targets = changes.locator("a[href]:not([href^='#'])").evaluate_all("links => links.map((link) => link.href)")
    assert len(targets) == 2
    for target in targets:
        assert Path(changes.evaluate("link => decodeURIComponent(new URL(link).pathname)", target)).is_file()


def test_the_numbers_are_those_of_the_comparison_as_json(visit: Visitor, output: Path) -> None:
    told = json.loads(run_job("compare", "local/model", "--format", "json", "--output", output, status=1))
    page = open_changes(visit, output, VIEWS[0])
    tiles = page.locator(".tiles").inner_text().replace("\n", " ")
    assert f"{told['holes']['entered']['count']} " in tiles
    assert f"{told['holes']['left']['count']} " in tiles
    assert "2 → 3" in tiles
