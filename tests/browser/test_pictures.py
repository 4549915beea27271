"""The pictures and the token cloud, by themselves: what the pointer and the keyboard do, and what is downloaded."""

import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from job.report.pages.document import Page as Document
from job.report.pages.document import page_bytes
from tests.browser.conftest import Visitor
from tests.browser.visits import VIEWS, WIDE, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

BODY: Final = (
    '<main><h1>Pictures</h1><h2>The cloud</h2><div id="cloud"></div><h2>Charts</h2><div id="charts"></div></main>'
)
SCRIPTS: Final = (
    *("columns.js", "scales.js", "members.js", "figures.js", "norms_chart.js", "populations_chart.js"),
    *("makeup_chart.js", "distances_chart.js", "charts.js", "sky.js", "cloud_marks.js", "cloud_view.js"),
    *("cloud_input.js", "cloud.js"),
)
SURVEY: Final = """([n, nHoles, together]) => {
    let seed = 1;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const normal = () => random() + random() + random() - 1.5;
    const hole = new Int32Array(n), norm = new Float32Array(n), gammaNorm = new Float32Array(n);
    const klass = new Uint8Array(n), script = new Uint8Array(n), coordinates = new Float32Array(3 * n);
    for (let i = 0; i < n; i++) {
        norm[i] = 3 + normal();
        gammaNorm[i] = 2 + normal();
        klass[i] = i % 50 ? 0 : 1;
        script[i] = i % 3;
        for (let axis = 0; axis < 3; axis++) coordinates[3 * i + axis] = (3 - axis) * normal();
    }
    const holes = [];
    for (let number = 1; number <= nHoles; number++) {
        const place = number <= together ? [1, 0.5, 0.1] : [2 * normal(), normal(), normal()];
        for (const i of [10 * number, 10 * number + 1]) {
            hole[i] = number;
            coordinates.set(place, 3 * i);
        }
        holes.push({ id: number, population: 2, norm: 3 });
    }
    coordinates[3 * (n - 1)] = NaN;
    const shown = Math.min(nHoles, 200);
    const holeDistances = new Float32Array(shown * shown);
    for (let a = 0; a < shown; a++) {
        for (let b = 0; b < shown; b++) holeDistances[a * shown + b] = Math.abs(a - b) / 7;
    }
    return { n, hiddenSize: 16, dtype: "BF16", hole, norm, gammaNorm, klass, classNames: ["ordinary", "special"],
        script, scriptNames: ["Latin", "Han", ""], coordinates, explained: [0.5, 0.25, 0.1], holes, holeDistances,
        text: Array.from({ length: n }, (_, i) => i === 7 ? "<b>bold</b>" : `token${i}`) };
}"""
DRAW: Final = """([survey, without]) => {
    for (const name of without) survey[name] = null;
    window.picked = [];
    const onPick = (ids) => window.picked.push([...ids]);
    window.sky_ = cloud.create(document.getElementById("cloud"), survey, { onPick });
    charts.draw(document.getElementById("charts"), survey, { onPick });
}"""


def open_pictures(
    visit: Visitor, folder: Path, *, n: int = 4_000, holes: int = 12, together: int = 4, without: tuple[str, ...] = (),
    view: View = WIDE,
) -> Page:  # fmt: skip
    path = folder / "pictures.html"
    path.write_bytes(page_bytes(Document("Pictures", BODY, styles=("page.css", "pictures.css"), scripts=SCRIPTS)))
    page = visit(path, view).page
    page.evaluate(DRAW, [page.evaluate_handle(SURVEY, [n, holes, together]), list(without)])
    page.wait_for_function(
        "() => document.querySelector('.cloud-canvas')?.dataset.scale || !document.querySelector('canvas')"
    )
    return page


def canvas(page: Page) -> Locator:
    return page.locator(".cloud-canvas")


