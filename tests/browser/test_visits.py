"""The faults that the other tests look for are found where they are."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Origin, Visitor
from tests.browser.serving import folder_over_http
from tests.browser.visits import VIEWS, View, faults_of, visiting

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def page_with(head: str = "", body: str = "") -> str:
    """A page without faults, but for what is put into it."""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">{head}</head><body><main><h1>A page</h1>{body}</main></body></html>"""


def strict(body: str) -> str:
    return page_with(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">', body)


FAULTS = {
    "console error": (page_with(body="<script>console.error('lost')</script>"), "console error: lost"),
    "console warning": (page_with(body="<script>console.warn('odd')</script>"), "console warning: odd"),
    "exception": (page_with(body="<script>throw new Error('broken')</script>"), "exception: broken"),
    "rejection": (page_with(body="<script>Promise.reject(new Error('late'))</script>"), "exception: late"),
    "request of an image": (page_with(body='<img alt="a" src="http://127.0.0.1:9/a.png">'), "request: GET http://127"),
    "request of a font": (
        page_with("<style>@font-face { font-family: a; src: url(http://a.example) } body { font: 1em a }</style>"),
        "request: GET http://a.example",
    ),
    "request by a script": (page_with(body="<script>fetch('http://a.example')</script>"), "request: GET"),
    "a beacon": (page_with(body="<script>navigator.sendBeacon('http://a.example')</script>"), "request: POST"),
    "a socket": (page_with(body="<script>new WebSocket('ws://127.0.0.1:9')</script>"), "request: ws://127.0.0.1:9"),
    "a stylesheet beside the page": (page_with('<link rel="stylesheet" href="a.css">'), "request: GET"),
    "a violation of the policy by a style": (strict('<p style="color: red">a</p>').replace(
        "style-src 'unsafe-inline'", "style-src 'none'"), "Content Security Policy"),
    "a violation of the policy by a request": (strict("<script>fetch('http://a.example').catch(() => 0)</script>"),
        "Content Security Policy"),
    "contrast": (page_with(body='<p style="color: #bbb; background: #fff">pale</p>'), "axe: color-contrast (serious)"),
    "a button without a name": (page_with(body="<button></button>"), "axe: button-name (critical)"),
    "an overflow": (page_with(body='<div style="width: 3000px">wide</div>'), "wider than the window: 3"),
    "small print": (page_with(body='<p style="font-size: 8px">small</p>'), "text too small: p.null: 8 px"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), FAULTS.values(), ids=FAULTS)
def test_each_fault_of_a_page_is_found(browser: Browser, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "page.html").write_text(content)
    with folder_over_http(tmp_path) as folder, visiting(browser, f"{folder}/page.html") as visit:
        visit.page.wait_for_load_state("networkidle")
        faults = faults_of(visit)
    assert any(expected in fault for fault in faults), faults


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("origin", ["file", "http"])
def test_a_page_without_faults_has_none_in_any_view(visit: Visitor, tmp_path: Path, view: View, origin: Origin) -> None:
    (tmp_path / "page.html").write_text(strict("<script>document.title = innerWidth</script>"))
    page = visit(tmp_path / "page.html", view, origin).page
    assert page.title() == str(view.width)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (view.colours == "dark")
    assert page.evaluate("isSecureContext") == (origin == "file")
