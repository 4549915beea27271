"""The verb ``compare`` as a story: which two surveys are meant, and how they differ. A survey that finds its model
changed publishes the same comparison, as a page."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from job.errors import SurveyError
from job.manifest.filing import without_lost_pages
from job.manifest.published import Published
from job.manifest.schema import Manifest
from job.store.open import open_store
from job.store.store import Store

if TYPE_CHECKING:
    from job.differences.schema import SurveyDifference

logger = logging.getLogger(__name__)


def compare_published(output: str, names: Sequence[str]) -> "SurveyDifference":
    """How the survey of the second name differs from that of the first; of one name alone, from its predecessor.

    Raises:
        ConfigError: no survey has such a name, it has no predecessor, or the store refuses to be read.
        TransientError: what is published is damaged, or the store fails.
    """
    from job.differences.difference import compare_surveys
    from job.differences.names import find_predecessor, find_survey

    store = open_store(output, [], parts_in_flight=1)
    surveys = [find_survey(store, name) for name in names]
    a, b = surveys if len(surveys) == 2 else (find_predecessor(surveys[0]), surveys[0])
    return compare_surveys(a, b, "compare rows")


def publish_changes(store: Store, published: Published, manifest: Manifest) -> Manifest:
    """Publish the page that shows what changed since the previous survey, if anything did. Returns the manifest, which
    names that page. If this survey was published before, it keeps the page that it has.

    No W is read. A page that cannot be made is logged, and the survey stands.
    """
    pages = manifest.get("pages", {})
    if published.this_survey:
        kept = without_lost_pages(published.this_survey, published.listing).get("pages", {}).get("changes")
        return {**manifest, "pages": {**pages, "changes": kept}} if kept else manifest
    previous = published.previous_survey
    if previous is None or is_surely_unchanged(previous, manifest):
        return manifest
    from job.differences.difference import compare_surveys
    from job.differences.published_data import PublishedSurvey, folder_of
    from job.report.pages.compare_page import compare_page

    folder = published.folder
    key = f"{folder}/changes.html"
    try:
        difference = compare_surveys(
            PublishedSurvey(store, folder_of(previous), previous), PublishedSurvey(store, folder, manifest), "skip rows"
        )
        if not difference["changed"]:
            return manifest
        store.write(key, compare_page(difference, root="../" * (folder.count("/") + 1)))
    except (SurveyError, MemoryError, ValueError) as error:
        logger.warning("%s: no page of what changed: %s: %s", manifest["model"], type(error).__name__, error)
        return manifest
    return {**manifest, "pages": {**pages, "changes": key}}


def is_surely_unchanged(a: Manifest, b: Manifest) -> bool:
    """Whether two manifests alone show that nothing changed: the same W, and the same tokens in the same words."""
    return (
        a["w_sha256"] == b["w_sha256"]
        and a["tokenizer"] == b["tokenizer"]
        and a.get("token_counts") == b.get("token_counts")
    )
