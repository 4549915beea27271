"""The page of one model, ``report.md``: the manifest made readable. It knows nothing that the manifest does not."""

import json
from pathlib import Path
from typing import Final

import jinja2

from job.manifest.schema import Manifest
from job.report.text import escape
from job.store.json_file import to_json

_MAX_HOLES: Final = 100
_MAX_TOKENS: Final = 50
"""What a person still scrolls through; the manifest has them all."""

_TIE: Final = {
    "tied": "yes, stored once",
    "tied_copy": "a copy is stored",
    "untied": "no",
    "config_says_tied_but_differ": "no, although the config says so",
}

_MARKDOWN: Final = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#&~"} | {"\n": " ", "\r": " "})


def _plain(text: str) -> str:
    """Text that stays text in Markdown, in a table too."""
    return escape(text).translate(_MARKDOWN)


def _token(text: str | None) -> str:
    return "—" if text is None else f'"{_plain(text)}"'


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.6g}"


def model_page(manifest: Manifest) -> str:
    """The page as Markdown. Every text from a checkpoint is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not HTML; texts go through |plain and |token
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": _plain, "token": _token, "number": _number, "count": "{:,}".format}
    holes = [{**hole, "tokens": hole["tokens"][:_MAX_TOKENS]} for hole in manifest["black_holes"][:_MAX_HOLES]]
    shown_part = json.loads(to_json({**manifest, "black_holes": holes}))
    return environment.get_template("model.md.j2").render(m=shown_part, tie_in_words=_TIE)
