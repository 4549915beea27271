"""A page as a person has it open, and what is wrong with it: errors, requests, violations of its policy, barriers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, Literal

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
SERIOUS: Final = ("serious", "critical")
MIN_FONT_SIZE: Final = 11
"""In CSS pixels. Smaller text is not read, whoever set it."""


@dataclass(frozen=True)
class View:
    """How a page is looked at: the window's width in CSS pixels, and the colours that the reader prefers."""

    width: int
    colours: Literal["light", "dark"]

    def __str__(self) -> str:
        return f"{self.width}-{self.colours}"


WIDE: Final = View(1280, "light")
VIEWS: Final = (WIDE, View(1280, "dark"), View(400, "light"), View(400, "dark"))


@dataclass(frozen=True)
class Visit:
    """A page that is open, and the faults that the browser has reported of it so far, a sentence each."""

    page: Page
    reported: list[str] = field(default_factory=list)


@contextmanager
def visiting(browser: Browser, address: str, view: View = WIDE) -> Iterator[Visit]:
    """Open a page in a profile of its own, and listen from its first byte on."""
    context = browser.new_context(
        viewport={"width": view.width, "height": 900}, color_scheme=view.colours, reduced_motion="reduce"
    )
    try:
        visit = Visit(context.new_page())
        _listen(context, visit, address)
        visit.page.goto(address)
        yield visit
    finally:
        context.close()


def _listen(context: BrowserContext, visit: Visit, address: str) -> None:
    """Note what a reader would find in the developer tools: the console, exceptions, crashes, the network."""
    faults = visit.reported

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            faults.append(f"console {message.type}: {message.text}")

    def on_request(request: Request) -> None:
        own = request.is_navigation_request() and request.url.partition("#")[0] == address.partition("#")[0]
        if not own and not request.url.startswith(("data:", "blob:")):
            faults.append(f"request: {request.method} {request.url}")

    context.on("console", on_console)
    context.on("weberror", lambda error: faults.append(f"exception: {error.error}"))
    context.on("request", on_request)
    visit.page.on("websocket", lambda socket: faults.append(f"request: {socket.url}"))
    visit.page.on("crash", lambda _: faults.append("the page crashed"))


def faults_of(visit: Visit) -> list[str]:
    """What is wrong with a page as it stands: all that was reported of it, and what a look at it finds."""
    visit.page.evaluate("() => new Promise(requestAnimationFrame)")  # what the last event did is on the page then
    return [*visit.reported, *barriers(visit.page), *unreadable(visit.page)]


def barriers(page: Page) -> list[str]:
    """What axe-core calls serious or critical: for somebody who hears the page, or has no mouse, or sees little."""
    page.evaluate(AXE)
    options = {"resultTypes": ["violations"], "preload": False}
    result = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"axe: {violation['id']} ({violation['impact']}): {node['target']}: {node['failureSummary']}"
        for violation in result["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


UNREADABLE: Final = """smallest => {
    const found = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {
        const beyond = [...document.body.querySelectorAll("*")].filter(
            (element) => element.getBoundingClientRect().right > root.clientWidth + 1);
        const names = beyond.slice(0, 5).map((element) => element.tagName.toLowerCase() + "#" + element.id
            + "." + element.className);
        found.push(`wider than the window: ${root.scrollWidth} > ${root.clientWidth}: ${names.join(", ")}`);
    }
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const small = new Set();
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const size = parseFloat(getComputedStyle(element).fontSize);
        if (texts.currentNode.data.trim() && size < smallest && element.checkVisibility()) {
            small.add(`${element.tagName.toLowerCase()}.${element.getAttribute("class")}: ${size} px`);
        }
    }
    return found.concat([...small].map((name) => `text too small: ${name}`));
}"""


def unreadable(page: Page) -> list[str]:
    """Where the page is wider than its window, or its text smaller than anybody reads."""
    found: list[str] = page.evaluate(UNREADABLE, MIN_FONT_SIZE)
    return found
