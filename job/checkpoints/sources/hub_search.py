"""What the Hub lists: models, collections, one model's entry and its revisions. It knows the Hub's client."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx2
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # exported, but lazily

from job.checkpoints.sources.hub_answers import (
    COLLECTION,
    ITEM,
    LISTED,
    PAGE,
    REF,
    REFS,
    ListedAnswer,
    NotAHubsAnswer,
    parse_answer,
    parse_items,
)
from job.checkpoints.sources.hub_errors import hub_failure, offline_error, search_failure
from job.checkpoints.transport.http_client import BAD_REDIRECTS, HttpClient, public_url
from job.checkpoints.transport.retries import RetryableError
from job.errors import ConfigError, UnsupportedCheckpoint
from job.models.revisions import NamedCommit

Value = TypeVar("Value")

PAGE_LENGTH: Final = 500
"""Models on a page, if more than that are wanted. The Hub's own client in JavaScript asks for as many
(https://github.com/huggingface/huggingface.js/blob/main/packages/hub/src/lib/list-models.ts)."""

# The properties (https://huggingface.co/docs/hub/api) that pin a model and sort the list. With `expand`, an answer has
# only the properties that are named; without it, a list has no `sha`.
_EXPAND: Final = ("sha", "createdAt", "downloads", "trendingScore", "pipeline_tag")


@dataclass(frozen=True)
class ListedModel:
    """A repository as the Hub lists it."""

    repo_id: str
    commit: str | None
    """The commit of its main branch; None if the Hub does not say it."""
    created: datetime
    downloads: int
    """Downloads in the last 30 days."""
    trending: float
    task: str | None


@dataclass(frozen=True)
class HubSearch:
    """How one query asks a Hub.

    A request that fails is tried again by itself, so that a listing goes on at the page that failed. The client's own
    ``list_models`` is not used, because it retries without regard to a cool-down that the Hub demanded of other
    threads; nor is its ``get_collection``, because it has no time-out.
    """

    hub: str
    token: str | None
    """Sent to the Hub alone."""
    query: str
    """The query, as errors name it."""
    client: HttpClient

    def models(self, filters: Mapping[str, str], page_length: int) -> Iterator[ListedModel]:
        """The models that the Hub lists for these parameters of its API. Pages are fetched as the caller needs them.

        Raises:
            ConfigError: the Hub refuses the query or the token, or the server is not a Hub.
            TransientError: the Hub cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
        """
        parameters: str | None = urlencode([*filters.items(), ("limit", page_length), *_expand()])
        listed: set[str] = set()
        n_pages_without_new = 0
        while parameters is not None:
            page, parameters = self._get(f"{self.hub}/api/models?{parameters}", self._models_and_next, self._failure)
            new = [model for model in page if model.repo_id not in listed]  # downloads may change between two pages
            n_pages_without_new = 0 if new else n_pages_without_new + 1
            if n_pages_without_new > 1:
                raise ConfigError(
                    f"{self.query} at {public_url(self.hub)}: found two pages in a row without a new model, expected "
                    "others; check HF_ENDPOINT"
                )
            listed.update(model.repo_id for model in new)
            yield from new

    def collection(self, slug: str) -> list[str]:
        """The names of the models in a collection, in its order. Other items are ignored.

        Raises:
            ConfigError: as above, or the collection does not exist.
            TransientError: as above.
        """
        return self._get(f"{self.hub}/api/collections/{slug}", self._models_of_collection, self._failure)

    def model(self, repo_id: str) -> ListedModel:
        """One repository as the Hub lists it.

        Raises:
            ModelUnavailable: it does not exist, or this reader has no access to it.
            UnsupportedCheckpoint: the answer about it is not a Hub's.
            ConfigError, TransientError: as above.
        """
        return self._get_of_model(
            repo_id,
            f"?{urlencode(_expand())}",
            lambda answer: _listed(parse_answer(LISTED, answer.content)),
            "a listed model",
        )

    def revisions(self, repo_id: str, *, with_pull_requests: bool) -> list[NamedCommit]:
        """The branches and tags of a repository, and its pull requests if they are asked for: one request.

        Raises:
            ModelUnavailable: the repository does not exist, or this reader has no access to it.
            UnsupportedCheckpoint: the answer about it is not a Hub's.
            ConfigError, TransientError: as above.
        """

        def named_commits(answer: httpx2.Response) -> list[NamedCommit]:
            refs = parse_answer(REFS, answer.content)
            items = parse_items(REF, [*refs.branches, *refs.tags, *refs.pull_requests], self.query)
            # The name of a pull request is its number on some servers, and its whole name in git is what can be asked.
            return [
                NamedCommit(item.ref if item.ref.startswith("refs/pr/") else item.name, item.ref, item.target_commit)
                for item in items
            ]

        path = "/refs?include_prs=1" if with_pull_requests else "/refs"
        return self._get_of_model(repo_id, path, named_commits, "its branches and tags")

    def _get_of_model(self, repo_id: str, path: str, parse: Callable[[httpx2.Response], Value], expected: str) -> Value:
        """What the Hub answers about one repository. ``path``: what follows its name in the address."""
        where = f"{public_url(self.hub)}/{repo_id}"

        def failure(error: HfHubHTTPError) -> RetryableError:
            return hub_failure(error, where, public_url(self.hub), repo_id, self.token)

        def parsed(answer: httpx2.Response) -> Value:
            try:
                return parse(answer)
            except NotAHubsAnswer as error:
                refusal = UnsupportedCheckpoint(
                    f"{where}: the answer is not a Hub's ({error}), expected {expected}; check HF_ENDPOINT"
                )
                raise RetryableError.unless_repeated(refusal, explained=error.is_json) from error

        return self._get(f"{self.hub}/api/models/{repo_id}{path}", parsed, failure)

    def _get(
        self,
        url: str,
        parse: Callable[[httpx2.Response], Value],
        failure: Callable[[HfHubHTTPError], RetryableError],
    ) -> Value:
        where = f"{self.query} at {public_url(self.hub)}"

        def attempt() -> Value:
            try:
                # Redirects are followed; the client sends no token to another host.
                answer = self.client.answer("GET", url, self.token, follow_redirects=True)
                hf_raise_for_status(answer)
                return parse(answer)
            except OfflineModeIsEnabled as error:
                raise offline_error(where) from error
            except HfHubHTTPError as error:
                raise failure(error) from error
            except BAD_REDIRECTS as error:
                refusal = ConfigError(
                    f"{where}: found a redirect that leads nowhere ({error}), expected models; check HF_ENDPOINT"
                )
                raise RetryableError.unless_repeated(refusal, explained=True) from error
            except (NotAHubsAnswer, ValueError) as error:  # ValueError: the next page's address is none
                refusal = ConfigError(
                    f"{where}: the answer is not a Hub's ({error}), expected models; check HF_ENDPOINT"
                )
                is_json = not isinstance(error, NotAHubsAnswer) or error.is_json
                raise RetryableError.unless_repeated(refusal, explained=is_json) from error

        return self.client.retry(attempt)

    def _failure(self, error: HfHubHTTPError) -> RetryableError:
        return search_failure(error, self.query, public_url(self.hub), self.token)

    def _models_and_next(self, answer: httpx2.Response) -> tuple[list[ListedModel], str | None]:
        """A page, and the parameters of the next page.

        Only the parameters of the next page's address are used. The page is asked of this Hub: a mirror may answer with
        addresses of the Hub that it mirrors, and the token may be sent to this Hub alone.
        """
        models = [_listed(item) for item in parse_items(LISTED, parse_answer(PAGE, answer.content), self.query)]
        next_url = answer.links.get("next", {}).get("url")
        return models, (urlsplit(next_url).query or None) if next_url and models else None

    def _models_of_collection(self, answer: httpx2.Response) -> list[str]:
        items = parse_items(ITEM, parse_answer(COLLECTION, answer.content).items, self.query)
        return [item.id for item in items if item.type == "model" and item.id is not None]


def _expand() -> list[tuple[str, str]]:
    return [("expand", name) for name in _EXPAND]


def _listed(item: ListedAnswer) -> ListedModel:
    return ListedModel(
        repo_id=item.id,
        commit=item.sha if item.sha and re.fullmatch(r"[0-9a-f]{40}", item.sha) else None,
        created=item.created_at,
        downloads=item.downloads or 0,
        trending=item.trending_score or 0,
        task=item.pipeline_tag,
    )
