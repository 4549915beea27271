"""What a survey adds to the published ones: a new model, revision or tensor, or changed black holes. Pure."""

from dataclasses import dataclass

from job.manifest.filing import NewItem, Published
from job.manifest.schema import BlackHole, Comparison, Manifest


@dataclass(frozen=True)
class BlackHoleChange:
    """How the black holes of a model differ from those of its newest earlier survey."""

    holes: tuple[int, int]
    """The number of holes, before and now."""
    tokens: tuple[int, int]
    """The number of tokens in holes, before and now."""
    joined: tuple[int, ...]
    """The ids of the tokens that are in a hole now, but were in none before."""
    left: tuple[int, ...]
    """The ids of the tokens that were in a hole before, but are in none now."""


@dataclass(frozen=True)
class SurveyChanges:
    """What a survey adds to the published ones."""

    new_item: NewItem
    black_hole_change: BlackHoleChange | None
    """None if the black holes are the same, or if there is no earlier survey to compare with."""


def compare_with_previous(published: Published, black_holes: list[BlackHole]) -> Comparison | None:
    """The manifest's ``previous``: a comparison with the newest earlier survey of another commit.

    If this survey was published before and only adds tensors, it keeps its first comparison.
    """
    if published.this_survey:
        first_comparison: Comparison | None = published.this_survey.get("previous")
        return first_comparison
    previous = published.previous_survey
    if previous is None:
        return None
    before, now = _token_groups(previous["black_holes"]), _token_groups(black_holes)
    ids_before, ids_now = frozenset().union(*before), frozenset().union(*now)
    return {
        "commit": previous["commit"],
        "published_at": previous["published_at"],
        "black_holes": len(before),
        "black_hole_tokens": len(ids_before),
        "same_black_holes": before == now,
        "joined": sorted(ids_now - ids_before),
        "left": sorted(ids_before - ids_now),
    }


def survey_changes(published: Published, manifest: Manifest) -> SurveyChanges | None:
    """What the survey of this manifest adds; None if the survey was published before."""
    return SurveyChanges(published.new_item, _black_hole_change(manifest)) if published.new_item else None


def _token_groups(holes: list[BlackHole]) -> set[frozenset[int]]:
    return {frozenset(token["id"] for token in hole["tokens"]) for hole in holes}


def _black_hole_change(manifest: Manifest) -> BlackHoleChange | None:
    previous, now = manifest.get("previous"), manifest["statistics"]
    if previous is None or previous["same_black_holes"]:
        return None
    return BlackHoleChange(
        holes=(previous["black_holes"], now["black_holes"]),
        tokens=(previous["black_hole_tokens"], now["black_hole_tokens"]),
        joined=tuple(previous["joined"]),
        left=tuple(previous["left"]),
    )
