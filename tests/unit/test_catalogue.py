"""A survey's row, the table of rows, and what several surveys have in common."""

import csv
import io
import random
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job import __version__
from job.catalogue.families import families, family_of_rows, revisions, same_w
from job.catalogue.row import MAX_TOKENS, SurveyRow, family_of, survey_row
from job.catalogue.rows_file import Rows, rows_as_parquet, rows_of_parquet
from job.manifest.schema import checked_manifest
from job.report.surveys_csv import COLUMNS, LEFT_OUT, rows_as_csv
from tests.documentation import DOCS, named_in_first_cells, section
from tests.many_surveys import commit_of, manifest_like, many_manifests, real_manifest
