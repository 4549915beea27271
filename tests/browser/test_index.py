"""index.html of one OUTPUT: a family, revisions, models that share a W, hostile names, and a run that failed at one."""

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

from tests.browser import checkpoints
from tests.browser.conftest import Origin, Visitor
from tests.browser.jobs import run_job
from tests.browser.reports import cells
from tests.browser.visits import VIEWS, WIDE, View
from tests.checkpoints import planted, write_checkpoint
from tests.servers.hub_protocol import Json
from tests.servers.loopback_hub import LoopbackHub

HOLES = {"tiny-1": [[1, 2, 3]], "tiny-2": [[1, 2, 3, 4], [10, 11]], "tiny-3": []}
FAMILY = {name: planted(60, 16, groups) for name, groups in HOLES.items()}
RELEASED = {"tiny-1": "2024-01-05", "tiny-2": "2024-09-01", "tiny-3": "2025-03-20"}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OUTPUT with eight surveys."""
    place = tmp_path_factory.mktemp("index")

    def add(name: str, w: "torch.Tensor", *, branch: str = "main") -> None:
        folder = write_checkpoint(place / "hub" / f"{name}-{branch}", w, n_tokens=60)
        about: dict[str, Json] = {"createdAt": f"{RELEASED.get(name, '2025-06-01')}T00:00:00.000Z"}
        hub.add(f"tiny-org/{name}", folder, branch=branch, about=about)

    with LoopbackHub() as hub:
        for name, w in FAMILY.items():
            add(name, w)
        add("twin", FAMILY["tiny-2"])
        for branch, groups in (("step1", [[5, 6]]), ("step2", [[5, 6, 7]])):
            add("tiny-1", planted(60, 16, groups), branch=branch)
        models = (
            *(
                "tiny-org/tiny-1@step1",
                "tiny-org/tiny-1@step2",
                "tiny-org/tiny-1",
                "tiny-org/tiny-2",
                "tiny-org/tiny-3",
            ),
            *("tiny-org/twin", "tiny-org/none", checkpoints.hostile(place), checkpoints.without_tokenizer(place)),
        )
        run_job(*models, "--output", place / "out", status=65, HF_ENDPOINT=hub.endpoint, HF_HOME=str(place / "home"))
    return place / "out"


def open_index(visit: Visitor, output: Path, view: View = WIDE, origin: Origin = "file") -> Page:
    page = visit(output / "index.html", view, origin).page
    expect(page.locator("#survey-table output")).to_have_text("8 surveys")
    return page


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_an_index_has_no_faults_in_any_view(visit: Visitor, output: Path, view: View) -> None:
    page = open_index(visit, output, view)
    page.locator("#survey-table .unfold").first.click()


def test_an_index_has_no_faults_over_http(visit: Visitor, output: Path) -> None:
    open_index(visit, output, origin="http")


def test_surveys_are_sorted_filtered_and_searched_by_name_and_by_token(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    table = page.locator("#survey-table")
    table.get_by_role("columnheader", name="holes", exact=True).get_by_role("button").click()
    names = [name.strip() for name in table.get_by_role("columnheader").all_inner_texts()]
    holes = [int(row[names.index("holes")]) for row in cells(table)]
    assert holes == [2, 2, 2, 2, 1, 1, 1, 0]
    table.get_by_label("with holes").check()
    expect(table.locator("output")).to_have_text("7 of 8 surveys")
    table.get_by_role("searchbox").fill("tiny-1")
    expect(table.locator("output")).to_have_text("3 of 8 surveys")
    table.get_by_role("searchbox").fill("token11")
    expect(table.locator("output")).to_have_text("2 of 8 surveys")
    table.get_by_role("searchbox").fill("<img src=x")
    assert len(cells(table)) == 1


def test_every_link_of_the_index_leads_to_a_file(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    links = page.locator("a[href]:not([href^='#'])").evaluate_all(
        "links => links.map((link) => link.getAttribute('href'))"
    )
    assert len({link for link in links if link.endswith("/report.html")}) == 8
    page.locator("#survey-table").get_by_role("searchbox").fill("<img src=x")
    with page.context.expect_page() as opening:
        page.locator("#survey-table .grid-row a").click(modifiers=["Control"])
    expect(opening.value.get_by_role("heading", level=1)).to_contain_text("2 black holes swallow 28 of 66 tokens")


def test_a_family_shows_which_release_brought_which_tokens(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    page.locator("#family").select_option(label="tiny-org/tiny (3)")
    rows = page.locator("#family-releases tbody tr").all_inner_texts()
    assert [row.split("\t")[:2] for row in rows] == [[RELEASED[name], name] for name in FAMILY]
    assert "token4" in rows[1]
    assert "token10" in rows[1]
    expect(page.locator("#family-chart svg").or_(page.locator("#family-chart canvas"))).to_be_visible()


def test_revisions_stand_in_order_and_models_with_one_w_together(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    revisions = page.locator("#revision-rows tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in revisions][:2] == ["step1", "step2"]
    group = page.locator("section[aria-labelledby=same-w] tbody tr")
    expect(group).to_have_count(1)
    expect(group).to_contain_text("tiny-org/tiny-2")
    expect(group).to_contain_text("tiny-org/twin")


def test_what_the_last_run_failed_at_is_told_with_its_reason(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    expect(page.locator("section[aria-labelledby=last-run] tbody tr")).to_contain_text("tiny-org/none")
    expect(page.locator("section[aria-labelledby=last-run] tbody tr")).to_contain_text("ModelUnavailable")


def test_hostile_names_in_the_index_are_texts(visit: Visitor, output: Path) -> None:
    page = open_index(visit, output)
    expect(page.locator("#survey-table .grid-row").filter(has_text="<img src=x onerror=alert(1)>")).to_have_count(1)
    assert page.locator("img").count() == 0
    text = page.locator("body").inner_text()
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []
