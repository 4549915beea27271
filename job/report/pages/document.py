"""Puts a page together: one HTML file with its style, scripts and data, whose own policy lets nothing else run or load.

Texts from a checkpoint come in as the body that an escaping template made, as columns, or as facts. None of them can
end a script, since base64 has no ``<``, and the JSON of the facts writes it as an escape.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from html import escape as escape_html
from pathlib import Path
from typing import TYPE_CHECKING, Final

from job import __version__
from job.report.pages.columns import Column, shown_text
from job.report.text import escape
from job.store.json_file import json_value

if TYPE_CHECKING:
    import jinja2

GENERATOR: Final = f"black-hole-survey {__version__}"
"""What a page names as its maker."""
_FOLDER: Final = Path(__file__).parent
_JSON_ESCAPES: Final = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    title: str
    """Plain text."""
    body: str
    """HTML, made by a template of ``template``."""
    scripts: tuple[str, ...] = ()
    """Names of files in this folder, which run in this order."""
    styles: tuple[str, ...] = ("page.css",)
    """Names of files in this folder, which become one style in this order."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """By name: letters, digits and hyphens."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What is small and not a column, for the scripts: JSON."""


def page_bytes(page: Page) -> bytes:
    """The page as a file. The same content gives the same bytes."""
    return "".join(_parts(page)).encode("utf-8", "backslashreplace")


def _parts(page: Page) -> Iterator[str]:
    style, scripts = "".join(map(_source, page.styles)), [_source(name) for name in page.scripts]
    policy = "; ".join(
        (
            "default-src 'none'",
            "script-src " + (" ".join(map(_hash_source, scripts)) or "'none'"),
            f"style-src {_hash_source(style)}",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape_html(shown_text(page.title))}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{page.body}\n"
    )
    facts = json.dumps(json_value(page.facts), allow_nan=False, separators=(",", ":"))
    yield f'<script type="application/json" id="facts">{facts.translate(_JSON_ESCAPES)}</script>\n'
    for name, column in page.columns.items():
        yield (
            f'<script type="application/octet-stream" id="col-{escape_html(name)}" data-type="{column.type}"'
            f' data-length="{column.length}">'
        )
        yield column.content
        yield "</script>\n"
    for source in scripts:
        yield f"<script>{source}</script>\n"
    yield "</body>\n</html>\n"


@cache
def _source(name: str) -> str:
    """A style or script of this folder.

    Raises:
        ValueError: a part of it would end its tag, or begin a comment.
    """
    source = (_FOLDER / name).read_text("utf-8")
    if any(part in source.lower() for part in ("</script", "<script", "</style", "<!--")):
        raise ValueError(f"{name}: holds a tag of script or style, or begins a comment; write it in two parts")
    return source


def _hash_source(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"


@cache
def template(name: str) -> "jinja2.Template":
    """A template of this folder, which escapes what it is given: for HTML, and what does not print as itself. Its
    filters: ``shown`` cuts long texts, ``count`` and ``number`` are for numbers, ``percent`` for shares."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=lambda value: escape(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown_text, "count": "{:,}".format, "number": _number, "percent": _percent}
    return environment.get_template(name)


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:,.5g}"


def _percent(share: float | None) -> str:
    return "not a number" if share is None else f"{100 * share:.3g} %"
