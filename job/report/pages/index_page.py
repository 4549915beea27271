"""index.html: all surveys of an OUTPUT, and what they have in common. Made from the rows of surveys.parquet alone, and
from what came of the last run."""

import math
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from job.catalogue.families import Family, families, revisions, same_w
from job.catalogue.last_run import ModelOutcome, WorkerOutcomes
from job.catalogue.row import SurveyRow
from job.report.pages.columns import Column, list_column, shown_text, text_column
from job.report.pages.document import Page, page_bytes, template
from job.report.text import count_statuses

MAX_GROUPS: Final = 200
"""The number of W that several models share, as the page shows them."""
MAX_TROUBLES: Final = 500
"""The number of models that the last run failed at, or passed over."""
MAX_NEW_TOKENS: Final = 40
MAX_HOLE_TOKENS: Final = 12
MAX_HEADS: Final = 8
"""The number of tokens that a release brings new, of tokens of a hole, and of holes of a survey, as they are shown."""
_TEXTS: Final = (
    *("model", "organisation", "family", "commit", "revision", "revisions", "released", "committed", "published_at"),
    *("tensor", "tie", "dtype", "w_sha256", "tool_version"),
)
_COUNTS: Final = (
    *("n_rows", "hidden_size", "unique_rows", "duplicate_rows", "black_holes", "black_hole_tokens", "largest"),
    *("n_tokens", "unreachable", "reserved", "reserved_in_black_hole", "valid_ids"),
    *("n_warnings", "joined", "left", "is_latest", "chosen_by_user", "changed"),
)
_NUMBERS: Final = (
    *("share_of_rows", "mu_norm", "mean_row_norm", "mean_gamma_centered_norm", "mean_black_hole_row_norm"),
    *("seconds", "bytes_fetched", "checkpoint_nbytes", "w_nbytes"),
)
_UNKNOWN: Final = -1
"""What stands for a count or flag that is not known."""
_MAX_COUNT: Final = 2**31 - 1


def index_page(rows: Sequence[SurveyRow], outcomes: Sequence[WorkerOutcomes]) -> bytes:
    """The page. The same input gives the same bytes."""
    found = families(rows)
    shared, model_revisions = same_w(rows), revisions(rows)
    troubles = [model for worker in outcomes for model in worker["models"] if model["error"]]
    latest = [row for row in rows if row.is_latest]
    body = template("index.html.j2").render(
        n_surveys=len(rows),
        n_models=len({row.model for row in rows}),
        n_latest=len(latest),
        n_with_holes=sum(row.black_holes > 0 for row in latest),
        n_tokens_in_holes=sum(row.black_hole_tokens for row in latest),
        changed=[row for row in latest if row.changed],
        largest=max(latest, key=lambda row: row.share_of_rows, default=None),
        has_families=bool(found),
        has_revisions=bool(model_revisions),
        groups=[_group(rows, places) for places in shared[:MAX_GROUPS]],
        n_groups=len(shared),
        run=_run(outcomes),
        troubles=[_trouble(model) for model in troubles[:MAX_TROUBLES]],
        n_troubles=len(troubles),
        link=link_to,
    )
    return page_bytes(
        Page(
            title=f"{len(rows):,} surveys of {len({row.model for row in rows}):,} models",
            body=body,
            scripts=("columns.js", "table.js", "timeline.js", "index.js"),
            columns=_columns(rows),
            facts={
                "families": [_family_facts(family) for family in found],
                "revisions": model_revisions,
                "pages": [link_to(row.page) for row in rows],
                "heads": [_heads(row) for row in rows],
            },
        )
    )


def link_to(key: str) -> str:
    """The address of a key, relative to the page. Nothing in a name can make another address of it."""
    return f"./{quote(key)}"


def _columns(rows: Sequence[SurveyRow]) -> dict[str, Column]:
    columns = {name: text_column([getattr(row, name) or "" for row in rows]) for name in _TEXTS}
    for name in _NUMBERS:
        values = [getattr(row, name) for row in rows]
        columns[name] = list_column("f32", [math.nan if value is None else value for value in values])
    for name in _COUNTS:
        columns[name] = list_column("i32", [_count(getattr(row, name)) for row in rows])
    return columns


def _count(value: int | None) -> int:
    """What is not known as −1, and what does not fit into 32 bits as the largest number."""
    return _UNKNOWN if value is None else max(0, min(int(value), _MAX_COUNT))


def _heads(row: SurveyRow) -> list[tuple[int, list[str]]]:
    """The largest holes of a survey: the population of each, and its first tokens."""
    heads, begin = [], 0
    for population, listed in zip(row.hole_populations[:MAX_HEADS], row.hole_listed, strict=False):
        tokens = row.hole_tokens[begin : begin + min(listed, MAX_HOLE_TOKENS)]
        heads.append((population, [shown_text(token) for token in tokens]))
        begin += listed
    return heads


def _family_facts(family: Family) -> Mapping[str, object]:
    return {
        "name": shown_text(family.name),
        "releases": [
            {
                "row": release.row,
                "date": release.date,
                "new": [shown_text(token) for token in release.new_tokens[:MAX_NEW_TOKENS]],
                "n_new": len(release.new_tokens),
                "n_gone": release.n_gone,
                "is_whole": release.is_whole,
            }
            for release in family.releases
        ],
        "holes": [
            {
                "tokens": [shown_text(token) for token in hole.tokens[:MAX_HOLE_TOKENS]],
                "population": len(hole.tokens),
                "first": hole.first,
                "n_releases": hole.n_releases,
            }
            for hole in family.holes
        ],
    }


def _group(rows: Sequence[SurveyRow], places: Sequence[int]) -> Mapping[str, object]:
    """Surveys with the same W."""
    first = rows[places[0]]
    return {"rows": [rows[place] for place in places], "first": first}


def _run(outcomes: Sequence[WorkerOutcomes]) -> Mapping[str, object] | None:
    """The last run in short."""
    if not outcomes:
        return None
    n_reached = sum(len(worker["models"]) for worker in outcomes)
    return {
        "name": outcomes[0]["run"],
        "began_at": min(worker["began_at"] for worker in outcomes),
        "ended_at": max(worker["ended_at"] for worker in outcomes),
        "workers": max(worker["workers"] for worker in outcomes),
        "n_workers": len(outcomes),
        "statuses": count_statuses(model["status"] for worker in outcomes for model in worker["models"]),
        "n_not_reached": max(0, sum(worker["n_models"] for worker in outcomes) - n_reached),
        "ended_by": [worker for worker in outcomes if worker["ended_by"]],
        "n_failed": sum(model["status"] == "failed" for worker in outcomes for model in worker["models"]),
    }


def _trouble(model: ModelOutcome) -> Mapping[str, object]:
    error = model["error"] or {"kind": "", "message": ""}
    return {"model": model["model"], "status": model["status"], **error}
