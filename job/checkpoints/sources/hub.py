"""A checkpoint on the Hugging Face Hub, or another server that speaks its protocol. It knows the Hub's client."""

import re
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from job.checkpoints.checkpoint import Checkpoint, StoredFile
from job.checkpoints.sources.hub_errors import hub_failure
from job.checkpoints.sources.remote import resuming_fetch
from job.checkpoints.transport.http_ranges import (
    Address,
    HttpFiles,
    network_failure,
    origin,
    public_url,
    request_headers,
)
from job.checkpoints.transport.retries import DEFAULT_RETRY, Cooldown, RetryPolicy, retry
from job.errors import ConfigError, CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

PUBLIC_HUB = "https://huggingface.co"

_COMMIT = "X-Repo-Commit"
_MAX_REDIRECTS = 5


def open_hub(
    repo_id: str,
    revision: str | None,
    *,
    endpoint: str,
    token: str | None,
    read_timeout: float,
    retry_policy: RetryPolicy = DEFAULT_RETRY,
    cooldown: Cooldown | None = None,
) -> Checkpoint:
    """The checkpoint of a repository at a revision (None: its default branch), pinned to the commit it has now.

    ``endpoint`` is the Hub's address. ``token`` goes to that host alone; without one, none is
    sent, not even one that is saved on this machine. An answer that stays silent for ``read_timeout`` seconds is
    abandoned and asked for again. ``cooldown`` is shared with whoever else asks this Hub.

    Raises:
        ModelUnavailable: there is no such repository or revision, or it is gated, private or disabled.
        UnsupportedCheckpoint: the server does not speak the Hub's protocol.
        ConfigError: the Hub refuses the token, or the Hub's client is set to work offline.
        TransientError: the Hub cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    hub = endpoint.rstrip("/")
    info = retry(lambda: _model_info(hub, repo_id, revision, token, read_timeout), retry_policy, cooldown)
    commit = info.sha or ""
    source = f"{public_url(hub)}/{info.id}/tree/{commit}"
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UnsupportedCheckpoint(f"{source}: a commit of 40 hexadecimal characters was expected; check HF_ENDPOINT")
    files = {sibling.rfilename: _stored_file(source, sibling) for sibling in info.siblings or []}
    remote = HttpFiles(_Commit(hub, info.id, commit, token, read_timeout).resolve, read_timeout)

    return Checkpoint(
        repo_id=info.id,
        revision=revision,
        commit=commit,
        source=source,
        files=files,
        fetch=resuming_fetch(
            lambda file, stored, begin, end: remote.read(file, stored.size, begin, end),
            files,
            source,
            retry_policy,
            cooldown,
        ),
    )


def _model_info(hub: str, repo_id: str, revision: str | None, token: str | None, timeout: float) -> ModelInfo:
    """What the Hub says of a repository at a revision, with every file's size and object id."""
    where = f"{public_url(hub)}/{repo_id}" + (f"@{revision}" if revision else "")
    api = HfApi(endpoint=hub, token=token or False)
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=timeout)
        validate_repo_id(info.id)
    except HFValidationError as error:
        raise ModelUnavailable(f"{where}: not the name of a repository, org/name was expected; check it") from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(f"{where}: HF_HUB_OFFLINE forbids to ask the Hub; unset it or name a local folder") from error
    except HfHubHTTPError as error:
        raise hub_failure(error, where, public_url(hub), repo_id, token) from error
    except httpx2.RequestError as error:
        raise network_failure(error, where) from error
    except (httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:  # what parsing an unexpected document raises
        raise UnsupportedCheckpoint(
            f"{where}: the answer is not a Hub's ({type(error).__name__}), a model's description was expected; "
            "check HF_ENDPOINT"
        ) from error
    return info


def _stored_file(source: str, sibling: RepoSibling) -> StoredFile:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    content_id = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if size is None or size < 0 or not content_id:
        raise UnsupportedCheckpoint(
            f"{source}: {sibling.rfilename} is listed with size {size} and object id {content_id}, both were expected; "
            "use a server that answers ?blobs=true as the Hub does"
        )
    return StoredFile(size, content_id)


@dataclass(frozen=True)
class _Commit:
    """One commit of a repository, as this reader asks for it."""

    hub: str
    repo_id: str
    sha: str
    token: str | None
    timeout: float

    def resolve(self, file: str, size: int) -> Address:
        """Ask the Hub where a file's bytes are, and make sure that it means the same file."""
        url = httpx2.URL(hf_hub_url(self.repo_id, file, revision=self.sha, endpoint=self.hub))
        where = public_url(url)
        try:
            answer = self._ask(url)
            location = _leads_to(answer)
        except HfHubHTTPError as error:
            raise hub_failure(error, where, public_url(self.hub), self.repo_id, self.token) from error
        except httpx2.RequestError as error:
            raise network_failure(error, where) from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"{where}: it leads to {error}, an address was expected; use another server"
            ) from error
        own_size = None if answer.has_redirect_location else answer.headers.get("Content-Length")
        found_size, commit = answer.headers.get("X-Linked-Size", own_size), answer.headers.get(_COMMIT)
        if found_size not in (None, str(size)) or commit not in (None, self.sha):
            raise CorruptCheckpoint(
                f"{where}: {found_size} bytes of {commit}, {size} bytes of {self.sha} were listed; "
                "the server mixes versions: run again, or use another"
            )
        return Address(location, self._token_for(location))

    def _ask(self, url: httpx2.URL) -> httpx2.Response:
        """The Hub's answer about a file. Where it leads is asked once bytes are wanted, which saves a request; but an
        answer that speaks of no commit is not about the file yet, and is followed as long as it stays on the host."""
        for _ in range(_MAX_REDIRECTS):
            answer = get_session().request(
                "HEAD",
                url,
                headers=request_headers(self._token_for(url)),
                timeout=self.timeout,
                follow_redirects=False,
            )
            hf_raise_for_status(answer)
            leads_to = _leads_to(answer)
            if not answer.has_redirect_location or _COMMIT in answer.headers or origin(leads_to) != origin(url):
                return answer
            url = leads_to
        raise ValueError(f"more than {_MAX_REDIRECTS} redirects")

    def _token_for(self, url: httpx2.URL) -> str | None:
        """The token, for the Hub's own hosts only."""
        own = origin(url) in (origin(httpx2.URL(self.hub)), origin(httpx2.URL(PUBLIC_HUB)))
        return self.token if own else None


def _leads_to(answer: httpx2.Response) -> httpx2.URL:
    """Where a redirect points; any other answer points at itself."""
    # urljoin, because httpx2 takes "http://[cdn/" for a name.
    return httpx2.URL(urljoin(str(answer.url), answer.headers.get("Location", "")))
