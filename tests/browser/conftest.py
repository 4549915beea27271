"""A browser for all the tests, and pages open in it, from a folder and over HTTP."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import NoChromium, chromium, chromium_path
from tests.browser.jobs import run_job
from tests.browser.serving import folder_over_http
from tests.browser.visits import WIDE, View, Visit, faults_of, visiting

Origin = Literal["file", "http"]
Visitor = Callable[..., Visit]
"""``visit(path, view=WIDE, origin="file")`` opens a page."""
Surveyor = Callable[..., Path]
"""``surveyed(make, *arguments)``: the folder of the survey of the checkpoint that ``make`` writes into a folder."""


def pytest_configure() -> None:
    """End before anything is tried where there is no Chromium."""
    try:
        chromium_path()
    except NoChromium as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Surveyor:
    """Surveys checkpoints, each once, by the job itself."""

    @cache
    def folder(make: Callable[[Path], Path], *arguments: str) -> Path:
        place = tmp_path_factory.mktemp("surveys")
        run_job(make(place / "checkpoints"), "--output", place / "surveys", *arguments)
        (manifest,) = (place / "surveys").rglob("manifest.json")
        return manifest.parent

    return folder


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Opens pages. When the test ends, none of them may have a fault."""
    with ExitStack() as stack:
        visits: list[Visit] = []

        def opened(path: Path, view: View = WIDE, origin: Origin = "file") -> Visit:
            address = path.as_uri()
            if origin == "http":
                address = f"{stack.enter_context(folder_over_http(path.parent))}/{path.name}"
            visits.append(stack.enter_context(visiting(browser, address, view)))
            return visits[-1]

        yield opened
        assert [fault for visited in visits for fault in faults_of(visited)] == []
