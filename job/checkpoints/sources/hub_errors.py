"""What an error answer of the Hub means, and what to do about it."""

from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from job.checkpoints.transport.http_client import final_if_repeated, is_retryable, retryable_refusal
from job.checkpoints.transport.retries import RetryableError
from job.errors import ConfigError, ModelUnavailable, SurveyError


def hub_failure(error: HfHubHTTPError, where: str, hub: str, repo_id: str, token: str | None) -> RetryableError:
    """The error for an answer about a repository. What a refusal means is believed when it is repeated.

    The server's own text is left out: the server has seen the token, and an error's text is shown and stored.
    """
    if is_retryable(error.response):
        return retryable_refusal(error.response, where)
    return final_if_repeated(_refusal(error, where, hub, repo_id, token), error.response)


def _refusal(error: HfHubHTTPError, where: str, hub: str, repo_id: str, token: str | None) -> SurveyError:
    status = error.response.status_code
    with_token = "with this HF_TOKEN" if token else "without a token"
    if isinstance(error, GatedRepoError):
        advice = "use the token of an account that has it" if token else "set HF_TOKEN to a token of that account"
        return ModelUnavailable(
            f"{where}: a gated model, not readable {with_token}; accept the licence at {hub}/{repo_id} and {advice}"
        )
    if isinstance(error, DisabledRepoError):
        return ModelUnavailable(f"{where}: disabled by its owner or by the Hub; remove it from the list")
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
    return ModelUnavailable(f"{where}: found status {status} {with_token}, expected 200; see {hub}/{repo_id}")


def search_failure(error: HfHubHTTPError, query: str, hub: str, token: str | None) -> RetryableError:
    """The error for an answer to a query. What a refusal means is believed when it is repeated."""
    where, status = f"{query} at {hub}", error.response.status_code
    with_token = "with this HF_TOKEN" if token else "without a token"
    if is_retryable(error.response):
        return retryable_refusal(error.response, where)
    refusal = _refused_token(error, where, hub, token)
    if refusal is None and status in (401, 403, 404):
        refusal = ConfigError(
            f"{where}: found nothing that is readable {with_token} (status {status}); check the query's names, "
            + ("or that this token may read it" if token else "or set HF_TOKEN to a token that may read it")
        )
    if refusal is None:
        refusal = ConfigError(
            f"{where}: found status {status}, expected 200; check the query's values, such as its task"
        )
    return final_if_repeated(refusal, error.response)


def offline_error(where: str) -> ConfigError:
    """The error for the client's refusal to send any request."""
    return ConfigError(f"{where}: HF_HUB_OFFLINE is set, so no server may be asked; unset it, or name local folders")


def _refused_token(error: HfHubHTTPError, where: str, hub: str, token: str | None) -> ConfigError | None:
    if error.response.status_code != 401 or not token or error.response.headers.get("X-Error-Code") is not None:
        return None
    return ConfigError(
        f"{where}: {hub} refuses HF_TOKEN (status 401), even for public models; replace it with a valid one "
        f"(see {hub}/settings/tokens) or unset it"
    )
