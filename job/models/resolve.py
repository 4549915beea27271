"""From a list's entries to the models of this run: each query becomes the models that it finds today, pinned."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

from job.checkpoints.sources.hub import PUBLIC_HUB
from job.checkpoints.sources.hub_search import PAGE_LENGTH, HubSearch, ListedModel
from job.errors import ConfigError, ModelUnavailable
from job.locate import Cooldowns
from job.models.queries import MAX_MATCHES, Entry, ModelQuery, Sort
from job.models.references import ModelRef
from job.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueryLimits:
    """What one query may cost at most: more than that was hardly meant."""

    matches: int = MAX_MATCHES
    """Models that it finds."""
    listed: int = 10_000
    """Models that the Hub has to list for it: 20 of its pages."""


USUAL: Final = QueryLimits()

_SORTED_BY: Final[dict[Sort, str]] = {
    "created": "createdAt",
    "downloads": "downloads",
    "trending": "trendingScore",
}
"""What the Hub's API calls an order, as its client has it (``HfApi.list_models``). It lists the highest first, always
(https://github.com/huggingface/huggingface_hub/pull/3882)."""

_RANK: Final[dict[Sort, Callable[[ListedModel], float]]] = {
    "created": lambda model: model.created.timestamp(),
    "downloads": lambda model: model.downloads,
    "trending": lambda model: model.trending,
}


def resolve_today(settings: Settings, cooldowns: Cooldowns) -> list[ModelRef]:
    """The models that the run's list stands for on this day; raises what ``resolve`` does."""
    return resolve(settings.models, settings, cooldowns, datetime.now(UTC).date())


def resolve(
    entries: Sequence[Entry], settings: Settings, cooldowns: Cooldowns, today: date, bounds: QueryLimits = USUAL
) -> list[ModelRef]:
    """The models that a list stands for, each once, where it is found first; those that it names are as it names them.

    What a query finds is pinned to the commit of its main branch, unless the Hub no longer says one.

    Raises:
        ConfigError: a query finds more models than were meant, or nothing can come of it at this Hub.
        TransientError: the Hub cannot be asked.
    """
    refs: list[ModelRef] = []
    known = {entry.location.lower() for entry in entries if isinstance(entry, ModelRef)}
    for entry in entries:
        if isinstance(entry, ModelRef):
            refs.append(entry)
            continue
        found = _find(entry, settings, cooldowns, today, bounds)
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


def _find(
    query: ModelQuery, settings: Settings, cooldowns: Cooldowns, today: date, bounds: QueryLimits
) -> list[ModelRef]:
    """The models that a query finds, in its order."""
    hub = settings.hf_endpoint or PUBLIC_HUB
    search = HubSearch(hub, settings.hf_token, str(query), settings.read_timeout, cooldown=cooldowns.of(hub))
    template = ModelRef("hub", "", follow_base=query.follow_base, found_by=str(query))
    if query.collection:
        return _find_in_collection(query, query.collection, search, template, today, bounds)
    listed = _listed(query, search, today, bounds)
    return [replace(template, location=model.repo_id, commit=model.commit) for model in listed]


def _listed(query: ModelQuery, search: HubSearch, today: date, bounds: QueryLimits) -> list[ListedModel]:
    """The models that the Hub lists and the query means.

    The API cannot ask for dates, and only the order of their creation stands still while pages are asked for. So the
    newest come first, until one is too old, and are put into the query's order here. Where that takes too many, as for
    a month's releases of all authors, or without a date, and only the first are wanted, they come in the query's order.
    """
    own = _order_of(query)
    orders: list[Sort] = ["created"] if query.limit is None else [own] if query.since is None else ["created", own]
    for order in dict.fromkeys(orders):
        found = _listed_in(order, query, search, today, bounds)
        if found is not None:
            return _first(query, found)
    raise ConfigError(
        f"{query}: the Hub lists more than {bounds.listed:,} models, fewer were expected; narrow the query"
    )


def _order_of(query: ModelQuery) -> Sort:
    return query.sort or "created"


def _listed_in(
    order: Sort, query: ModelQuery, search: HubSearch, today: date, bounds: QueryLimits
) -> list[ListedModel] | None:
    """Those that the query means, as far as an order has to be followed for it; None where that is too far."""
    earliest = query.earliest(today)
    asked = {"author": query.author, "search": query.name, "pipeline_tag": query.task, "sort": _SORTED_BY[order]}
    filters = {name: value for name, value in asked.items() if value is not None}
    ends_at = query.limit if order == _order_of(query) else None
    page_length = min(PAGE_LENGTH, max(100, ends_at or PAGE_LENGTH))
    found: list[ListedModel] = []
    for number, model in enumerate(search.models(filters, page_length), 1):
        is_too_old = earliest is not None and model.created < earliest
        if is_too_old and order == "created":
            break
        if number > bounds.listed:
            return None
        if _means(query, model) and not is_too_old:
            found.append(model)
        if query.limit is None:
            _refuse_more_than_meant(query, len(found), bounds)
        elif len(found) == ends_at:
            break
    return found


def _find_in_collection(
    query: ModelQuery, slug: str, search: HubSearch, template: ModelRef, today: date, bounds: QueryLimits
) -> list[ModelRef]:
    """The models of a collection that the query means. It says nothing of their commits, so the Hub is asked for each.

    One that is no longer there is found nonetheless: that it is listed is worth a word in the run's summary.
    """
    earliest = query.earliest(today)
    names = list(dict.fromkeys(name for name in search.collection(slug) if query.admits(name)))
    _refuse_more_than_meant(query, len(names), bounds)
    found: list[ListedModel] = []
    gone: list[ModelRef] = []
    for name in names:
        try:
            model = search.model(name)
        except ModelUnavailable:
            gone.append(replace(template, location=name))
            continue
        if _means(query, model) and (earliest is None or model.created >= earliest):
            found.append(model)
    pinned = [replace(template, location=model.repo_id, commit=model.commit) for model in _first(query, found)]
    return (pinned + gone)[: query.limit]


def _means(query: ModelQuery, model: ListedModel) -> bool:
    """Whether a model is what a query asks for: the Hub searches authors for a part of the name, too, and a repository
    that was renamed answers to its old name.
    """
    return query.admits(model.repo_id) and query.task in (None, model.task)


def _first(query: ModelQuery, found: list[ListedModel]) -> list[ListedModel]:
    """Those that the query's order puts first, as many as it asks for; of equals, the one that was listed first."""
    ranked = sorted(found, key=_RANK[query.sort], reverse=True) if query.sort else found
    return ranked[: query.limit]


def _refuse_more_than_meant(query: ModelQuery, n_found: int, bounds: QueryLimits) -> None:
    if n_found > bounds.matches:
        raise ConfigError(
            f"{query}: finds more than {bounds.matches:,} models, fewer were expected; narrow the query or give a limit"
        )
