"""A checkpoint on the Hugging Face Hub, or on another server with the same protocol. It knows the Hub's client."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import httpx2
from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_name, hub_file
from job.checkpoints.sources.hub_answers import MODEL, ModelAnswer, NotAHubsAnswer, Sibling, parse_answer
from job.checkpoints.sources.hub_errors import hub_failure, offline_error
from job.checkpoints.sources.remote import resuming_fetch
from job.checkpoints.transport.http_ranges import (
    Address,
    HttpFiles,
    changed,
    network_failure,
    origin,
    public_url,
    request_headers,
)
from job.checkpoints.transport.retries import DEFAULT_RETRY, Cooldown, RetryPolicy, retry
from job.errors import CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

PUBLIC_HUB = "https://huggingface.co"

_COMMIT_HEADER = "X-Repo-Commit"
_MAX_REDIRECTS = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")


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

    ``endpoint`` is the Hub's address. ``token`` is sent to that host alone; without one, no token is sent, not even one
    that is saved on this machine. A request that brings nothing for ``read_timeout`` seconds is given up and tried
    again. ``cooldown`` is shared with everyone who asks this Hub.

    Raises:
        ModelUnavailable: the repository or revision does not exist, or is gated, private or disabled.
        UnsupportedCheckpoint: the server does not speak the Hub's protocol.
        ConfigError: the Hub refuses the token, or the Hub's client is set to work offline.
        TransientError: the Hub cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    hub = endpoint.rstrip("/")
    info = retry(lambda: _model_info(hub, repo_id, revision, token, read_timeout), retry_policy, cooldown)
    commit = info.sha or ""
    source = f"{public_url(hub)}/{info.id}/tree/{commit}"
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UnsupportedCheckpoint(
            f"{source}: found commit {commit!r:.80}, expected 40 hexadecimal digits; check HF_ENDPOINT"
        )
    set_aside = {}
    for sibling in info.siblings:
        # git allows a backslash in a name. Other names that are no paths can only come from a hostile server.
        if (name := sibling.rfilename) != name.replace("\\", ""):
            check_name(name.replace("\\", "/"), source)
            set_aside[name] = "its name holds a backslash"
    files = {
        sibling.rfilename: _stored_file(source, sibling)
        for sibling in info.siblings
        if sibling.rfilename not in set_aside
    }
    remote = HttpFiles(_Commit(hub, info.id, commit, files, token, read_timeout).resolve, read_timeout)

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
        set_aside=set_aside,
    )


def _model_info(hub: str, repo_id: str, revision: str | None, token: str | None, timeout: float) -> ModelAnswer:
    """The Hub's description of a repository at a revision, with every file's size and object id."""
    where = f"{public_url(hub)}/{repo_id}" + (f"@{revision}" if revision else "")
    at_revision = f"/revision/{quote(revision, safe='')}" if revision else ""
    try:
        validate_repo_id(repo_id)
        # Redirects are followed, as for a repository that was renamed; the client sends no token to another host.
        answer = get_session().get(
            f"{hub}/api/models/{repo_id}{at_revision}?blobs=true",
            headers=request_headers(token),
            timeout=timeout,
            follow_redirects=True,
        )
        hf_raise_for_status(answer)
        info = parse_answer(MODEL, answer.content)
        validate_repo_id(info.id)
    except HFValidationError as error:
        raise ModelUnavailable(f"{where}: not the name of a repository, expected org/name; check it") from error
    except OfflineModeIsEnabled as error:
        raise offline_error(where) from error
    except HfHubHTTPError as error:
        raise hub_failure(error, where, public_url(hub), repo_id, token) from error
    except httpx2.RequestError as error:
        raise network_failure(error, where) from error
    except (httpx2.InvalidURL, NotAHubsAnswer) as error:
        raise UnsupportedCheckpoint(
            f"{where}: the answer is not a Hub's ({error}), expected a model's description; check HF_ENDPOINT"
        ) from error
    return info


def _stored_file(source: str, sibling: Sibling) -> StoredFile:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    content_id = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if size is None or not content_id:
        raise UnsupportedCheckpoint(
            f"{source}: {sibling.rfilename} is listed with size {size} and object id {content_id}, expected both; use "
            "a server that answers ?blobs=true as the Hub does"
        )
    return hub_file(size, content_id)


@dataclass(frozen=True)
class _Commit:
    """One commit of a repository, and how this reader asks for its files."""

    hub: str
    repo_id: str
    sha: str
    files: Mapping[str, StoredFile]
    token: str | None
    timeout: float

    def resolve(self, file: str, size: int) -> Address:
        """The address of a file's bytes, once the Hub has confirmed its size, commit and object id."""
        url = httpx2.URL(hf_hub_url(self.repo_id, file, revision=self.sha, endpoint=self.hub))
        where = public_url(url)
        try:
            answer = self._head(url)
            location = _redirect_target(answer)
        except HfHubHTTPError as error:
            raise hub_failure(error, where, public_url(self.hub), self.repo_id, self.token) from error
        except httpx2.RequestError as error:
            raise network_failure(error, where) from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"{where}: found a redirect that leads nowhere ({error}), expected an address; use another server"
            ) from error
        own_size = None if answer.has_redirect_location else answer.headers.get("Content-Length")
        found_size, commit = answer.headers.get("X-Linked-Size", own_size), answer.headers.get(_COMMIT_HEADER)
        if found_size not in (None, str(size)) or commit not in (None, self.sha):
            raise CorruptCheckpoint(
                f"{where}: found {found_size} bytes of commit {commit}, expected {size} bytes of {self.sha} as listed; "
                "the server mixes versions: run again, or use another server"
            )
        stated_id, listed_id = _stated_id(answer), self.files[file].content_id
        # Only sha-256 is compared with the list: a mirror may name small files by another hash than git's.
        if stated_id and _SHA256.fullmatch(stated_id) and _SHA256.fullmatch(listed_id) and stated_id != listed_id:
            raise changed(where, stated_id, listed_id)
        return Address(location, self._token_for(location), stated_id=stated_id)

    def _head(self, url: httpx2.URL) -> httpx2.Response:
        """The Hub's answer to a HEAD request for a file.

        A redirect to the file's bytes names the commit, and is followed only when the bytes are read: that saves a
        request. A redirect without a commit leads to another name of the file, and is followed while it stays on the
        Hub's host.
        """
        for _ in range(_MAX_REDIRECTS):
            answer = get_session().request(
                "HEAD",
                url,
                headers=request_headers(self._token_for(url)),
                timeout=self.timeout,
                follow_redirects=False,
            )
            hf_raise_for_status(answer)
            target = _redirect_target(answer)
            if not answer.has_redirect_location or _COMMIT_HEADER in answer.headers or origin(target) != origin(url):
                return answer
            url = target
        raise ValueError(f"more than {_MAX_REDIRECTS} redirects")

    def _token_for(self, url: httpx2.URL) -> str | None:
        """The token, for the Hub's own hosts only."""
        own = origin(url) in (origin(httpx2.URL(self.hub)), origin(httpx2.URL(PUBLIC_HUB)))
        return self.token if own else None


def _stated_id(answer: httpx2.Response) -> str | None:
    """The object id of a file that the Hub states; None if it states none. A redirect's own ETag is not the file's."""
    own_etag = None if answer.has_redirect_location else answer.headers.get("ETag")
    etag = answer.headers.get("X-Linked-ETag", own_etag)
    return etag.removeprefix("W/").strip('"') if etag else None


def _redirect_target(answer: httpx2.Response) -> httpx2.URL:
    """The address that a redirect leads to; for any other answer, its own address."""
    # urljoin, because httpx2 takes "http://[cdn/" for a name.
    return httpx2.URL(urljoin(str(answer.url), answer.headers.get("Location", "")))
