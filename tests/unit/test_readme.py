"""The README says what the code does: the map of the files, the settings, the exit statuses, the metrics."""

import re
from pathlib import Path

import pytest

from job import errors
from job.command_line.options import Option, environment_of, option_name, options_of, variable_name
from job.models.lists import read_list
from job.models.queries import KEYS, ModelQuery, parse_query
from job.monitor.current import CurrentStage
from job.monitor.metrics import Metrics
from job.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_map_names_every_module_and_no_other() -> None:
    (tree,) = re.findall(r"```\n(entrypoint\.py .*?)```", README, re.DOTALL)
    named, folders = set(), [""]
    for line in tree.splitlines():
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth + 1 :] = [folders[depth] + entry]
        if entry.endswith(".py"):
            named.add(folders[depth] + entry)
    present = {path.relative_to(ROOT).as_posix() for path in (ROOT / "job").rglob("*.py") if path.name != "__init__.py"}
    assert named == present | {"entrypoint.py"}


def test_the_list_that_is_shown_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(models:\n.*?)```", README, re.DOTALL)
    (tmp_path / "list.yaml").write_text(shown)
    queries = [entry for entry in read_list(tmp_path / "list.yaml") if isinstance(entry, ModelQuery)]
    assert {key for query in queries for key in KEYS if getattr(query, key)} == set(KEYS) - {"follow_base"}
    assert all(parse_query(text) for text in re.findall(r"'(hub\?.*?)'", README))


@pytest.mark.parametrize(("field", "option"), options_of(Settings).items(), ids=options_of(Settings))
def test_the_table_of_settings_has_every_option_with_its_variable_and_default(field: str, option: Option) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{variable_name(field)}` |"))
    assert f"`{option_name(field)}`" in row
    if isinstance(option.default, str | int | float):
        assert f"`{option.default}`" in row


def test_the_table_of_settings_has_no_other_variable() -> None:
    variables = set(re.findall(r"^\| `([A-Z_]{2,})` \|", README, re.MULTILINE))
    assert variables == environment_of(Settings)


def test_every_exit_status_is_explained_with_its_kinds() -> None:
    rows = {int(status): row for row in README.splitlines() for status in re.findall(r"^\| (\d+) \|", row)}
    branches = errors.SurveyError.__subclasses__()
    assert rows.keys() == {0, errors.Terminated.exit_status} | {branch.exit_status for branch in branches}
    kinds: list[type[errors.SurveyError]] = [errors.ConfigError, errors.TransientError]
    for kind in kinds + errors.ModelError.__subclasses__():
        assert f"`{kind.__name__}`" in rows[kind.exit_status]


def test_the_exception_tree_is_its_modules_docstring() -> None:
    for kind in errors.SurveyError.__subclasses__() + errors.ModelError.__subclasses__():
        assert kind.__name__ in str(errors.__doc__)


def test_the_table_of_metrics_has_each_with_its_meaning_and_no_other() -> None:
    suffix = {"counter": "_total", "info": "_info"}
    metrics = Metrics(CurrentStage(), run=None, worker=0, file=None, gateway=None)
    present = [(family.name + suffix.get(family.type, ""), family.documentation) for family in metrics.collect()]
    rows = re.findall(r"^\| `(black_hole_survey_[a-z_]+)` \|.*\| (.+) \|$", README, re.MULTILINE)
    assert rows == present
