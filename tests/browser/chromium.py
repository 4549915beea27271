"""The Chromium that the pages are tried in: found on this machine, never downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""How distributions call it on the PATH."""
PAGES_HOST: Final = "surveys.example"
"""A host name of this machine, as the browser resolves it. To the browser it is no secure context, unlike 127.0.0.1."""
FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {PAGES_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class NoChromium(Exception):
    """There is none, or CHROME names something else."""


def chromium_path() -> str:
    """The program that CHROME names, else the first of NAMES on the PATH.

    Raises:
        NoChromium: with what to install.
    """
    named = os.environ.get("CHROME")
    candidates = (named,) if named else NAMES
    for candidate in candidates:
        if path := shutil.which(candidate):
            return path
    where = f"CHROME={named}" if named else "PATH"
    raise NoChromium(
        f"{where}: found no Chromium, expected {named or ' or '.join(NAMES)}; "
        "install it (Debian, Ubuntu: apt install chromium), or name one: make test-pages CHROME=/path/to/chromium"
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with an empty profile, until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()
