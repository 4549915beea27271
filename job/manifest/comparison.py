"""What a survey adds to the published ones: a new model, revision or tensor, or changed black holes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from job.manifest.published import NewItem, Published
from job.manifest.schema import Comparison, Manifest, ResultsOfW

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_MOVED: Final = 10_000
"""The number of token ids that a manifest lists as joined, and as left."""


@dataclass(frozen=True)
class BlackHoleChange:
    """How the black holes of a model differ from those of its newest earlier survey."""

    holes: tuple[int, int]
    """The number of holes, before and now."""
    tokens: tuple[int, int]
    """The number of tokens in holes, before and now."""
    joined: tuple[int, ...]
    """The ids of the tokens that are in a hole now, but were in none before; the first MAX_MOVED of them."""
    left: tuple[int, ...]
    """The ids of the tokens that were in a hole before, but are in none now; likewise."""
    n_joined: int
    """The number of all of them."""
    n_left: int


@dataclass(frozen=True)
class SurveyChanges:
    """What a survey adds to the published ones."""

    new_item: NewItem
    black_hole_change: BlackHoleChange | None
    """None if the black holes are the same, or if there is no earlier survey to compare with."""
    page: str | None = None
    """The address of the page that shows what changed since that survey, if anything did."""


def compare_with_previous(
    published: Published, results: ResultsOfW, read: Callable[[str], bytes | None]
) -> Comparison | None:
    """The manifest's ``previous``: a comparison with the newest earlier survey of another commit.

    If this survey was published before and only adds tensors, it keeps its first comparison. ``read(key)`` gives a
    published object, in which the rows of holes are found that are too many for a manifest. Without them, None.
    """
    if published.this_survey:
        first_comparison: Comparison | None = published.this_survey.get("previous")
        return first_comparison
    previous = published.previous_survey
    if previous is None:
        return None
    import numpy as np  # imported here, because a run in which all is published needs none

    before, now = _first_rows(previous, read), _first_rows(results, read)
    if before is None or now is None:
        return None
    n_rows = max(len(before), len(now))
    before, now = (np.pad(rows, (0, n_rows - len(rows)), constant_values=-1) for rows in (before, now))
    joined, left = np.flatnonzero((now >= 0) & (before < 0)), np.flatnonzero((before >= 0) & (now < 0))
    return {
        "commit": previous["commit"],
        "published_at": previous["published_at"],
        "black_holes": previous["statistics"]["black_holes"],
        "black_hole_tokens": previous["statistics"]["black_hole_tokens"],
        "same_black_holes": bool(np.array_equal(before, now)),
        "joined": joined[:MAX_MOVED].tolist(),
        "left": left[:MAX_MOVED].tolist(),
        "n_joined": len(joined),
        "n_left": len(left),
    }


def survey_changes(published: Published, manifest: Manifest, url: Callable[[str], str]) -> SurveyChanges | None:
    """What the survey of this manifest adds; None if the survey was published before. ``url(key)`` is an address."""
    if not published.new_item:
        return None
    key = manifest.get("pages", {}).get("changes")
    return SurveyChanges(published.new_item, _black_hole_change(manifest), url(key) if key else None)


def _first_rows(results: ResultsOfW, read: Callable[[str], bytes | None]) -> "NDArray[np.int64] | None":
    """(n_rows,) int64: for each row the first row of its hole, −1 in no hole; None if the rows are not published."""
    import numpy as np
    import safetensors

    statistics, holes = results["statistics"], results["black_holes"]
    first_rows = np.full(statistics["unique_rows"] + statistics["duplicate_rows"], -1, np.int64)
    if sum(len(hole["tokens"]) for hole in holes) == statistics["black_hole_tokens"]:
        for hole in holes:
            ids = [token["id"] for token in hole["tokens"]]
            first_rows[ids] = min(ids)
        return first_rows
    entry = results["artifacts"].get("black_holes")
    content = read(entry["key"]) if entry else None
    if content is None:
        return None
    tensors = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]  # it ships no types
    dtype = {"U8": np.uint8, "I32": np.int32}[tensors["black_hole_id"]["dtype"]]
    hole_ids = np.frombuffer(tensors["black_hole_id"]["data"], dtype)
    in_holes = np.flatnonzero(hole_ids)
    _, first, inverse = np.unique(hole_ids[in_holes], return_index=True, return_inverse=True)
    first_rows[in_holes] = in_holes[first[inverse]]
    return first_rows


def _black_hole_change(manifest: Manifest) -> BlackHoleChange | None:
    previous, now = manifest.get("previous"), manifest["statistics"]
    if previous is None or previous["same_black_holes"]:
        return None
    return BlackHoleChange(
        holes=(previous["black_holes"], now["black_holes"]),
        tokens=(previous["black_hole_tokens"], now["black_hole_tokens"]),
        joined=tuple(previous["joined"]),
        left=tuple(previous["left"]),
        n_joined=previous.get("n_joined", len(previous["joined"])),
        n_left=previous.get("n_left", len(previous["left"])),
    )
