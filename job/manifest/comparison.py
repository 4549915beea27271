"""What changed in a model since it was last surveyed: the model, its revision, its black holes. Pure."""

from dataclasses import dataclass

from job.manifest.filing import Novelty, Published
from job.manifest.schema import BlackHole, Comparison, Manifest


@dataclass(frozen=True)
class HoleChange:
    """How the black holes of a model differ from those of its newest earlier survey."""

    holes: tuple[int, int]
    """How many, before and now."""
    tokens: tuple[int, int]
    """How many rows are in one, before and now."""
    joined: tuple[int, ...]
    """The ids of the tokens that are in a hole now, and were in none."""
    left: tuple[int, ...]


@dataclass(frozen=True)
class SurveyDiff:
    """What a survey adds to what was published before."""

    novelty: Novelty
    hole_change: HoleChange | None
    """None where the black holes are what they were, or nothing was there to compare with."""


def compare_with_previous(published: Published, black_holes: list[BlackHole]) -> Comparison | None:
    """The manifest's ``previous``: the newest earlier survey of another commit, and which rows joined or left holes.

    A survey that is made again, for further tensors, keeps what it was compared with at first.
    """
    if published.own:
        kept: Comparison | None = published.own.get("previous")
        return kept
    previous = published.previous
    if previous is None:
        return None
    before, after = _row_groups(previous["black_holes"]), _row_groups(black_holes)
    ids_before, ids_after = frozenset().union(*before), frozenset().union(*after)
    return {
        "commit": previous["commit"],
        "published_at": previous["published_at"],
        "black_holes": len(before),
        "black_hole_tokens": len(ids_before),
        "same_black_holes": before == after,
        "joined": sorted(ids_after - ids_before),
        "left": sorted(ids_before - ids_after),
    }


def survey_diff(published: Published, manifest: Manifest) -> SurveyDiff | None:
    """What the survey of this manifest adds; None where its own manifest was there before."""
    return SurveyDiff(published.novelty, _hole_change(manifest)) if published.novelty else None


def _row_groups(holes: list[BlackHole]) -> set[frozenset[int]]:
    return {frozenset(token["id"] for token in hole["tokens"]) for hole in holes}


def _hole_change(manifest: Manifest) -> HoleChange | None:
    previous, now = manifest.get("previous"), manifest["statistics"]
    if previous is None or previous["same_black_holes"]:
        return None
    return HoleChange(
        holes=(previous["black_holes"], now["black_holes"]),
        tokens=(previous["black_hole_tokens"], now["black_hole_tokens"]),
        joined=tuple(previous["joined"]),
        left=tuple(previous["left"]),
    )
