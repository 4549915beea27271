"""The table of the pages, by itself: what it shows of any number of rows, sorted, searched, scrolled, unfolded."""

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, expect

from job.report.pages.columns import text_column
from job.report.pages.document import Page as Document
from job.report.pages.document import page_bytes
from tests.browser.conftest import Visitor

BODY: Final = '<main><h1>A table</h1><button class="button" type="button">before</button><div id="table"></div></main>'
CREATE: Final = """async ([n, values]) => {
    const words = await columns.read("words");
    window.picked = [];
    window.filtered = [];
    window.made = table.create(document.getElementById("table"), {
        n, label: "All the words", noun: "words", searchLabel: "Search the words",
        columns: [
            { name: "id", title: "id", kind: "number", value: (i) => i },
            { name: "value", title: "value", kind: "number", value: (i) => values ? values[i] : i % 7 },
            { name: "word", title: "word", kind: "text", value: (i) => words[i % words.length],
              search: (i) => words[i % words.length] },
        ],
        filters: [
            { name: "parity", title: "parity", options: [{ value: 0, title: "even" }, { value: 1, title: "odd" }],
              test: (i, value) => i % 2 === Number(value) },
            { name: "first", title: "the first ten", test: (i) => i < 10 },
        ],
        onPick: (ids) => window.picked.push([...ids]),
        onFilter: (ids) => window.filtered.push(ids && ids.length),
        detail: (element, i) => { element.textContent = `all of word ${i}`; },
    });
}"""
IN_DOCUMENT: Final = 200
"""Rows that the document may hold, however many the table has."""


def open_table(
    visit: Visitor, folder: Path, words: list[str], n: int | None = None, values: list[float | None] | None = None
) -> Page:
    scripts = ("columns.js", "table.js")
    document = Document("A table", BODY, scripts=scripts, columns={"words": text_column(words)})
    (folder / "table.html").write_bytes(page_bytes(document))
    page = visit(folder / "table.html").page
    page.evaluate(CREATE, [n or len(words), values])
    return page


def rows(page: Page) -> Locator:
    return page.locator(".grid-row")


def words_in_sight(page: Page) -> list[str]:
    """The last cells of the rows, from above."""
    found = page.locator(".grid-row").evaluate_all(
        "rows => rows.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map((row) => row.lastElementChild.textContent)"
    )
    return [str(word) for word in found]


def test_a_search_finds_parts_of_words_in_any_case_and_nothing_else(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, ["Alpha", "beta", "ALPHABET", "", "gamma"])
    search = page.get_by_label("Search the words")
    search.fill("alpha")
    assert words_in_sight(page) == ["Alpha", "ALPHABET"]
    expect(page.locator("output")).to_have_text("2 of 5 words")
    search.fill("abetgamma")  # of two words that are neighbours
    expect(page.get_by_text("None of the words match.")).to_be_visible()
    search.fill("")
    assert len(words_in_sight(page)) == 5
    assert page.evaluate("filtered") == [2, 0, None]


@pytest.mark.parametrize("searched", ["\u202eabc", "\\u202eabc"], ids=["raw", "as shown"])
def test_a_text_that_does_not_print_is_found_raw_and_as_it_is_shown(
    visit: Visitor, tmp_path: Path, searched: str
) -> None:
    page = open_table(visit, tmp_path, ["\u202eabc", "abc", ".*", "<b>"])
    page.get_by_label("Search the words").evaluate(
        "(input, text) => { input.value = text; input.dispatchEvent(new Event('input')) }", searched
    )
    assert words_in_sight(page) == ["\\u202eabc"]


def test_a_search_takes_no_character_for_a_pattern(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, ["a.*b", "axxb", "a(b", "[z-a]"])
    for text, found in ((".*", ["a.*b"]), ("(", ["a(b"]), ("[z-a]", ["[z-a]"])):
        page.get_by_label("Search the words").fill(text)
        assert words_in_sight(page) == found


def test_columns_sort_both_ways_and_what_is_no_number_comes_last(visit: Visitor, tmp_path: Path) -> None:
    values: list[float | None] = [2.5, None, -1, 10, float("nan"), 2.5]
    page = open_table(visit, tmp_path, ["a", "b", "c", "d", "e", "f"], values=values)
    page.get_by_role("button", name="value").click()
    assert words_in_sight(page) == ["d", "a", "f", "c", "b", "e"]
    page.get_by_role("button", name="value").click()
    assert words_in_sight(page) == ["c", "a", "f", "d", "b", "e"]
    assert page.locator("[aria-sort=ascending]").inner_text() == "value"


