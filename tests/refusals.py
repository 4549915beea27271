"""The table in docs/refusals.md: every error for which a model is refused, and the test that shows it.

python -m tests.refusals                    writes the table anew; tests that it names are kept
python -m tests.refusals tests/unit …       runs these tests first, and names one for each refusal that has none
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

from job.errors import ModelError

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "refusals.md"
KINDS: Final = ("ModelUnavailable", "NoUnembedding", "UnsupportedCheckpoint", "CorruptCheckpoint")
VALUE: Final = "…"
"""Stands in a message for what differs from one model to the next."""
HEADING: Final = "| message | raised in | shown by |\n|---|---|---|\n"


@dataclass(frozen=True, order=True)
class Refusal:
    """An error that the code can raise for a model, with what its message says of every model."""

    kind: str
    module: str
    message: str


@dataclass(frozen=True)
class Place:
    """The lines of a module that make an error."""

    path: Path
    first: int
    last: int
    refusal: Refusal


@cache
def places() -> tuple[Place, ...]:
    """Every place below job/checkpoints and job/limits that makes an error for a model."""
    paths = sorted(path for room in ("checkpoints", "limits") for path in (ROOT / "job" / room).rglob("*.py"))
    return tuple(place for path in paths for place in _places_in(path))


def refusals() -> list[Refusal]:
    return sorted({place.refusal for place in places()})


def _places_in(path: Path) -> Iterator[Place]:
    name = path.relative_to(ROOT).as_posix()
    constants = vars(import_module(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")))
    tree = ast.parse(path.read_text("utf-8"))
    makers = dict(_makers(tree))
    made_there = [function for function in _functions(tree) if function.name in makers]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in makers:
            kind, (before, after) = makers[called]
            message = f"{_text(before, constants)}{_text(node.args[0], constants)}{_text(after, constants)}"
        elif called in KINDS and not any(_within(node, function) for function in made_there):
            kind, message = called, _text(node.args[0], constants)
        else:
            continue
        # The place that the message begins with differs from one model to the next.
        message = re.sub(rf"^({VALUE}[: ]+)+|\s+", lambda found: " " if found[0].isspace() else "", message)
        yield Place(path, node.lineno, node.end_lineno or node.lineno, Refusal(kind, name, message))


Parts = tuple[ast.expr, ast.expr]


def _makers(tree: ast.AST) -> Iterator[tuple[str, tuple[str, Parts]]]:
    """Functions that make an error out of a part of its message: the kind, and what is said before and after it."""
    for function in _functions(tree):
        arguments = [argument.arg for argument in function.args.args if argument.arg != "self"]
        match function.body[-1]:
            case ast.Return(ast.Call(ast.Name(kind), [ast.JoinedStr(parts)])) if kind in KINDS and len(arguments) == 1:
                names = [ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else "" for part in parts]
                if arguments[0] in names:
                    place = names.index(arguments[0])
                    yield function.name, (kind, (ast.JoinedStr(parts[:place]), ast.JoinedStr(parts[place + 1 :])))


def _functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _within(node: ast.Call, function: ast.FunctionDef) -> bool:
    return function.lineno <= node.lineno <= (function.end_lineno or 0)


def _text(node: ast.expr, constants: Mapping[str, object]) -> str:
    """A message with its constants as they are, and a mark for each other value."""
    match node:
        case ast.Constant(str(value)):
            return value
        case ast.JoinedStr(parts):
            return "".join(_text(part, constants) for part in parts)
        case ast.FormattedValue(ast.Name(id), _, specification) if isinstance(constants.get(id), str | int):
            return format(constants[id], _text(specification, constants) if specification else "")
        case _:
            return VALUE


def table(shown_by: Mapping[Refusal, str]) -> str:
    """The tables of the page, one for each kind of error."""
    sections = []
    for kind in KINDS:
        rows = [_row(each, shown_by.get(each, "")) for each in refusals() if each.kind == kind]
        sections.append(f"## {kind}\n\n{HEADING}{''.join(rows)}")
    return "\n".join(sections)


def _row(refusal: Refusal, test: str) -> str:
    message = refusal.message.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")
    shown = f"`{test}`" if test else ""
    return f"| {message} | `{refusal.module.removeprefix('job/checkpoints/')}` | {shown} |\n"


def rows_of(page: str) -> dict[Refusal, str]:
    """The refusals in the tables of a page, each with the test that it names."""
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        kind = section.split("\n", 1)[0]
        for message, module, test in re.findall(r"^\| (.*) \| `(\S+)` \| `?(.*?)`? ?\|$", section, re.MULTILINE):
            text = re.sub(r"\\([\\|<])", r"\1", message)
            path = module if module.startswith("job/") else f"job/checkpoints/{module}"
            found[Refusal(kind, path, text)] = test
    return found


class Recorder:
    """A plugin of pytest: which refusals each test meets, but for tests of arbitrary input."""

    def __init__(self) -> None:
        self.met: defaultdict[str, set[Refusal]] = defaultdict(set)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            return (yield)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ModelError, "__init__", self._recording(item.nodeid, ModelError.__init__))
            return (yield)

    def _recording(self, test: str, make: Callable[..., None]) -> Callable[..., None]:
        def record(error: ModelError, *arguments: object) -> None:
            make(error, *arguments)
            if refusal := _refusal_at(sys._getframe(1)):
                self.met[test].add(refusal)

        return record

    def tests(self) -> dict[Refusal, str]:
        """A test for each refusal that was met: the one that meets the fewest others."""
        chosen: dict[Refusal, str] = {}
        for test, met in sorted(self.met.items(), key=lambda item: len(item[1])):
            for refusal in met:
                chosen.setdefault(refusal, test.partition("[")[0])
        return chosen


def _refusal_at(frame: FrameType | None) -> Refusal | None:
    """The refusal that is made on the line at which a frame is, or one of those that called it."""
    while frame and "job" in frame.f_code.co_filename:
        for place in places():
            if Path(frame.f_code.co_filename) == place.path and place.first <= frame.f_lineno <= place.last:
                return place.refusal
        frame = frame.f_back
    return None


def main(arguments: list[str]) -> int:
    page = PAGE.read_text("utf-8")
    recorder = Recorder()
    status = pytest.main(["-q", "-n", "0", *arguments], plugins=[recorder]) if arguments else 0
    kept = {refusal: test for refusal, test in rows_of(page).items() if test}
    introduction = page.split("## ", 1)[0]
    PAGE.write_text(introduction + table(recorder.tests() | kept), "utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
