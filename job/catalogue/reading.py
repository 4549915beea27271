"""Brings the rows up to date with what is listed: reads the manifests that are new or were written again, several at
once."""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Final

from job.catalogue.row import SurveyRow, survey_row
from job.catalogue.rows_file import Rows
from job.checkpoints.transport.parallel import map_as_completed
from job.manifest.schema import SCHEMA_VERSION, checked_manifest
from job.store.store import ListedObject, Store

logger = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""How many manifests are read at once. With 20 ms a request, 1,000 take about 6 s (benchmarks/index.py)."""
MAX_NBYTES: Final = 100_000_000
"""The size of a manifest that is read. The largest that the job writes, with 20,000 tokens, has some megabytes."""
_MANIFEST_KEY: Final = re.compile(r"[^/]+/[^/]+/[0-9a-f]+/([^/]+/)?manifest\.json")
_PAGES: Final = ("report.html", "report.md")


def marks_of_manifests(listing: Mapping[str, ListedObject]) -> dict[str, str | None]:
    """The keys of the manifests, with the marks that tell whether they were written again."""
    marks = {key: listed.mark for key, listed in listing.items() if _MANIFEST_KEY.fullmatch(key)}
    for key in [key for key in marks if listing[key].size > MAX_NBYTES]:
        logger.warning("%s: %d bytes, expected at most %d; left out of the index", key, listing[key].size, MAX_NBYTES)
        del marks[key]
    return marks


def bring_up_to_date(store: Store, known: Rows, marks: Mapping[str, str | None]) -> Rows:
    """The rows of the manifests under these keys. Those whose marks are those of known rows are not read.

    Raises:
        SurveyError: the store cannot be read.
    """
    rows = {row.key: row for row in known.rows if row.mark is not None and marks.get(row.key) == row.mark}
    ignored: dict[str, str | None] = {
        key: mark for key, mark in known.ignored.items() if mark is not None and marks.get(key) == mark
    }
    to_read = sorted(marks.keys() - rows.keys() - ignored.keys())
    parsing = Lock()  # a manifest takes ten times its size while it is parsed

    def read(key: str) -> SurveyRow | None:
        content = store.read(key)
        if content is None:
            return None
        try:
            with parsing:
                return survey_row(key, marks[key], checked_manifest(json.loads(content)))
        except (ValueError, RecursionError):
            logger.warning("%s: not a manifest of schema %d; left out of the index", store.url(key), SCHEMA_VERSION)
            return None

    for key, row in map_as_completed(read, to_read, AT_ONCE):
        if row:
            rows[key] = row
        else:
            ignored[key] = marks[key]
    return Rows(tuple(_in_order(rows.values())), ignored)


def with_pages(rows: Rows, listing: Mapping[str, ListedObject]) -> Rows:
    """The same rows, with the pages that are there now: they may be made again at any time."""
    return replace(rows, rows=tuple(replace(row, page=_page(row, listing)) for row in rows.rows))


def _page(row: SurveyRow, listing: Mapping[str, ListedObject]) -> str:
    folder = row.key.rpartition("/")[0]
    return next((page for name in _PAGES if (page := f"{folder}/{name}") in listing), row.page)


def _in_order(rows: Iterable[SurveyRow]) -> list[SurveyRow]:
    """The rows by model, the newest survey of each last, and marked as the latest."""
    of_model: defaultdict[str, list[SurveyRow]] = defaultdict(list)
    for row in rows:
        of_model[row.model].append(row)
    return [row for model in sorted(of_model) for row in _of_one_model(of_model[model])]


def _of_one_model(rows: Sequence[SurveyRow]) -> list[SurveyRow]:
    ordered = sorted(rows, key=lambda row: (row.sequence, row.published_at, row.commit, row.key))
    latest = next((row.key for row in reversed(ordered) if not row.chosen_by_user), None)
    return [replace(row, is_latest=row.key == latest) for row in ordered]