def test_a_choice_and_a_check_box_and_a_search_hold_at_once(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, [f"word {n}" for n in range(40)])
    page.get_by_label("parity").select_option("odd")
    page.get_by_label("the first ten").check()
    assert words_in_sight(page) == [f"word {n}" for n in (1, 3, 5, 7, 9)]
    page.get_by_label("Search the words").fill("word 3")
    assert words_in_sight(page) == ["word 3"]
    page.get_by_label("parity").select_option("all")
    page.get_by_label("the first ten").uncheck()
    expect(page.locator("output")).to_have_text("11 of 40 words")


@pytest.mark.parametrize("n", [40_000, 262_144, 1_000_000])
def test_every_row_of_a_large_table_can_be_reached_and_few_are_in_the_document(
    visit: Visitor, tmp_path: Path, n: int
) -> None:
    page = open_table(visit, tmp_path, [f"word {number}" for number in range(1_000)], n)
    box = page.locator(".grid-box")
    for place in (0, 0.37, 0.5, 1):
        box.evaluate("(box, place) => { box.scrollTop = box.scrollHeight * place }", place)
        page.wait_for_function(
            """([n, place]) => {
                const box = document.querySelector(".grid-box").getBoundingClientRect();
                return [...document.querySelectorAll(".grid-row")].some((row) => {
                    const { top, bottom } = row.getBoundingClientRect();
                    const id = Number(row.getAttribute("aria-rowindex")) - 2;
                    return bottom > box.top && top < box.bottom && Math.abs(id - n * place) < 30;
                });
            }""",
            arg=[n, place],
        )
        assert 10 < rows(page).count() < IN_DOCUMENT
    page.get_by_role("grid").focus()
    page.keyboard.press("End")
    expect(page.locator(f"[aria-rowindex='{n + 1}']")).to_be_in_viewport()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.evaluate("picked") == [[n - 2]]
    expect(page.get_by_text(f"all of word {n - 2}")).to_be_in_viewport()


def test_the_wheel_moves_the_rows_by_as_much_as_it_turns(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, [f"word {number}" for number in range(1_000)], 262_144)
    page.locator(".grid-box").hover()
    page.mouse.wheel(0, 700)
    page.wait_for_timeout(200)
    ids = [int(word.removeprefix("word ")) for word in words_in_sight(page)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert 5 < ids[0] < 30


def test_a_row_unfolds_and_folds_and_those_below_make_room(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, [f"word {number}" for number in range(1_000)])
    second, third = rows(page).nth(1), rows(page).nth(2)
    second.click()
    detail = page.get_by_text("all of word 1", exact=True)
    expect(detail).to_be_visible()
    place, below = detail.bounding_box(), third.bounding_box()
    assert place
    assert below
    assert below["y"] >= place["y"] + place["height"]
    second.click()
    expect(detail).not_to_be_visible()
    assert page.evaluate("picked") == [[1], [1]]


def test_rows_that_another_picture_names_are_shown_even_if_the_search_hides_them(
    visit: Visitor, tmp_path: Path
) -> None:
    page = open_table(visit, tmp_path, [f"word {number}" for number in range(1_000)])
    page.get_by_label("Search the words").fill("word 1")
    page.evaluate("made.show([777])")
    expect(page.locator("[aria-selected=true]")).to_have_count(1)
    expect(page.locator("[aria-selected=true]")).to_be_in_viewport()
    expect(page.locator("[aria-selected=true]")).to_contain_text("word 777")
    expect(page.get_by_label("Search the words")).to_have_value("")


def test_the_keyboard_alone_reaches_the_rows_and_moves_among_them(visit: Visitor, tmp_path: Path) -> None:
    page = open_table(visit, tmp_path, [f"word {number}" for number in range(1_000)])
    page.get_by_label("Search the words").focus()
    page.keyboard.type("word 2")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("grid")).to_be_focused()
    current = page.locator(".grid-row.current")
    expect(current).to_contain_text("word 2")
    page.keyboard.press("ArrowDown")
    expect(current).to_contain_text("word 20")
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageUp")
    expect(current).to_contain_text("word 2")
    assert page.get_by_role("grid").get_attribute("aria-activedescendant") == current.get_attribute("id")
    page.keyboard.press("Space")
    assert page.evaluate("picked") == [[2]]
    expect(page.get_by_text("all of word 2", exact=True)).to_be_visible()
    expect(page.get_by_role("grid")).to_be_focused()
