"""What a summary says is new: models, revisions, tensors, and black holes that changed."""

import json
from pathlib import Path
from typing import cast

import pytest

from entrypoint import main
from job.manifest.comparison import BlackHoleChange, SurveyChanges, compare_with_previous, survey_changes
from job.manifest.published import NewItem, Published
from job.manifest.schema import Manifest
from job.models.references import parse_reference
from job.outcome import Outcome, Status
from job.report.changes import format_change, list_changes
from tests.checkpoints import planted, write_checkpoint


def manifest(commit: str, *groups: list[int], **fields: object) -> Manifest:
    """As much of a manifest as is compared."""
    holes = [{"tokens": [{"id": row} for row in group]} for group in groups]
    n_tokens = sum(map(len, groups))
    counts = {"black_holes": len(groups), "black_hole_tokens": n_tokens}
    counts |= {"unique_rows": 2000 - n_tokens + len(groups), "duplicate_rows": n_tokens - len(groups)}
    compared = {"commit": commit, "published_at": "then", "black_holes": holes, "statistics": counts, **fields}
    return cast("Manifest", compared)


def nothing(_key: str) -> bytes | None:
    """Reads from a store in which nothing is."""
    return None


def change(before: list[list[int]], after: list[list[int]]) -> str | None:
    """How a change of black holes is told."""
    published = Published("folder", previous_survey=manifest("a", *before), new_item="revision")
    now = manifest("b", *after)
    now["previous"] = compare_with_previous(published, now, nothing)
    changes = survey_changes(published, now, str)
    assert changes
    return format_change(changes.black_hole_change) if changes.black_hole_change else None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([[1, 2], [3, 4]], [[4, 3], [2, 1]], None),
        ([[1, 2]], [[1, 2], [3, 4]], "1 → 2 holes, 2 → 4 tokens (joined 3, 4)"),
        ([[1, 2], [3, 4]], [[1, 2]], "2 → 1 holes, 4 → 2 tokens (left 3, 4)"),
        ([[1, 2]], [[1, 3]], "1 → 1 holes, 2 → 2 tokens (joined 3; left 2)"),
        ([[1, 2, 3, 4]], [[1, 2], [3, 4]], "1 → 2 holes, 4 → 4 tokens (the same tokens in other groups)"),
        ([], [list(range(1000))], "0 → 1 holes, 0 → 1,000 tokens (joined 0, 1, 2, 3, 4, 5, 6, 7 and 992 more)"),
    ],
    ids=["order", "more", "fewer", "other", "regrouped", "many"],
)
def test_changed_black_holes_are_told_by_their_numbers_and_rows(
    before: list[list[int]], after: list[list[int]], said: str | None
) -> None:
    assert change(before, after) == said


def test_a_survey_made_again_for_further_tensors_keeps_what_it_was_compared_with() -> None:
    this_survey = manifest("b", [1, 2], previous={"commit": "a"})
    published = Published("folder", this_survey, this_survey, previous_survey=manifest("c"))
    assert compare_with_previous(published, manifest("b", [1, 2]), nothing) is this_survey["previous"]
    assert survey_changes(published, this_survey, str) is None


CHANGE = BlackHoleChange(holes=(4, 5), tokens=(15, 17), joined=(8, 13), left=(), n_joined=2, n_left=0)


def outcome(name: str, status: Status, what: NewItem | None = None, change: BlackHoleChange | None = None) -> Outcome:
    return Outcome(parse_reference(name), status, 1.0, changes=SurveyChanges(what, change) if what else None)


def test_the_first_line_counts_and_names_what_is_new() -> None:
    outcomes = [
        outcome("org/a", "surveyed", "model"),
        outcome("org/b", "surveyed", "model"),
        outcome("org/c", "surveyed", "revision", CHANGE),
        outcome("org/d", "same content", "revision"),
        outcome("org/e", "surveyed", "tensor"),
        outcome("org/f", "already published"),
    ]
    assert list_changes(outcomes, 3) == [
        "New: 2 models (org/a, org/b), 2 revisions (org/c, org/d), 1 tensor (org/e)",
        "Black holes changed in org/c: 4 → 5 holes, 15 → 17 tokens (joined 8, 13)",
    ]


def test_a_run_without_changes_says_so() -> None:
    outcomes = [outcome("org/a", "already published"), outcome("org/b", "failed"), outcome("org/c", "failed")]
    assert list_changes(outcomes, 3) == ["Nothing new"]


def test_the_changes_of_many_models_stay_short() -> None:
    outcomes = [outcome(f"org/m{number}", "surveyed", "revision", CHANGE) for number in range(100)]
    lines = list_changes(outcomes, 3)
    assert lines[0].startswith("New: 100 revisions (org/m0, ")
    assert lines[0].endswith(" and 92 more)")
    assert lines[-1] == "… and in 97 more"
    assert len(lines) == 5


def test_a_run_leads_with_the_model_then_its_revision_then_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def first_lines() -> list[str]:
        assert main([str(tmp_path / "model"), "--output", str(tmp_path / "out"), "--show-tokens", "3"]) == 0
        return capsys.readouterr().out.splitlines()[:2]

    where = str(tmp_path / "model")
    write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]))
    assert first_lines()[0] == f"New: 1 model ({where})"
    assert first_lines()[0] == "Nothing new"
    write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2, 5], [7, 8]]))
    lines = first_lines()
    (page,) = tmp_path.rglob("changes.html")
    assert lines == [
        f"New: 1 revision ({where})",
        f"Black holes changed in {where}: 1 → 2 holes, 2 → 5 tokens (joined 5, 7, 8); what changed: {page}",
    ]


def test_the_manifest_says_what_it_was_compared_with(tmp_path: Path) -> None:
    latest = tmp_path / "out" / "local" / "model" / "latest.json"
    commits = []
    for number, groups in enumerate(([[1, 2]], [[3, 4]], [[3, 4]])):
        checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, groups))
        (checkpoint / "README.md").write_text(str(number))
        assert main([str(checkpoint), "--output", str(tmp_path / "out")]) == 0
        published = json.loads(latest.read_text())
        commits.append(published["commit"])
        # Surveys of one second are told apart, since which of them is newest would else be chance.
        for path in (latest, latest.parent / published["commit"] / "manifest.json"):
            path.write_text(json.dumps({**published, "published_at": f"2000-01-0{number + 1}T00:00:00+00:00"}))
        if number == 0:
            assert published["previous"] is None
    assert published["previous"] == {
        "commit": commits[1],
        "published_at": "2000-01-02T00:00:00+00:00",
        "black_holes": 1,
        "black_hole_tokens": 2,
        "same_black_holes": True,
        "n_joined": 0,
        "n_left": 0,
        "joined": [],
        "left": [],
    }
    assert len(set(commits)) == 3


def test_a_tensor_that_was_asked_for_is_compared_with_that_tensor_of_other_commits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models.yaml"
    models.write_text(f"- {tmp_path / 'model'}\n- model: {tmp_path / 'model'}\n  tensor: lm_head.weight\n")
    for groups in ([[1, 2]], [[1, 2], [3, 4]]):
        write_checkpoint(tmp_path / "model", planted(40, 8, groups))
        assert main(["--models-file", str(models), "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("New: ")] == [
        f"New: 1 model ({tmp_path / 'model'}), 1 tensor ({tmp_path / 'model'})",
        f"New: 1 revision ({tmp_path / 'model'}), 1 tensor ({tmp_path / 'model'})",
    ]
    assert sum("1 → 2 holes" in line for line in lines) == 2
