"""The pages that people read, as text, for the tests that hold them to the code."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text("utf-8")
DOCS: Final = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
"""The pages in docs/, by name without ending."""
DOCUMENTATION: Final = "\n".join([README, *DOCS.values()])
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def section(page: str, heading: str) -> str:
    """A section of a page, up to the next heading of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n", page, re.MULTILINE)
    assert found, heading
    return re.split(rf"^#{{1,{len(found[1])}}} ", page[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in a text, headings left out."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    headings = re.findall(r"^\| (.*?) \|.*\n\|-", text, re.MULTILINE)
    return [cell for cell in rows if cell not in headings]


def named_in_first_cells(text: str) -> list[str]:
    """What stands in backticks in the first cells of the tables in a text."""
    return [name for cell in first_cells(text) for name in re.findall(r"`([^`]+)`", cell)]
