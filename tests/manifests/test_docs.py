"""README and docs/ say what the manifests do: the folders, the variables, the runbook, an overlay of one's own."""

import os
import re
from pathlib import Path

from job import errors
from tests.documentation import DOCS, DOCUMENTATION, ROOT, section
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


def rows_of(heading: str) -> dict[str, str]:
    """The rows of a section's tables, by what stands in backticks at their beginning."""
    text = section(DOCS["kubernetes"], heading)
    return {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}


def test_the_kubernetes_section_names_every_folder_that_can_be_applied() -> None:
    folders = {path.relative_to(ROOT).as_posix() for path in APPLIED}
    assert {name for name in rows_of("Kubernetes") if name.startswith("k8s/")} == folders
    assert f"Kubernetes {OLDEST} to {NEWEST}" in DOCUMENTATION


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


def test_the_deadline_is_stated_and_what_follows_from_it() -> None:
    spec, text = job_spec(render(BASE)), section(DOCS["kubernetes"], "How long a Job may take")
    hours = spec["activeDeadlineSeconds"] / 3600
    assert f"`activeDeadlineSeconds` is {hours:.0f} hours for the whole Job" in text
    minutes, models = re.findall(r"(\d+) minutes for\s+each of (\d+) models", text)[0]
    assert int(minutes) == hours * 60 * spec["parallelism"] // int(models)
    assert f"{spec['template']['spec']['terminationGracePeriodSeconds']} seconds" in text
    assert "`DeadlineExceeded`" in text


def test_the_commands_fit_a_terminal_of_80_columns() -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", DOCS["kubernetes"], re.MULTILINE | re.DOTALL)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 80


def test_every_variable_of_the_manifests_is_documented() -> None:
    for folder in APPLIED:
        for variable in survey_container(render(folder))["env"]:
            if f"$({variable['name']})" not in str(environment(survey_container(render(folder)))):
                assert f"`{variable['name']}`" in DOCUMENTATION


def test_an_overlay_like_the_one_shown_has_as_many_workers_as_it_tells_them(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", DOCUMENTATION, re.DOTALL)
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
