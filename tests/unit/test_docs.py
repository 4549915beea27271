"""README and docs/ say what the code does: the map of the files, the settings, the exit statuses, the metrics, the
manifest. Their links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from job import errors
from job.command_line.options import Option, environment_of, option_name, options_of, variable_name
from job.manifest.schema import json_schema
from job.models.lists import read_list
from job.models.queries import KEYS, ModelQuery, parse_query
from job.models.references import parse_reference
from job.monitor.current import CurrentStage
from job.monitor.numbers import RunNumbers
from job.monitor.openmetrics import RunCollector
from job.runs.pinned_list import Assignment, PinnedList, pinned_list_as_bytes
from job.settings import Settings
from tests.documentation import DOCS, DOCUMENTATION, PAGES, README, ROOT, named_in_first_cells, section
from tests.manifest_schema import errors_in

MAX_README_WORDS = 1_500
MAX_PICTURE_NBYTES = 300_000
SCHEMA = ROOT / "docs" / "manifest.schema.json"


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MAX_README_WORDS


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    ((size, *figures),) = re.findall(r"a W of ([\d.]+ GB) takes (\d+) seconds, ([\d.]+) GB of memory", README)
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in results.splitlines()]
    (row,) = [row for row in rows if row[1:4] == [size, "HTTP → folder", "job"]]
    assert figures == [f"{float(row[4]):.0f}", f"{float(row[7]) / 1e3:.1f}"]


def entries_of_tree(tree: str) -> set[str]:
    """The paths in a tree of files, whose folders end with a slash. Each has some words beside it."""
    found, folders = set(), [""]
    for line in tree.splitlines():
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth + 1 :] = [folders[depth] + entry]
        assert len(line.split()) > 1 or depth == 0, f"{line}: says nothing of it"
        found.add(folders[depth] + entry)
    return found


def test_the_map_names_every_module_and_no_other() -> None:
    (tree,) = re.findall(r"```\n(entrypoint\.py .*?)```", DOCS["code"], re.DOTALL)
    present = {path.relative_to(ROOT).as_posix() for path in (ROOT / "job").rglob("*.py") if path.name != "__init__.py"}
    assert {path for path in entries_of_tree(tree) if path.endswith(".py")} == present | {"entrypoint.py"}


def test_the_readme_names_every_room_and_the_modules_beside_them() -> None:
    (tree,) = re.findall(r"```\n(entrypoint\.py .*?)```", README, re.DOTALL)
    rooms = {f"job/{path.name}/" for path in (ROOT / "job").iterdir() if (path / "__init__.py").exists()}
    modules = {f"job/{path.name}" for path in (ROOT / "job").glob("*.py") if path.name != "__init__.py"}
    assert {path for path in entries_of_tree(tree) if re.fullmatch(r"job/[^/]+(\.py|/)", path)} == rooms | modules


def test_pictures_are_shown_and_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert {picture.name for picture in pictures} == set(re.findall(r"docs/images/(.*?)\)", README))
    assert all(picture.stat().st_size < MAX_PICTURE_NBYTES for picture in pictures)


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """What a link may name after a #, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_of_the_repository_leads_to_one(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text("utf-8"))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), link
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_every_target_of_make_that_is_named_is_there(path: Path) -> None:
    page = path.read_text("utf-8")
    for named in re.findall(r"`((?:benchmarks|docs|examples|job|k8s|requirements|tests)/[\w./-]+)`", page):
        assert (ROOT / named).exists(), named
    for module in re.findall(r"python -m (benchmarks\.\w+)", page):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page, re.MULTILINE)) <= set(targets)


