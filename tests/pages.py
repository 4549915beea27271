"""HTML pages as an independent parser sees them."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"f32": "<f4", "u8": "u1", "u16": "<u2", "i32": "<i4"}


@dataclass
class Element:
    """A script or style with its attributes and its text."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class ParsedPage(HTMLParser):
    """What a page is made of."""

    content: bytes
    elements: list[Element] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    """Of all elements: tag, attribute, value."""
    texts: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: Element | None = None
        self.feed(self.content.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in found.items()]
        if tag in ("td", "th", "p", "dt", "dd"):
            self.texts.append(" ")
        if tag in ("script", "style"):
            self._open = Element(tag, found)
            self.elements.append(self._open)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open.text += data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def text(self) -> str:
        """What a reader sees before a script runs, with blanks as in HTML."""
        return re.sub(r"\s+", " ", "".join(self.texts))

    @property
    def policy(self) -> dict[str, list[str]]:
        """The directives of the page's own policy."""
        (content,) = (
            dict(found)["content"]
            for found in self._metas()
            if dict(found).get("http-equiv", "") == "Content-Security-Policy"
        )
        return {parts[0]: parts[1:] for parts in (directive.split() for directive in content.split(";"))}

    def _metas(self) -> list[list[tuple[str, str]]]:
        metas = re.findall(r"<meta ([^>]*)>", self.content.decode("utf-8").partition("</head>")[0])
        return [re.findall(r'([\w-]+)="([^"]*)"', meta) for meta in metas]

    @property
    def facts(self) -> Any:
        """The page's facts."""
        (element,) = (element for element in self.elements if element.attributes.get("id") == "facts")
        return json.loads(element.text)

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers."""
        return np.asarray(self.column(name))

    def column(self, name: str) -> "NDArray[Any] | list[str]":
        """A column of the page's data."""
        (element,) = (element for element in self.elements if element.attributes.get("id") == f"col-{name}")
        content = zlib.decompress(base64.b64decode(element.text, validate=True), -15)
        kind, length = element.attributes["data-type"], int(element.attributes["data-length"])
        values: NDArray[Any] | list[str] = (
            (content.decode("utf-8").split("\0") if length else [])
            if kind == "text"
            else np.frombuffer(content, TYPES[kind])
        )
        assert len(values) == length
        return values


def hash_source(text: str) -> str:
    """How a policy names a script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def assert_harmless(page: ParsedPage) -> None:
    """Nothing runs on the page but what its policy names, and nothing is loaded."""
    policy = page.policy
    assert policy["default-src"] == ["'none'"]
    running = [element for element in page.elements if element.tag == "script" and "type" not in element.attributes]
    assert policy["script-src"] == [hash_source(element.text) for element in running]
    assert policy["style-src"] == [hash_source(element.text) for element in page.elements if element.tag == "style"]
    inert = {element.attributes["type"] for element in page.elements if "type" in element.attributes}
    assert inert <= {"application/json", "application/octet-stream"}
    assert {
        tag for tag, _, _ in page.attributes if tag in ("img", "iframe", "object", "embed", "form", "base")
    } == set()
    names = {(tag, name) for tag, name, _ in page.attributes}
    assert not {name for _, name in names if name.startswith("on") or name == "style"}
    assert {tag for tag, name in names if name == "src"} == set()
    assert not [
        value for _, name, value in page.attributes if name == "href" and value.lower().startswith("javascript")
    ]
    assert page.comments == []
    unprintable = {char for char in page.content.decode("utf-8") if not char.isprintable() and char != "\n"}
    assert unprintable == set()
