"""The verb ``index`` as a story: the table of all surveys of an OUTPUT, and the page that shows it. Every run brings
them up to date at its end.

Several workers may do so at once. Each publishes its surveys first, then its outcomes, and then lists all surveys and
writes the index. If by then another worker has published its outcomes, it does so again: what the other one published
may be missing in what was written. So the last of them leaves an index that is whole.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from job.catalogue.last_run import (
    OUTCOMES_KEY,
    RUNS,
    WorkerOutcomes,
    outcomes_as_bytes,
    outcomes_key,
    read_outcomes,
)
from job.catalogue.reading import bring_up_to_date, marks_of_manifests, with_pages
from job.catalogue.rows_file import Rows, rows_as_parquet, rows_of_parquet
from job.checkpoints.transport.parallel import call_beside
from job.errors import ConfigError, TransientError
from job.manifest.filing import manifest_key
from job.outcome import Outcome
from job.settings import Settings
from job.store.open import open_store
from job.store.store import ListedObject, Store, look_again

logger = logging.getLogger(__name__)

TABLE_KEY: Final = "surveys.parquet"
CSV_KEY: Final = "surveys.csv"
PAGE_KEY: Final = "index.html"
MAX_SECONDS: Final = 120.0
"""How long an update goes on while others keep publishing. Each of them brings the index up to date after that."""


def index_output(settings: Settings) -> Rows:
    """Bring the index of OUTPUT up to date. Returns its rows.

    Raises:
        ConfigError, TransientError: the store cannot be listed, read or written to.
    """
    store = open_store(settings.output, (), settings.parts)
    checking = call_beside(store.check)  # a dozen requests, which need not be waited for before the listing
    listing, known = store.listing(""), known_rows(store)
    return update_index(checking.result(), listing, known)


def end_run(
    settings: Settings,
    store: Store,
    outcomes: Sequence[Outcome],
    *,
    began_at: datetime,
    exit_status: int,
    ended_by: BaseException | None,
    n_models: int,
    max_seconds: float | None,
) -> None:
    """Publish what came of this worker's models, and bring the index up to date.

    Args:
        ended_by: what ended the run before its last model, if anything did.
        max_seconds: after which nobody waits for a store any more. None: after some minutes.

    Raises:
        ConfigError, TransientError: the store fails, or takes longer.
    """
    run = settings.run or f"{began_at:%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"
    key = outcomes_key(run, settings.worker)
    content = outcomes_as_bytes(
        outcomes,
        run=run,
        worker=settings.worker,
        workers=settings.workers,
        began_at=began_at.isoformat(timespec="seconds"),
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        exit_status=exit_status,
        ended_by=f"{type(ended_by).__name__}: {ended_by}" if ended_by else None,
        n_models=n_models,
    )
    published = [
        manifest_key(page.rpartition("/")[0])
        for outcome in outcomes
        if outcome.manifest
        for page in list(outcome.manifest.get("pages", {}).values())[:1]
    ]

    def update() -> None:
        store.write(key, content)
        try:
            update_index(store, store.listing(""), known_rows(store))
        except ConfigError as error:
            # Whoever may not list may still read and write.
            logger.warning("%s; the index gets the surveys of this worker alone", error)
            workers = [outcomes_key(run, worker) for worker in range(settings.workers)]
            add_to_index(store, published, {key: ListedObject(0) for key in workers})

    seconds = max_seconds or 2 * MAX_SECONDS
    try:
        call_beside(update).result(seconds)
    except TimeoutError as error:
        raise TransientError(
            f"{store.url(PAGE_KEY)}: not written after {seconds:,.0f} s, expected it sooner; run index later"
        ) from error


def update_index(store: Store, listing: Mapping[str, ListedObject], known: Rows) -> Rows:
    """Bring the index up to date with everything that is published.

    Args:
        listing: of all objects.
        known: the rows that need not be read again.

    Raises:
        ConfigError, TransientError: the store cannot be listed, read or written to.
    """
    deadline = time.monotonic() + MAX_SECONDS
    while True:
        known = with_pages(bring_up_to_date(store, known, marks_of_manifests(listing)), listing)
        write_index(store, known, read_outcomes(store, listing), listing)
        if ended_runs(store.listing(RUNS)) == ended_runs(listing) or time.monotonic() > deadline:
            logger.info("%s: surveys: %d", store.url(PAGE_KEY), len(known.rows))
            return known
        listing = store.listing("")


def ended_runs(listing: Mapping[str, ListedObject]) -> dict[str, str | None]:
    """The outcomes of workers that have ended, with the marks that tell whether they were written again."""
    return {key: listed.mark for key, listed in listing.items() if OUTCOMES_KEY.fullmatch(key)}


def add_to_index(store: Store, manifests: Sequence[str], outcomes: Mapping[str, ListedObject]) -> Rows:
    """Add the surveys of these manifests to the index of a store that may not be listed, and these outcomes. What
    others publish at the same moment is missing until they, or ``index``, add it.

    Raises:
        ConfigError, TransientError: the store cannot be read or written to.
    """

    def add() -> Rows:
        known = known_rows(store)
        marks = {row.key: row.mark for row in known.rows} | dict.fromkeys(manifests)
        rows = bring_up_to_date(store, known, marks)
        write_index(store, rows, read_outcomes(store, outcomes), {})
        return rows

    def has_own(_: Rows) -> bool:
        return set(manifests) <= {row.key for row in known_rows(store).rows}

    return look_again(add, has_own)


def known_rows(store: Store) -> Rows:
    """The rows of surveys.parquet as it is; none if it is missing, damaged or of another version."""
    content = store.read(TABLE_KEY)
    return (rows_of_parquet(content, store.url(TABLE_KEY)) if content else None) or Rows()


def write_index(
    store: Store, rows: Rows, outcomes: Sequence[WorkerOutcomes], listing: Mapping[str, ListedObject]
) -> None:
    """Write the files of the index, as far as they are not there as they should be."""
    from job.report.pages.index_page import index_page  # imports jinja2
    from job.report.surveys_csv import rows_as_csv

    contents = {
        TABLE_KEY: rows_as_parquet(rows),
        CSV_KEY: rows_as_csv(rows.rows),
        PAGE_KEY: index_page(rows.rows, outcomes),
    }
    for key, content in contents.items():
        listed = listing.get(key)
        if listed and listed.holds(content):
            continue
        if listed and listed.etag is None and listed.size == len(content) and store.read(key) == content:
            continue
        store.write(key, content)