def test_the_list_that_is_shown_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(models:\n.*?)```", DOCUMENTATION, re.DOTALL)
    (tmp_path / "list.yaml").write_text(shown)
    queries = [entry for entry in read_list(tmp_path / "list.yaml") if isinstance(entry, ModelQuery)]
    assert {key for query in queries for key in KEYS if getattr(query, key)} == set(KEYS) - {"follow_base"}
    texts = re.findall(r"'(hub\?.*?)'", DOCUMENTATION)
    assert texts
    assert all(parse_query(text) for text in texts)


@pytest.mark.parametrize(("field", "option"), options_of(Settings).items(), ids=options_of(Settings))
def test_the_table_of_settings_has_every_option_with_its_variable_and_default(field: str, option: Option) -> None:
    row = next(line for line in DOCS["settings"].splitlines() if line.startswith(f"| `{variable_name(field)}` |"))
    assert f"`{option_name(field)}`" in row
    if isinstance(option.default, str | int | float):
        assert f"`{option.default}`" in row


def test_the_table_of_settings_has_no_other_variable() -> None:
    variables = set(re.findall(r"^\| `([A-Z_]{2,})` \|", DOCUMENTATION, re.MULTILINE))
    assert variables == environment_of(Settings)


def test_every_exit_status_is_explained_with_its_kinds() -> None:
    branches = errors.SurveyError.__subclasses__()
    statuses = {0, errors.Terminated.exit_status} | {branch.exit_status for branch in branches}
    assert {int(number) for number in re.findall(r"\b(\d+):", section(README, "Exit statuses"))} == statuses
    rows = {int(status): row for row in DOCS["settings"].splitlines() for status in re.findall(r"^\| (\d+) \|", row)}
    assert rows.keys() == statuses
    kinds: list[type[errors.SurveyError]] = [errors.ConfigError, errors.TransientError]
    for kind in kinds + errors.ModelError.__subclasses__():
        assert f"`{kind.__name__}`" in rows[kind.exit_status]


def test_the_exception_tree_is_its_modules_docstring() -> None:
    for kind in errors.SurveyError.__subclasses__() + errors.ModelError.__subclasses__():
        assert kind.__name__ in str(errors.__doc__)


def test_the_table_of_metrics_has_each_with_its_meaning_and_no_other() -> None:
    suffix = {"counter": "_total", "info": "_info"}
    families = RunCollector(RunNumbers(CurrentStage(), run=None, worker=0)).collect()
    present = [(family.name + suffix.get(family.type, ""), family.documentation) for family in families]
    rows = re.findall(r"^\| `(black_hole_survey_[a-z_]+)` \|.*\| (.+) \|$", DOCUMENTATION, re.MULTILINE)
    assert rows == present


def test_the_json_schema_is_the_codes() -> None:
    expected = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    assert SCHEMA.read_text("utf-8") == expected, "docs/manifest.schema.json is out of date; run: make schema"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema_version": 1}'])
def test_what_is_no_manifest_is_found_wherever_a_test_leaves_it(content: bytes) -> None:
    assert all(error.startswith("where: ") for error in errors_in([("where", content)]))
    assert errors_in([("where", content)])


@pytest.mark.parametrize(
    ("heading", "definition"),
    [
        ("manifest.json", "Manifest"),
        ("tensor", "TensorEntry"),
        ("statistics", "Statistics"),
        ("previous", "Comparison"),
    ],
    ids=lambda value: value,
)
def test_the_tables_of_the_manifest_have_every_field_and_no_other(heading: str, definition: str) -> None:
    table = section(DOCS["manifest"], heading).partition("\n### ")[0]
    properties = json.loads(SCHEMA.read_text("utf-8"))["$defs"][definition]["properties"]
    assert sorted(named_in_first_cells(table)) == sorted(properties)


def test_every_field_inside_the_manifests_fields_is_named() -> None:
    definitions = json.loads(SCHEMA.read_text("utf-8"))["$defs"]
    named = set(re.findall(r"`(\w+)`", section(DOCS["manifest"], "manifest.json")))
    for definition in definitions.values():
        assert definition["properties"].keys() <= named


def test_the_table_of_the_pinned_list_has_every_field_and_no_other() -> None:
    pinned = PinnedList("run", 1, "0" * 64, "then", (Assignment(parse_reference("org/name"), 1, 0),))
    written = json.loads(pinned_list_as_bytes(pinned))
    text = section(DOCS["manifest"], "The pinned list of a run")
    assert sorted(named_in_first_cells(text)) == sorted(written)
    assert all(f"`{field}`" in text for field in written["models"][0])
