"""From a list's entries to the models of a run: queries and patterns of revisions become what they find today."""

import logging
from collections.abc import Callable, Sequence

from job.models.queries import Entry, ModelQuery
from job.models.references import ModelRef
from job.models.revisions import ModelRevisions

logger = logging.getLogger(__name__)


def resolve(
    entries: Sequence[Entry],
    find: Callable[[ModelQuery], list[ModelRef]],
    find_revisions: Callable[[ModelRevisions], list[ModelRef]],
) -> list[ModelRef]:
    """The models that a list stands for, each once, where it is found first. ``find`` says what a query finds, and
    ``find_revisions`` which revisions an entry stands for.

    A model that the list names is surveyed as the list names it, even if a query before it finds it too. Raises what
    ``find`` and ``find_revisions`` raise.
    """
    refs: list[ModelRef] = []
    known = {_model_of(entry).location.lower() for entry in entries if not isinstance(entry, ModelQuery)}
    for entry in entries:
        if isinstance(entry, ModelRef):
            refs.append(entry)
            continue
        if isinstance(entry, ModelRevisions):
            refs += find_revisions(entry)
            continue
        found = find(entry)
        if found:
            logger.info("%s: finds models: %d", entry, len(found))
        else:
            logger.warning("%s: finds no model", entry)
        for ref in found:
            if ref.location.lower() not in known:  # the Hub takes org/Name for org/name
                known.add(ref.location.lower())
                refs.append(ref)
    if not refs:
        logger.warning("the list's queries find no model: there is nothing to do")
    return refs


def _model_of(entry: ModelRef | ModelRevisions) -> ModelRef:
    return entry.model if isinstance(entry, ModelRevisions) else entry
