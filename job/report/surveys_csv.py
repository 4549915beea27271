"""surveys.csv: the same rows as surveys.parquet, for spreadsheets. No cell is a formula."""

import csv
from collections.abc import Iterable
from dataclasses import fields
from io import StringIO
from typing import Final

from job.catalogue.row import SurveyRow
from job.report.text import escape

LEFT_OUT: Final = ("key", "mark", "hole_populations", "hole_listed", "hole_tokens")
"""What the file does not have: what only an update needs, and lists."""
COLUMNS: Final = tuple(each.name for each in fields(SurveyRow) if each.name not in LEFT_OUT)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a cell begins with that spreadsheets take for a formula (OWASP, "CSV Injection")."""


def rows_as_csv(rows: Iterable[SurveyRow]) -> bytes:
    """The content of surveys.csv, with a line of names. What a manifest does not state is empty."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return escape(f"'{value}" if value.startswith(_FORMULA) else value)
    return value
