"""A checkpoint on the Hugging Face Hub, or on another server with the same protocol. It knows the Hub's client."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import httpx2
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    hf_raise_for_status,
    validate_repo_id,
)

from job.checkpoints.checkpoint import Checkpoint, FilesOnDemand, StoredFile, check_name, hub_file
from job.checkpoints.sources.hub_answers import MODEL, ModelAnswer, NotAHubsAnswer, Sibling, parse_answer
from job.checkpoints.sources.hub_errors import hub_failure, offline_error
from job.checkpoints.sources.remote import resuming_fill
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.http_client import BAD_REDIRECTS, HttpClient, origin, public_url
from job.checkpoints.transport.http_ranges import Address, HttpFiles, changed
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy
from job.errors import CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

PUBLIC_HUB = "https://huggingface.co"

_COMMIT_HEADER, _SIZE_HEADER = "X-Repo-Commit", "X-Linked-Size"
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
    deadline: Deadline | None = None,
) -> Checkpoint:
    """The checkpoint of a repository at a revision (None: its default branch), pinned to the commit it has now.

    ``endpoint`` is the Hub's address. ``token`` is sent to that host alone; without one, no token is sent, not even one
    that is saved on this machine. A request that brings nothing for ``read_timeout`` seconds is given up and tried
    again. ``cooldown`` is shared with everyone who asks this Hub, ``deadline`` with everyone who reads for the model.

    What the Hub lists of a file is its size and object id. A mirror may list names alone: what it does not say is asked
    when a file is needed, by HEAD, as the Hub's own client does before it downloads one.

    Raises:
        ModelUnavailable: the repository or revision does not exist, or is gated, private or disabled.
        UnsupportedCheckpoint: the server does not speak the Hub's protocol.
        ConfigError: the Hub refuses the token, or the Hub's client is set to work offline.
        TransientError: the Hub cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    hub = endpoint.rstrip("/")
    client = HttpClient(read_timeout, retry_policy, cooldown or Cooldown(), deadline or Deadline())
    info = client.retry(lambda: _model_info(client, hub, repo_id, revision, token))
    commit = info.sha or ""
    source = f"{public_url(hub)}/{info.id}/tree/{commit}"
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UnsupportedCheckpoint(
            f"{source}: found commit {commit!r:.80}, expected 40 hexadecimal digits; check HF_ENDPOINT"
        )
    listed, set_aside = _listed_files(info, source)
    files, remote = _files(_Commit(hub, info.id, commit, token, client), listed)
    return Checkpoint(
        repo_id=info.id,
        revision=revision,
        commit=commit,
        source=source,
        created_at=info.created_at,
        last_modified=info.last_modified,
        files=files,
        fill=resuming_fill(
            lambda file, stored, begin, buffer: remote.read(file, stored.size, begin, buffer),
            files,
            source,
            retry_policy,
            client.cooldown,
            client.deadline,
        ),
        set_aside=set_aside,
    )


def _model_info(client: HttpClient, hub: str, repo_id: str, revision: str | None, token: str | None) -> ModelAnswer:
    """The Hub's description of a repository at a revision, with every file's size and object id as far as it says."""
    where = f"{public_url(hub)}/{repo_id}" + (f"@{revision}" if revision else "")
    at_revision = f"/revision/{quote(revision, safe='')}" if revision else ""
    try:
        validate_repo_id(repo_id)
        # Redirects are followed, as for a repository that was renamed; the client sends no token to another host.
        url = f"{hub}/api/models/{repo_id}{at_revision}?blobs=true"
        answer = client.answer("GET", url, token, follow_redirects=True)
        hf_raise_for_status(answer)
        info = parse_answer(MODEL, answer.content)
        validate_repo_id(info.id)
    except HFValidationError as error:
        raise ModelUnavailable(f"{where}: not the name of a repository, expected org/name; check it") from error
    except OfflineModeIsEnabled as error:
        raise offline_error(where) from error
    except HfHubHTTPError as error:
        raise hub_failure(error, where, public_url(hub), repo_id, token) from error
    except (*BAD_REDIRECTS, NotAHubsAnswer) as error:
        refusal = UnsupportedCheckpoint(
            f"{where}: the answer is not a Hub's ({error}), expected a model's description; check HF_ENDPOINT"
        )
        is_json = not isinstance(error, NotAHubsAnswer) or error.is_json
        raise RetryableError.unless_repeated(refusal, explained=is_json) from error
    return info


def _listed_files(info: ModelAnswer, source: str) -> tuple[dict[str, StoredFile | None], dict[str, str]]:
    """What the listing says of each file, None where it says too little; and the files that are set aside, with why."""
    listed: dict[str, StoredFile | None] = {}
    set_aside = {}
    for sibling in info.siblings:
        # git allows a backslash in a name. Other names that are no paths can only come from a hostile server.
        if (name := sibling.rfilename) != name.replace("\\", ""):
            check_name(name.replace("\\", "/"), source)
            set_aside[name] = "its name holds a backslash"
        else:
            listed[name] = _listed_file(sibling)
    return listed, set_aside


