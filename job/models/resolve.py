"""From a list's entries to the models of a run: each query becomes the models that it finds."""

import logging
from collections.abc import Callable, Sequence

from job.models.queries import Entry, ModelQuery
from job.models.references import ModelRef

logger = logging.getLogger(__name__)


def resolve(entries: Sequence[Entry], find: Callable[[ModelQuery], list[ModelRef]]) -> list[ModelRef]:
    """The models that a list stands for, each once, where it is found first. ``find`` says what a query finds.

    A model that the list names is surveyed as the list names it, even if a query before it finds it too. Raises what
    ``find`` raises.
    """
    refs: list[ModelRef] = []
    known = {entry.location.lower() for entry in entries if isinstance(entry, ModelRef)}
    for entry in entries:
        if isinstance(entry, ModelRef):
            refs.append(entry)
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
