"""What a failed answer of the Hub means for a survey, and what a person can do about it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # exported, but lazily

from job.checkpoints.retries import Interrupted
from job.errors import ConfigError, ModelUnavailable


def hub_failure(
    error: HfHubHTTPError, where: str, hub: str, repo_id: str, token: str | None
) -> ModelUnavailable | ConfigError | Interrupted:
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
    if status == 401 and token and error.response.headers.get("X-Error-Code") is None:
        return ConfigError(
            f"{where}: {hub} refuses HF_TOKEN (status 401), even for public models; replace it by a valid one, "
            f"see {hub}/settings/tokens, or unset it"
        )
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return ModelUnavailable(
            f"{where}: no such repository, or a private one that is hidden {with_token}; check its name, "
            + ("or that this token may read it" if token else "or set HF_TOKEN to a token that may read it")
        )
    if status in (408, 429) or status >= 500:
        return Interrupted(f"{where}: status {status}", demanded_wait=demanded_wait(error.response))
    return ModelUnavailable(f"{where}: status {status} {with_token}, 200 was expected; see {hub}/{repo_id}")


def network_failure(error: httpx2.RequestError, where: str) -> Interrupted:
    """A request that got no answer, or not all of it. Its own words hold no address, but may quote a header."""
    words = "" if isinstance(error, httpx2.ProtocolError) else f" {error}"
    return Interrupted(f"{where}: {type(error).__name__}{words}".rstrip())


def demanded_wait(response: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait: an exhausted ``RateLimit`` or ``Retry-After``, as seconds or as a date."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0 and response.status_code == 429:
        return float(limit.reset_in_seconds)
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal() and text.isascii():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date.tzinfo else None
