"""The shape of the house: no circle of imports, and no room that imports from a floor above its own."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]

FLOORS = (
    ("job", "job.errors"),
    ("job.limits",),
    ("job.models", "job.s3", "job.ending"),
    ("job.checkpoints.transport", "job.checkpoints.file_names"),
    ("job.checkpoints.checkpoint",),
    ("job.checkpoints.formats", "job.checkpoints.identity"),
    ("job.checkpoints.sources", "job.checkpoints.head"),
    ("job.geometry",),
    ("job.store", "job.limits.need"),
    ("job.scratch",),
    ("job.tokens", "job.measuring.stored_rows"),
    ("job.manifest",),
    ("job.differences",),
    ("job.outcome",),
    ("job.catalogue",),
    ("job.report",),
    ("job.monitor",),
    ("job.command_line",),
    ("job.settings",),
    ("job.measuring", "job.locate", "job.runs", "job.logs"),
    ("job.plan", "job.compare", "job.index"),
    ("job.survey",),
    ("entrypoint",),
)
"""From the lowest floor up. What stands on one floor does not know its neighbours."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in [ROOT / "entrypoint.py", *(ROOT / "job").rglob("*.py")]}


def imports(path: Path) -> set[str]:
    """The project's own modules that a module imports, wherever in it that is written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def floor(module: str) -> tuple[int, str]:
    """The floor that a module stands on, and the room there that it belongs to: the most particular one."""
    rooms = [
        (number, room)
        for number, floor_rooms in enumerate(FLOORS)
        for room in floor_rooms
        if module == room or (room != "job" and module.startswith(f"{room}."))
    ]
    return max(rooms, key=lambda found: len(found[1]))


def test_every_module_stands_on_a_floor() -> None:
    rooms = {"job.checkpoints"}  # a room of rooms, with nothing in it but its docstring
    assert {
        module
        for module in MODULES
        if module not in rooms
        and not any(
            module == room or (room != "job" and module.startswith(f"{room}.")) for rooms in FLOORS for room in rooms
        )
    } == set()


def test_no_import_leads_to_a_higher_floor_or_to_another_room_of_the_same_floor() -> None:
    wrong = []
    for module in MODULES.keys() - {"job.checkpoints"}:
        number, room = floor(module)
        for imported in imports(MODULES[module]) - {"job.checkpoints"}:
            other, other_room = floor(imported)
            if other > number or (other == number and other_room != room):
                wrong.append(f"{module} imports {imported}")
    assert sorted(wrong) == []


def test_no_imports_go_round_in_a_circle() -> None:
    graph = {module: imports(path) - {module} for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


SETS_LOGGING = re.compile(
    r"setLevel|set_verbosity|Handler\(|basicConfig|captureWarnings|disable_default_handler|_propagation|\.propagate"
)


def test_only_one_module_sets_levels_and_handlers() -> None:
    programs = [ROOT / "entrypoint.py", *(ROOT / "job").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in programs if SETS_LOGGING.search(path.read_text("utf-8"))}
    assert found == {"job/logs.py"}
