"""Which revisions of a model the patterns of a list match today: on the Hub, by one request, or in its cache."""

import logging
from dataclasses import replace
from typing import NoReturn

from job.checkpoints.sources.access import Access
from job.checkpoints.sources.hub_cache import cached_revisions
from job.errors import ConfigError, ModelError, ModelUnavailable, TransientError, join_limited
from job.models.references import ModelRef
from job.models.revisions import MAX_REVISIONS, ModelRevisions, NamedCommit, expand, natural_order

logger = logging.getLogger(__name__)


def revisions_of(entry: ModelRevisions, access: Access) -> list[ModelRef]:
    """The revisions that an entry stands for, each commit once and pinned, oldest first.

    If the model's revisions cannot be listed for a reason of its own (it is missing, gated, or its server lists none),
    what the entry names stays as it is: the run goes on, and each of these is read or refused by itself.

    Raises:
        ConfigError: the entry stands for too many commits, or the Hub refuses the token.
        TransientError: the Hub cannot be asked.
    """
    try:
        listed = _listed(entry, access)
    except ModelError as error:
        logger.warning("%s: the revisions cannot be listed: %s", entry, error)
        listed = []
    refs = expand(entry, listed)
    if len(refs) > MAX_REVISIONS:
        raise ConfigError(
            f"{entry}: stands for {len(refs):,} commits, expected at most {MAX_REVISIONS:,}; narrow the patterns"
        )
    logger.info("%s: finds commits: %d", entry, len(refs))
    for ref in refs:
        if len(ref.revisions) > 1:
            names = join_limited(ref.revisions)
            logger.info("%s: these revisions are one commit, surveyed once: %s", ref, names, extra={"model": str(ref)})
    return refs


def refuse_pattern(ref: ModelRef, access: Access) -> NoReturn:
    """Say why a pattern of revisions was not replaced by revisions when the list was resolved.

    Raises:
        ModelUnavailable: no revision matches it, or the model is missing or gated.
        SurveyError: the revisions cannot be listed, for the reason that their server states.
    """
    pattern = ref.revision or ""
    entry = ModelRevisions(replace(ref, revision=None, revisions=()), (pattern,))
    listed = _listed(entry, access)
    if any(found.commit for found in expand(entry, listed)):
        raise TransientError(
            f"{ref}: found no revision for this pattern when the run began, and finds one now; run again"
        )
    names = sorted({named.name for named in listed}, key=natural_order)
    raise ModelUnavailable(
        f"{ref}: found the revisions {join_limited(names) or 'none'}, expected one or more that match "
        f"{pattern}; correct 'revisions'"
    )


def _listed(entry: ModelRevisions, access: Access) -> list[NamedCommit]:
    if entry.model.source == "folder":
        return cached_revisions(entry.model.path)
    from job.checkpoints.sources.hub_search import HubSearch  # imports the Hub's client

    search = HubSearch(access.hub, access.hf_token, str(entry), access.client(access.hub))
    return search.revisions(entry.model.location, with_pull_requests=entry.asks_for_pull_requests)
