"""The README says what code and manifests do: the map of the files, the settings, the exit statuses, the overlays."""

import os
import re
from pathlib import Path

import pytest

from job import errors
from job.command_line import Option, environment_of, option_name, options_of, variable_name
from job.models.lists import read_list
from job.models.queries import KEYS, ModelQuery, parse_query
from job.monitor.current import CurrentStage
from job.monitor.metrics import Metrics
from job.settings import Settings, read_settings
from tests.manifests.rendering import (
    APPLIED,
    BASE,
    MANIFESTS,
    NEWEST,
    OLDEST,
    environment,
    job_spec,
    render,
    survey_container,
)
from tests.manifests.rules import broken

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
    metrics = Metrics(read_settings(["org/name"]), CurrentStage())
    present = [(family.name + suffix.get(family.type, ""), family.documentation) for family in metrics.collect()]
    rows = re.findall(r"^\| `(black_hole_survey_[a-z_]+)` \|.*\| (.+) \|$", README, re.MULTILINE)
    assert rows == present


def rows_of(section: str) -> dict[str, str]:
    """The rows of a section's tables, by what stands in backticks at their beginning."""
    (text,) = re.findall(rf"^#+ {section}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}


def test_the_kubernetes_section_names_every_folder_that_can_be_applied() -> None:
    folders = {path.relative_to(ROOT).as_posix() for path in APPLIED}
    assert {name for name in rows_of("Kubernetes") if name.startswith("k8s/")} == folders
    assert f"Kubernetes {OLDEST} to {NEWEST}" in README


def test_the_runbook_has_every_exit_status_and_says_what_the_failure_policy_does_with_it() -> None:
    rows, spec = rows_of("Runbook"), job_spec(render(BASE))
    statuses = {0, errors.Terminated.exit_status} | {
        branch.exit_status for branch in errors.SurveyError.__subclasses__()
    }
    assert {str(status) for status in statuses} <= rows.keys()
    actions = {
        str(status): rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        for status in rule.get("onExitCodes", {}).get("values", [])
    }
    named = {status: re.findall("`(FailJob|FailIndex)`", row) for status, row in rows.items()}
    assert {status: names for status, names in named.items() if names} == {
        status: [action] for status, action in actions.items()
    }
    assert f"up to {spec['backoffLimitPerIndex']} times" in rows[str(errors.TransientError.exit_status)]
    assert "`DisruptionTarget`" in rows[str(errors.Terminated.exit_status)]


def test_every_variable_of_the_manifests_is_in_the_readme() -> None:
    for folder in APPLIED:
        for variable in survey_container(render(folder))["env"]:
            if f"$({variable['name']})" not in str(environment(survey_container(render(folder)))):
                assert f"`{variable['name']}`" in README


def test_an_overlay_like_the_one_shown_has_as_many_workers_as_it_tells_them(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", README, re.DOTALL)
    folder = tmp_path / "mine"
    folder.mkdir()
    cloud = os.path.relpath(MANIFESTS / "overlays/cloud", folder)
    (folder / "kustomization.yaml").write_text(shown.replace("../cloud", cloud))
    (folder / "models.yaml").write_text("models: [org/name]")
    documents = render(folder)
    assert list(broken(documents)) == []
    completions = job_spec(documents)["completions"]
    assert completions != job_spec(render(BASE))["completions"]
    assert environment(survey_container(documents))["JOB_COMPLETIONS"] == str(completions)
