"""The page of one model, ``report.md``. All its content comes from the manifest."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from job.manifest.schema import Manifest
from job.report.text import escape
from job.report.wording import CLASS_TEXTS, LIST_TEXTS, TIE_TEXTS
from job.store.json_file import json_value

if TYPE_CHECKING:
    import jinja2

_MAX_HOLES: Final = 100
_MAX_TOKENS: Final = 50
"""The number of black holes on the page, and of tokens for each; the manifest has all."""

_MARKDOWN: Final = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#&~"} | {"\n": " ", "\r": " "})


def _plain(text: str) -> str:
    """The text, escaped so that Markdown shows it as it is, also in a table."""
    return escape(text).translate(_MARKDOWN)


def _code(text: str) -> str:
    """An id as code; what is no id, as plain text."""
    return f"`{text}`" if text.isascii() and text.isalnum() else _plain(text)


def _token(text: str | None) -> str:
    return "—" if text is None else f'"{_plain(text)}"'


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.6g}"


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not HTML; texts go through |plain and |token
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": _plain, "code": _code, "token": _token, "number": _number, "count": "{:,}".format}
    return environment.get_template("model.md.j2")


def model_page(manifest: Manifest) -> str:
    """The page as Markdown. All texts from a checkpoint are escaped."""
    holes = [{**hole, "tokens": hole["tokens"][:_MAX_TOKENS]} for hole in manifest["black_holes"][:_MAX_HOLES]]
    content = json_value({**manifest, "black_holes": holes})
    return _template().render(m=content, tie_texts=TIE_TEXTS, class_texts=CLASS_TEXTS, list_texts=LIST_TEXTS)
