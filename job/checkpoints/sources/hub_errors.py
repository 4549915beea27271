"""What a failed answer of the Hub means for a survey, and what a person can do about it."""

from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from job.checkpoints.transport.http_ranges import is_retryable, retryable_refusal
from job.checkpoints.transport.retries import RetryableError
from job.errors import ConfigError, ModelUnavailable


def hub_failure(
    error: HfHubHTTPError, where: str, hub: str, repo_id: str, token: str | None
) -> ModelUnavailable | ConfigError | RetryableError:
    """The failure that an error answer of the Hub stands for.

    The server's own words are left out: it has seen the token, and what it answers is shown and stored.
    """
    status = error.response.status_code
    with_token = "with this HF_TOKEN" if token else "without a token"
    if isinstance(error, GatedRepoError):
        advice = "use the token of an account that has it" if token else "set HF_TOKEN to a token of that account"
        return ModelUnavailable(
            f"{where}: gated, and not open to a reader {with_token}; accept the licence at {hub}/{repo_id} and {advice}"
        )
    if isinstance(error, DisabledRepoError):
        return ModelUnavailable(f"{where}: disabled by its owner or by the Hub; take it off the list")
    if isinstance(error, RevisionNotFoundError):
        return ModelUnavailable(f"{where}: no such revision; see {hub}/{repo_id}/commits/main")
    if isinstance(error, EntryNotFoundError):
        return ModelUnavailable(f"{where}: the file is listed but not there; see {hub}/{repo_id}/tree/main")
    if refusal := _refused_token(error, where, hub, token):
        return refusal
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return ModelUnavailable(
            f"{where}: no such repository, or a private one that is hidden {with_token}; check its name, "
            + ("or that this token may read it" if token else "or set HF_TOKEN to a token that may read it")
        )
    if is_retryable(error.response):
        return retryable_refusal(error.response, where)
    return ModelUnavailable(f"{where}: status {status} {with_token}, 200 was expected; see {hub}/{repo_id}")


def search_failure(error: HfHubHTTPError, query: str, hub: str, token: str | None) -> ConfigError | RetryableError:
    """The failure that an error answer to a query stands for."""
    where, status = f"{query} at {hub}", error.response.status_code
    with_token = "with this HF_TOKEN" if token else "without a token"
    if is_retryable(error.response):
        return retryable_refusal(error.response, where)
    if refusal := _refused_token(error, where, hub, token):
        return refusal
    if status in (401, 403, 404):
        return ConfigError(
            f"{where}: status {status}: nothing there, or nothing that is shown {with_token}; check the query's names, "
            + ("or that this token may read it" if token else "or set HF_TOKEN to a token that may read it")
        )
    return ConfigError(f"{where}: status {status}, 200 was expected; check the query's values, such as its task")


def _refused_token(error: HfHubHTTPError, where: str, hub: str, token: str | None) -> ConfigError | None:
    if error.response.status_code != 401 or not token or error.response.headers.get("X-Error-Code") is not None:
        return None
    return ConfigError(
        f"{where}: {hub} refuses HF_TOKEN (status 401), even for public models; replace it by a valid one, "
        f"see {hub}/settings/tokens, or unset it"
    )
