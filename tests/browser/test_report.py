"""report.html as a person uses it: tables, pictures and cloud linked, code to copy, by pointer and by keyboard."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import checkpoints
from tests.browser.conftest import Origin, Surveyor, Visitor
from tests.browser.reports import REPORTS, SMOLLM2, cells, open_page, open_report, tokens_of
from tests.browser.visits import VIEWS, View

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_no_faults_in_any_view(visit: Visitor, surveyed: Surveyor, name: str, view: View) -> None:
    page = open_report(visit, surveyed, name, view)
    for fold in page.locator("summary:visible").all():
        fold.click()


@pytest.mark.parametrize("name", ["smollm2", "hostile"])
def test_a_report_has_no_faults_over_http(visit: Visitor, surveyed: Surveyor, name: str) -> None:
    page = open_report(visit, surveyed, name, origin="http")
    expect(page.locator(".cloud-canvas")).to_be_visible()


def test_the_headline_and_the_first_holes_are_there_before_any_script_runs(
    browser: Browser, surveyed: Surveyor
) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto((surveyed(SMOLLM2) / "report.html").as_uri())
        expect(page.get_by_role("heading", level=1)).to_have_text("4 black holes swallow 15 of 49,152 tokens.")
        expect(page.locator("#holes tbody tr")).to_have_count(4)
        expect(page.locator("#holes .token").first).to_have_text("<issue_start>")
    finally:
        context.close()


def test_the_table_of_tokens_has_every_row_with_its_numbers(visit: Visitor, surveyed: Surveyor) -> None:
    page, published = open_report(visit, surveyed), tokens_of(surveyed(SMOLLM2))
    table = page.locator("#tokens")
    expect(table.locator("output")).to_have_text("49,152 rows")
    table.get_by_role("columnheader", name="norm", exact=True).get_by_role("button").click()
    largest = sorted(published, key=lambda row: -float(str(row["norm"])))[:5]
    assert [int(row[0]) for row in cells(table)[:5]] == [row["id"] for row in largest]
    assert [float(row[4]) for row in cells(table)[:5]] == pytest.approx([row["norm"] for row in largest], rel=1e-4)
    table.get_by_label("only in holes").check()
    expect(table.locator("output")).to_have_text("15 of 49,152 rows")
    table.get_by_label("class").select_option("special")
    special = [row for row in published if row["hole"] and row["class"] == "special"]
    assert {int(row[0]) for row in cells(table)} == {row["id"] for row in special}


def test_a_search_finds_the_tokens_that_hold_the_text_and_lights_them_up(visit: Visitor, surveyed: Surveyor) -> None:
    page, published = open_report(visit, surveyed), tokens_of(surveyed(SMOLLM2))
    expected = [row["id"] for row in published if "issue" in str(row["text"]).lower()]
    table = page.locator("#tokens")
    table.get_by_role("searchbox").fill("issue")
    expect(table.locator("output")).to_have_text(f"{len(expected)} of 49,152 rows")
    assert [int(row[0]) for row in cells(table)] == expected[: len(cells(table))]
    expect(page.locator(".cloud-canvas")).to_have_attribute("data-highlighted", str(len(expected)))
    table.get_by_role("searchbox").fill("#49151")
    expect(table.locator("output")).to_have_text("1 of 49,152 rows")
    assert [row[0] for row in cells(table)] == ["49151"]
    table.get_by_role("searchbox").fill("no such token anywhere")
    expect(table.get_by_text("None of the rows match.")).to_be_visible()
    table.get_by_role("searchbox").fill("")
    expect(page.locator(".cloud-canvas")).to_have_attribute("data-highlighted", "0")


def test_the_holes_sort_filter_and_are_searched_by_all_their_tokens(visit: Visitor, surveyed: Surveyor) -> None:
    page = open_report(visit, surveyed)
    holes = page.locator("#holes")
    found = [[re.sub(r"\D", "", row[0]), row[1]] for row in cells(holes)]
    assert found == [["1", "7"], ["2", "4"], ["3", "2"], ["4", "2"]]
    holes.get_by_role("columnheader", name="lowest id").get_by_role("button").click()
    ids = [int(row[3].replace(",", "")) for row in cells(holes)]
    assert ids == sorted(ids, reverse=True)
    holes.get_by_role("searchbox").fill("transistorsum")
    assert len(cells(holes)) == 1


def test_a_hole_unfolds_with_all_its_tokens_and_leads_to_them(visit: Visitor, surveyed: Surveyor) -> None:
    page, published = open_report(visit, surveyed), tokens_of(surveyed(SMOLLM2))
    members = [row for row in published if row["hole"] == 1]
    holes = page.locator("#holes")
    holes.locator(".grid-row").first.click()
    chips = holes.locator(".grid-detail button.token")
    expect(chips).to_have_count(7)
    assert chips.all_inner_texts() == [str(row["text"]) for row in members]
    expect(page.locator(".cloud-canvas")).to_have_attribute("data-highlighted", "7")
    chips.nth(2).click()
    expect(page.locator("#tokens [aria-selected=true]")).to_contain_text(str(members[2]["text"]))
    holes.get_by_role("button", name="Show all 7").click()
    expect(page.locator("#tokens output")).to_have_text("7 of 49,152 rows")
    assert [int(row[0]) for row in cells(page.locator("#tokens"))] == [row["id"] for row in members]
    page.locator("#tokens").get_by_role("button", name="Show all rows again").click()
    expect(page.locator("#tokens output")).to_have_text("49,152 rows")
    holes.locator(".grid-row").first.click()
    expect(holes.locator(".grid-detail")).to_have_count(0)


def test_what_is_picked_in_the_cloud_is_shown_in_the_tables(visit: Visitor, surveyed: Surveyor) -> None:
    page = open_report(visit, surveyed)
    page.locator(".cloud-sky").focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    expect(page.locator("#tokens [aria-selected=true]").first).to_be_attached()
    assert "<issue_start>" in page.locator("#tokens [aria-selected=true]").first.inner_text()
    expect(page.locator("#holes [aria-selected=true]")).to_have_count(1)


def pasted(page: Page) -> str:
    """What is on the clipboard, as pasting gives it: reading it otherwise needs a permission."""
    page.evaluate("""() => {
        const area = document.createElement("textarea");
        area.setAttribute("aria-label", "pasted");
        document.querySelector("main").append(area);
        area.focus();
    }""")
    page.keyboard.press("Control+V")
    text = page.get_by_label("pasted").input_value()
    page.evaluate("document.querySelector('[aria-label=pasted]').remove()")
    return text


@pytest.mark.parametrize("origin", ["file", "http"])
def test_code_is_copied_whole(visit: Visitor, surveyed: Surveyor, origin: Origin) -> None:
    page = open_report(visit, surveyed, origin=origin)
    for block in page.locator(".code:has(h3, pre)").all():
        block.get_by_role("button", name="Copy").click()
        expect(block.get_by_role("button", name="Copied")).to_be_visible()
        code = block.locator("code").inner_text().strip()
        assert code in pasted(page)


@pytest.mark.parametrize("name", ["smollm2", "hostile"])
def test_the_code_on_the_page_loads_the_survey(visit: Visitor, surveyed: Surveyor, name: str) -> None:
    page = open_report(visit, surveyed, name)
    blocks = page.locator(".code").all()[1:]
    assert len(blocks) == 3
    for block in blocks:
        block.get_by_role("button", name="Copy").click()
        program = pasted(page)
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(ROOT / "reader")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, program + ran.stderr


def test_every_link_leads_to_a_file_or_a_place_on_the_page(visit: Visitor, surveyed: Surveyor) -> None:
    page, output = open_report(visit, surveyed, "hostile"), surveyed(checkpoints.hostile).parents[2]
    links = page.locator("a[href]").evaluate_all("links => links.map((link) => link.href)")
    own = page.url.partition("#")[0]
    for link in links:
        address, _, anchor = link.partition("#")
        if address == own:
            assert page.locator(f"[id='{anchor}']").count() == 1, link
        else:
            path = Path(unquote(urlsplit(link).path))
            assert path.is_file(), link
            assert path.is_relative_to(output), link


FOCUSED = """() => {
    const element = document.activeElement;
    if (element === document.body) return { name: "", role: "", seen: true, inView: true };
    const style = getComputedStyle(element.closest(".grid-box") && element.getAttribute("role") === "grid"
        ? element.closest(".grid-box") : element);
    return {
        name: element.getAttribute("aria-label") || element.innerText || element.closest("label")?.innerText || "",
        role: element.getAttribute("role") || element.tagName.toLowerCase(),
        seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
        inView: (({ top, bottom }) => bottom > 0 && top < innerHeight)(element.getBoundingClientRect()),
    };
}"""


def test_the_tabulator_goes_through_all_of_the_page_in_order_and_shows_where_it_is(
    visit: Visitor, surveyed: Surveyor
) -> None:
    page = open_report(visit, surveyed)
    stops: list[dict[str, object]] = []
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        stops.append(page.evaluate(FOCUSED))
    names = " | ".join(f"{stop['role']} {stop['name']}" for stop in stops)
    order = ["Skip to the content", "group Tokens on the principal", "Search the tokens in holes", "grid Black holes",
             "Search tokens", "grid All tokens", "Copy"]  # fmt: skip
    places = [names.find(name) for name in order]
    assert -1 not in places, names
    assert places == sorted(places), names
    assert [stop for stop in stops if not stop["seen"]] == []
    assert [stop for stop in stops if not stop["inView"]] == []


def test_a_hole_is_found_unfolded_and_followed_by_keyboard_alone(visit: Visitor, surveyed: Surveyor) -> None:
    page = open_report(visit, surveyed)
    while "Search the tokens in holes" not in str(page.evaluate(FOCUSED)["name"]):
        page.keyboard.press("Tab")
    page.keyboard.type("jupyter_text")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    detail = page.locator("#holes .grid-detail")
    expect(detail).to_contain_text("<jupyter_output>")
    expect(page.locator(".cloud-canvas")).to_have_attribute("data-highlighted", "2")
    while not str(page.evaluate(FOCUSED)["name"]).startswith("Show all 2"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#tokens output")).to_have_text("2 of 49,152 rows")


def raw_texts(page: Page) -> str:
    """All that is on the page to be read, attributes among it."""
    return str(
        page.evaluate("""() => [...document.querySelectorAll("body, body *")].flatMap((element) => {
            if (element.localName === "script") return [];
            const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data);
            return own.concat([...element.attributes].map((attribute) => attribute.value));
        }).join("\\n")""")
    )


def test_hostile_texts_are_shown_as_texts_and_do_nothing(visit: Visitor, surveyed: Surveyor) -> None:
    page = open_report(visit, surveyed, "hostile")
    page.locator("#holes .grid-row").first.click()
    table = page.locator("#tokens")
    shown = {row[1] for row in cells(table)}
    for _ in range(4):
        table.locator(".grid-box").evaluate("box => { box.scrollTop += 500 }")
        page.wait_for_timeout(100)
        shown |= {row[1] for row in cells(table)}
    for text in ("<script>document.title='taken'</script>", "<!--", "\\u202egnp.exe", "\\x00", "a\\x00b", "=cmd()",
                 "\\x1b[31mred\\x7f\\x85", "{{ 7 * 7 }}${7 * 7}", "&lt;script&gt;&amp;", "__proto__"):  # fmt: skip
        assert text in shown
    assert "taken" not in page.title()
    assert page.locator("img, iframe, form, a[href^=javascript]").count() == 0
    text = raw_texts(page)
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []
    assert max(len(line) for line in text.split("\n")) < 6_000
    assert "\\udcff" in page.locator("h1, .eyebrow").first.inner_text() + page.locator("main").inner_text()
    table.get_by_role("searchbox").fill("</script>")
    assert len(cells(table)) == 2
    table.get_by_role("searchbox").fill("constructor")
    assert [row[1] for row in cells(table)] == ["constructor"]


@pytest.mark.parametrize("make", [checkpoints.many_rows, checkpoints.many_holes], ids=lambda make: make.__name__)
def test_a_page_at_its_extremes_keeps_its_document_small_and_its_rows_in_reach(
    visit: Visitor, surveyed: Surveyor, make: "checkpoints.Maker"
) -> None:
    survey = surveyed(make)
    page = open_page(visit, survey)
    manifest = json.loads((survey / "manifest.json").read_text())
    n_rows, n_holes = manifest["tensor"]["shape"][0], manifest["statistics"]["black_holes"]
    assert page.locator(".grid-row").count() < 200
    assert page.locator("body *").count() < 6_000
    for name, last in (("#tokens", n_rows), ("#holes", n_holes)):
        page.locator(f"{name} [role=grid]").focus()
        page.keyboard.press("End")
        expect(page.locator(f"{name} .grid-row.current")).to_be_in_viewport()
        expect(page.locator(f"{name} .grid-row.current")).to_have_attribute("aria-rowindex", str(last + 1))
    page.locator("#tokens").get_by_role("searchbox").fill("token19999")
    expect(page.locator("#tokens output")).not_to_have_text(f"{n_rows:,} rows")
    assert cells(page.locator("#tokens"))[0][1] == "token19999"