def _listed_file(sibling: Sibling) -> StoredFile | None:
    """The size and object id of a file; None if the listing does not say both."""
    size = sibling.lfs.size if sibling.lfs else sibling.size
    content_id = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    return None if size is None or not content_id else hub_file(size, content_id)


def _files(commit: "_Commit", listed: dict[str, StoredFile | None]) -> tuple[Mapping[str, StoredFile], HttpFiles]:
    """The files of a commit, and how their bytes are read. What is not listed is asked when a file is needed."""
    remote = HttpFiles(lambda file, _: commit.find(file, listed[file])[1], commit.client)

    def ask(file: str) -> StoredFile:
        stored, address = commit.client.retry(lambda: commit.find(file, None))
        listed[file] = stored
        remote.add(file, address)
        return stored

    known = {file: stored for file, stored in listed.items() if stored is not None}
    return (known if len(known) == len(listed) else FilesOnDemand(listed, ask)), remote


@dataclass(frozen=True)
class _Commit:
    """One commit of a repository, and how this reader asks for its files."""

    hub: str
    repo_id: str
    sha: str
    token: str | None
    client: HttpClient

    def find(self, file: str, listed: StoredFile | None) -> tuple[StoredFile, Address]:
        """A file's size and object id, and the address of its bytes. ``listed``: what is known; None if nothing is.

        Raises:
            RetryableError: the request failed, or the answer is not as expected; a later one may succeed.
            CorruptCheckpoint: the Hub states another SHA-256 than it lists.
        """
        # As hf_hub_url() of the Hub's client, which imports all that downloads files.
        url = httpx2.URL(f"{self.hub}/{self.repo_id}/resolve/{self.sha}/{quote(file)}")
        where = public_url(url)
        try:
            answer = self._head(url, expected=(_COMMIT_HEADER,) if listed else (_COMMIT_HEADER, _SIZE_HEADER))
            location = _redirect_target(answer)
        except OfflineModeIsEnabled as error:
            raise offline_error(where) from error
        except HfHubHTTPError as error:
            raise hub_failure(error, where, public_url(self.hub), self.repo_id, self.token) from error
        except (*BAD_REDIRECTS, ValueError) as error:
            refusal = UnsupportedCheckpoint(
                f"{where}: found a redirect that leads nowhere ({error}), expected an address; use another server"
            )
            is_circle = isinstance(error, httpx2.TooManyRedirects)
            raise RetryableError.unless_repeated(refusal, explained=is_circle) from error
        own_size = None if answer.has_redirect_location else answer.headers.get("Content-Length")
        size, commit = answer.headers.get(_SIZE_HEADER, own_size), answer.headers.get(_COMMIT_HEADER)
        stated_id = _stated_id(answer)
        if listed is None and stated_id and size and re.fullmatch(r"\d{1,18}", size) and commit in (None, self.sha):
            listed = hub_file(int(size), stated_id)
        if listed is None:
            refusal = UnsupportedCheckpoint(
                f"{where}: found size {size} and ETag {stated_id!r} of commit {commit}, expected both of {self.sha}, "
                "because they are not listed; use another server"
            )
            raise RetryableError.unless_repeated(refusal, explained=False)
        if size not in (None, str(listed.size)) or commit not in (None, self.sha):
            mixed = CorruptCheckpoint(
                f"{where}: found {size} bytes of commit {commit}, expected {listed.size} bytes of {self.sha} as "
                "listed; the server mixes versions: run again, or use another server"
            )
            # Without a commit, it may be the page of a proxy and not the Hub's answer.
            raise RetryableError.unless_repeated(mixed, explained=commit is not None)
        # Only sha-256 is compared with the list: a mirror may name small files by another hash than git's.
        listed_id = listed.content_id
        if stated_id and _SHA256.fullmatch(stated_id) and _SHA256.fullmatch(listed_id) and stated_id != listed_id:
            raise changed(where, stated_id, listed_id)
        return listed, Address(location, self._token_for(location), stated_id=stated_id)

    def _head(self, url: httpx2.URL, expected: Collection[str]) -> httpx2.Response:
        """The Hub's answer to a HEAD request for a file.

        A redirect with the headers that are expected leads to the file's bytes, and is followed only when these are
        read: that saves a request. Another redirect, such as to another name of the file, is followed while it stays on
        the Hub's host.
        """
        for _ in range(_MAX_REDIRECTS):
            answer = self.client.answer("HEAD", url, self._token_for(url), follow_redirects=False)
            hf_raise_for_status(answer)  # but for redirects
            if answer.is_redirect and not answer.has_redirect_location:
                raise ValueError(f"status {answer.status_code} without Location")
            target = _redirect_target(answer)
            is_complete = all(header in answer.headers for header in expected)
            if not answer.has_redirect_location or is_complete or origin(target) != origin(url):
                return answer
            url = target
        raise httpx2.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")

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
