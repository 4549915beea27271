"""What a query finds on a Hub today: its models, each pinned to a commit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from job.checkpoints.sources.access import Access
from job.checkpoints.sources.hub_search import PAGE_LENGTH, HubSearch, ListedModel
from job.errors import ConfigError, ModelError
from job.models.queries import MAX_MATCHES, ModelQuery, Sort
from job.models.references import ModelRef


@dataclass(frozen=True)
class QueryLimits:
    """What one query may cost at most. A query that costs more is probably a mistake."""

    matches: int = MAX_MATCHES
    """Models that it finds."""
    listed: int = 10_000
    """Models that the Hub has to list for it: 20 of its pages."""


DEFAULT_LIMITS: Final = QueryLimits()

_API_SORT: Final[dict[Sort, str]] = {
    "created": "createdAt",
    "downloads": "downloads",
    "trending": "trendingScore",
}
"""What the Hub's API calls an order, as in its own client (``HfApi.list_models``). It always lists the highest first
(https://github.com/huggingface/huggingface_hub/pull/3882)."""

_SORT_KEY: Final[dict[Sort, Callable[[ListedModel], float]]] = {
    "created": lambda model: model.created.timestamp(),
    "downloads": lambda model: model.downloads,
    "trending": lambda model: model.trending,
}


def find_models(query: ModelQuery, access: Access, today: date, limits: QueryLimits = DEFAULT_LIMITS) -> list[ModelRef]:
    """The models that a query finds, in its order, pinned to the commit of their main branch.

    A model that the Hub says no commit of is not pinned.

    Raises:
        ConfigError: the query finds more than its limits allow, or the Hub refuses it.
        TransientError: the Hub cannot be asked.
    """
    search = HubSearch(access.hub, access.hf_token, str(query), access.client(access.hub))
    earliest = query.earliest(today)
    if query.collection is not None:
        return _find_in_collection(query, query.collection, search, earliest, limits)
    return _refs(query, _find_in_list(query, search, earliest, limits))


def _find_in_list(
    query: ModelQuery, search: HubSearch, earliest: datetime | None, limits: QueryLimits
) -> list[ListedModel]:
    """The matches among the models that the Hub lists.

    The API cannot filter by date, and only the order of creation does not change while pages are being listed. So the
    models are listed from the newest to the first one that is too old, and then sorted as the query says. If that
    takes too many pages, or the query has no date, and it has a limit, they are listed in the query's own order.
    """
    own_order = query.sort or "created"
    if query.limit is None:
        orders: list[Sort] = ["created"]
    elif query.since is None:
        orders = [own_order]
    else:
        orders = ["created", own_order]
    for order in dict.fromkeys(orders):
        found = _list_in_order(order, query, search, earliest, limits)
        if found is not None:
            return _first(query, found)
    raise ConfigError(f"{query}: the Hub lists more than {limits.listed:,} models, expected fewer; narrow the query")


def _list_in_order(
    order: Sort, query: ModelQuery, search: HubSearch, earliest: datetime | None, limits: QueryLimits
) -> list[ListedModel] | None:
    """The matches, as far as the list in this order has to be followed; None if that is too far."""
    parameters = {"author": query.author, "search": query.name, "pipeline_tag": query.task, "sort": _API_SORT[order]}
    filters = {name: value for name, value in parameters.items() if value is not None}
    enough = query.limit if order == (query.sort or "created") else None
    page_length = min(PAGE_LENGTH, max(100, enough or PAGE_LENGTH))
    found: list[ListedModel] = []
    for number, model in enumerate(search.models(filters, page_length), 1):
        is_too_old = earliest is not None and model.created < earliest
        if is_too_old and order == "created":
            break
        if number > limits.listed:
            return None
        if _matches(query, model) and not is_too_old:
            found.append(model)
        if query.limit is None:
            _check_number(query, len(found), limits)
        elif len(found) == enough:
            break
    return found


def _find_in_collection(
    query: ModelQuery, slug: str, search: HubSearch, earliest: datetime | None, limits: QueryLimits
) -> list[ModelRef]:
    """The matches in a collection. A collection holds names without commits, so the Hub is asked about each model.

    Models that are gone, or that the Hub describes as nothing it can be, come last and without a commit, so that the
    run's summary says that they are listed.
    """
    names = list(dict.fromkeys(name for name in search.collection(slug) if query.matches_name(name)))
    _check_number(query, len(names), limits)
    found: list[ListedModel] = []
    gone: list[str] = []
    for name in names:
        try:
            model = search.model(name)
        except ModelError:
            gone.append(name)
            continue
        if _matches(query, model) and (earliest is None or model.created >= earliest):
            found.append(model)
    refs = _refs(query, _first(query, found)) + [_ref(query, name, commit=None) for name in gone]
    return refs[: query.limit]


def _matches(query: ModelQuery, model: ListedModel) -> bool:
    """Whether a listed model is what the query asks for.

    The Hub also searches authors for a part of the name, and a repository that was renamed answers to its old name.
    """
    return query.matches_name(model.repo_id) and query.task in (None, model.task)


def _first(query: ModelQuery, found: list[ListedModel]) -> list[ListedModel]:
    """As many models as the query asks for, in its order; of equals, the one that was listed first."""
    ordered = sorted(found, key=_SORT_KEY[query.sort], reverse=True) if query.sort else found
    return ordered[: query.limit]


def _check_number(query: ModelQuery, n_found: int, limits: QueryLimits) -> None:
    """Check that a query does not find too many models.

    Raises:
        ConfigError: it does.
    """
    if n_found > limits.matches:
        raise ConfigError(
            f"{query}: finds more than {limits.matches:,} models, expected fewer; narrow the query or give a limit"
        )


def _refs(query: ModelQuery, models: Iterable[ListedModel]) -> list[ModelRef]:
    return [_ref(query, model.repo_id, model.commit) for model in models]


def _ref(query: ModelQuery, repo_id: str, commit: str | None) -> ModelRef:
    return ModelRef("hub", repo_id, commit=commit, follow_base=query.follow_base, found_by=str(query))
