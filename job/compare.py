"""The verb ``compare`` as a story: which two surveys are meant, how they differ, and how that is written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from job.differences.difference import compare_surveys
from job.differences.names import find_predecessor, find_survey
from job.store.open import open_store

if TYPE_CHECKING:
    from job.differences.schema import SurveyDifference


def compare_published(output: str, names: Sequence[str]) -> "SurveyDifference":
    """How the survey of the second name differs from that of the first; of one name alone, from its predecessor.

    Raises:
        ConfigError: no survey has such a name, it has no predecessor, or the store refuses to be read.
        TransientError: what is published is damaged, or the store fails.
    """
    store = open_store(output, [], parts_in_flight=1)
    surveys = [find_survey(store, name) for name in names]
    a, b = surveys if len(surveys) == 2 else (find_predecessor(surveys[0]), surveys[0])
    return compare_surveys(a, b, "compare rows")
