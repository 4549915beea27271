"""What is new of a model since it was last surveyed: the model, its revision, its black holes. Pure."""

from dataclasses import dataclass
from typing import Any

from job.manifest.filing import Manifest, Novelty, Published


@dataclass(frozen=True)
class Change:
    """How the black holes of a model differ from those of its newest earlier survey."""

    holes: tuple[int, int]
    """How many, before and now."""
    tokens: tuple[int, int]
    """How many rows are in one, before and now."""
    joined: tuple[int, ...]
    """The ids of the tokens that are in a hole now, and were in none."""
    left: tuple[int, ...]


@dataclass(frozen=True)
class News:
    """What is new of one model."""

    what: Novelty
    change: Change | None
    """None where its black holes are what they were."""


def since_previous(published: Published, manifest: Manifest) -> dict[str, Any] | None:
    """The newest earlier survey of another commit, and which rows joined or left black holes since: ``previous`` in the
    manifest. A survey that is made again, for further tensors, keeps what it was compared with at first."""
    if published.own:
        kept: dict[str, Any] | None = published.own.get("previous")
        return kept
    if published.previous is None:
        return None
    before, after = _holes(published.previous), _holes(manifest)
    ids_before, ids_after = frozenset().union(*before), frozenset().union(*after)
    return {
        "commit": published.previous["commit"],
        "published_at": published.previous["published_at"],
        "black_holes": len(before),
        "black_hole_tokens": len(ids_before),
        "same_black_holes": before == after,
        "joined": sorted(ids_after - ids_before),
        "left": sorted(ids_before - ids_after),
    }


def news_of(published: Published, manifest: Manifest) -> News | None:
    """What is new of a model whose manifest says what it was compared with."""
    return News(published.novelty, _change(manifest)) if published.novelty else None


def _holes(manifest: Manifest) -> set[frozenset[int]]:
    return {frozenset(token["id"] for token in hole["tokens"]) for hole in manifest["black_holes"]}


def _change(manifest: Manifest) -> Change | None:
    previous, now = manifest["previous"], manifest["statistics"]
    if previous is None or previous["same_black_holes"]:
        return None
    return Change(
        holes=(previous["black_holes"], now["black_holes"]),
        tokens=(previous["black_hole_tokens"], now["black_hole_tokens"]),
        joined=tuple(previous["joined"]),
        left=tuple(previous["left"]),
    )