def data(page: Page, name: str) -> str:
    """What the cloud says of itself, after it is drawn again."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return canvas(page).get_attribute(f"data-{name}") or ""


def point_at(page: Page, token: int) -> None:
    """Hover over a token's place on the canvas."""
    canvas(page).scroll_into_view_if_needed()
    x, y = page.evaluate("id => sky_.place(id)", token)
    box = canvas(page).bounding_box()
    assert box
    page.mouse.move(box["x"] + x, box["y"] + y)


def test_hovering_tells_the_token_or_the_hole_and_a_click_picks_it(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    point_at(page, 7)
    tip = page.locator(".cloud-sky .picture-tip")
    expect(tip).to_contain_text("“<b>bold</b>”")
    expect(tip).to_contain_text("id 7 · ordinary · Han")
    page.mouse.down()
    page.mouse.up()
    point_at(page, 100)
    expect(tip).to_contain_text("hole 10: 2 tokens")
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("picked") == [[7], [100, 101]]


def test_the_wheel_zooms_at_the_pointer_and_dragging_moves(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    point_at(page, 7)
    before = page.evaluate("sky_.place(7)")
    scrolled = page.evaluate("scrollY")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function("() => Number(document.querySelector('.cloud-canvas').dataset.scale) > 1.5")
    after = page.evaluate("sky_.place(7)")
    assert after == pytest.approx(before, abs=1.5)
    assert page.evaluate("scrollY") == scrolled
    page.mouse.down()
    page.mouse.move(*[sum(pair) for pair in zip(_pointer(page, after), (60, 30), strict=True)], steps=4)
    page.mouse.up()
    assert page.evaluate("sky_.place(7)") == pytest.approx([after[0] + 60, after[1] + 30], abs=2)
    assert page.evaluate("picked") == []
    page.get_by_role("button", name="Show all again").click()
    page.wait_for_function("() => Number(document.querySelector('.cloud-canvas').dataset.scale) === 1")
    assert page.evaluate("sky_.place(7)") == pytest.approx(before, abs=1.5)


def _pointer(page: Page, place: list[float]) -> tuple[float, float]:
    box = canvas(page).bounding_box()
    assert box
    return box["x"] + place[0], box["y"] + place[1]


def test_the_wheel_without_a_click_scrolls_the_page(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    point_at(page, 7)
    scrolled = page.evaluate("scrollY")
    page.mouse.wheel(0, 200)
    page.wait_for_function("before => scrollY > before", arg=scrolled)
    assert data(page, "scale") == "1.0000"


def test_holes_that_lie_together_are_told_apart(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    discs = json.loads(data(page, "discs"))
    together = [disc for disc in discs if set(disc[2:]) & {1, 2, 3, 4}]
    assert len(together) == 4
    for x, y, number in together:
        canvas(page).hover(position={"x": x, "y": y})
        expect(page.locator(".cloud-sky .picture-tip")).to_contain_text(f"hole {number}: 2 tokens")


def pixels(page: Page) -> "NDArray[np.uint8]":
    """(height, width, 3) what is seen of the cloud."""
    return np.asarray(Image.open(io.BytesIO(canvas(page).screenshot())).convert("RGB"))


def test_the_cloud_is_seen_by_night_and_what_is_lit_stands_out(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    night = pixels(page)
    assert 0.3 < (night.max(axis=2) < 20).mean() < 0.99
    assert len(np.unique(night.reshape(-1, 3), axis=0)) > 200
    page.evaluate("sky_.highlight([200])")
    assert data(page, "highlighted") == "1"
    x, y = (round(value) for value in page.evaluate("sky_.place(200)"))
    assert pixels(page)[y, x].tolist() == [0x7F, 0xDB, 0xFF]
    page.evaluate("sky_.highlight([])")
    assert data(page, "highlighted") == "0"
    assert (pixels(page) == night).all()


def test_directions_and_colours_are_chosen(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    page.locator("[data-picture=cloud]").get_by_role("combobox", name="directions").select_option("1 × 3")
    assert data(page, "axes") == "1×3"
    for title, kind in (("class", "class"), ("third direction", "third"), ("norm", "norm")):
        page.locator("[data-picture=cloud]").get_by_role("combobox", name="colour").select_option(title)
        assert data(page, "colour") == kind


def test_the_keyboard_moves_zooms_and_goes_from_hole_to_hole(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    page.locator(".cloud-sky").focus()
    x, y = page.evaluate("sky_.place(7)")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("sky_.place(7)") == pytest.approx([x + 60, y + 60], abs=1)
    page.keyboard.press("+")
    assert float(data(page, "scale")) == pytest.approx(1.5)
    page.keyboard.press("0")
    assert data(page, "scale") == "1.0000"
    page.keyboard.press("n")
    assert data(page, "hover") == "hole 1"
    page.keyboard.press("n")
    expect(page.locator(".cloud-sky .picture-tip")).to_contain_text("hole 2: 2 tokens")
    page.keyboard.press("Enter")
    assert page.evaluate("picked") == [[20, 21]]
    page.keyboard.press("Escape")
    expect(page.locator(".cloud-sky .picture-tip")).to_be_hidden()


def pictures(page: Page) -> list[str]:
    return [
        name
        for name in page.locator("[data-picture]").evaluate_all("nodes => nodes.map((node) => node.dataset.picture)")
        if page.locator(f"[data-picture={name}] [data-download]").count()
    ]


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[3]], ids=str)
def test_every_picture_downloads_as_png_and_as_svg(visit: Visitor, tmp_path: Path, view: View) -> None:
    page = open_pictures(visit, tmp_path, view=view)
    assert set(pictures(page)) >= {"cloud", "norms", "populations", "makeup", "matrix", "distances"}
    for name in pictures(page):
        figure = page.locator(f"[data-picture={name}]")
        with page.expect_download() as downloading:
            figure.locator("[data-download=png]").click()
        assert downloading.value.suggested_filename.endswith(".png")
        image = Image.open(downloading.value.path())
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 150
        assert len(image.convert("RGB").getcolors(2**24) or []) > 2, name
        with page.expect_download() as downloading:
            figure.locator("[data-download=svg]").click()
        content = Path(downloading.value.path()).read_text("utf-8")
        root = ElementTree.fromstring(content)  # noqa: S314 - our own
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.attrib["width"]) > 250
        texts = "".join(root.itertext())
        assert texts.strip()
        assert "http" not in content.replace("http://www.w3.org/2000/svg", "").replace(
            "http://www.w3.org/1999/xlink", ""
        )


def test_the_marks_of_a_chart_are_told_and_picked_by_pointer_and_by_keyboard(visit: Visitor, tmp_path: Path) -> None:
    page = open_pictures(visit, tmp_path)
    plot = page.locator("[data-picture=populations] .picture-plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(plot.locator(".picture-tip")).to_contain_text("hole 2")
    page.keyboard.press("Enter")
    assert page.evaluate("picked") == [[20, 21]]
    plot.locator(".picture-hole").nth(4).hover()
    expect(plot.locator(".picture-tip")).to_contain_text("hole 5")


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("holes", [0, 1, 12, 1_500])
def test_pictures_of_any_number_of_holes_have_no_faults(visit: Visitor, tmp_path: Path, view: View, holes: int) -> None:
    page = open_pictures(visit, tmp_path, n=20_000, holes=holes, together=min(holes, 3), view=view)
    for plot in page.locator("[data-picture]").all():
        plot.scroll_into_view_if_needed()
    assert page.locator("body *").count() < 6_000


@pytest.mark.parametrize(
    "without",
    [
        ("coordinates", "explained"),
        ("norm", "gammaNorm", "klass", "script", "text"),
        ("coordinates", "explained", "norm", "gammaNorm", "klass", "script", "text", "holeDistances"),
    ],
    ids=["projection", "tokens", "both"],
)
def test_what_the_survey_lacks_is_said_with_what_gives_it(
    visit: Visitor, tmp_path: Path, without: tuple[str, ...]
) -> None:
    page = open_pictures(visit, tmp_path, without=without)
    missing = page.locator(".picture-missing")
    assert ("projection" in "".join(missing.all_inner_texts())) == ("coordinates" in without)
    assert ("“tokens”" in "".join(missing.all_inner_texts())) == ("norm" in without)
