"""A checkpoint on the Hugging Face Hub or a mirror of it. With hub_errors, the only module that knows HTTP."""

import logging
import re
from collections.abc import Generator
from concurrent.futures import Future
from threading import Lock

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    build_hf_headers,
    get_session,
    validate_repo_id,
)

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_range
from job.checkpoints.hub_errors import demanded_wait, hub_failure, network_failure
from job.checkpoints.retries import PATIENT, Interrupted, RetryPolicy, read_resuming, retry
from job.errors import ConfigError, CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

PUBLIC_HUB = "https://huggingface.co"


def open_hub(
    repo_id: str,
    revision: str | None,
    *,
    endpoint: str | None,
    token: str | None,
    read_timeout: float,
    retry_policy: RetryPolicy = PATIENT,
) -> Checkpoint:
    """The checkpoint of a repository at a revision (None: its default branch), pinned to the commit it has now.

    ``endpoint`` is the Hub's address (None: the public Hub). ``token`` goes to that host alone; without one, none is
    sent, not even one that is saved on this machine. An answer that stays silent for ``read_timeout`` seconds is
    abandoned and asked for again.

    Raises:
        ModelUnavailable: there is no such repository or revision, or it is gated, private or disabled.
        UnsupportedCheckpoint: the server does not speak the Hub's protocol.
        ConfigError: the Hub refuses the token, or the Hub's client is set to work offline.
        TransientError: the Hub cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    for name in ("httpx2", "httpcore2"):  # they log addresses with their signatures at INFO and DEBUG
        logging.getLogger(name).setLevel(logging.WARNING)
    hub = (endpoint or PUBLIC_HUB).rstrip("/")
    info = retry(lambda: _model_info(hub, repo_id, revision, token, read_timeout), retry_policy)
    commit = info.sha or ""
    source = f"{public_url(hub)}/{info.id}/tree/{commit}"
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UnsupportedCheckpoint(f"{source}: a commit of 40 hexadecimal characters was expected; check HF_ENDPOINT")
    files = {sibling.rfilename: _stored_file(source, sibling) for sibling in info.siblings or []}
    remote = _RemoteFiles(hub, info.id, commit, token, read_timeout)

    def fetch(file: str, begin: int, end: int) -> bytes:
        size = check_range(files, source, file, begin, end).size
        return read_resuming(
            lambda position, end: remote.read(file, size, position, end),
            begin,
            end,
            where=f"{source}: {file}",
            policy=retry_policy,
        )

    return Checkpoint(repo_id=info.id, revision=revision, commit=commit, source=source, files=files, fetch=fetch)


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


class _RemoteFiles:
    """The files of one commit, each resolved once to the address its bytes come from. Threads may use it at once."""

    def __init__(self, hub: str, repo_id: str, commit: str, token: str | None, timeout: float) -> None:
        self._hub = hub
        self._repo_id = repo_id
        self._commit = commit
        self._token = token
        self._timeout = timeout
        self._lock = Lock()
        self._locations: dict[str, Future[httpx2.URL]] = {}

    def read(self, file: str, size: int, begin: int, end: int) -> Generator[bytes, None, None]:
        """Bytes ``begin`` to ``end`` in pieces, as far as one request brings them.

        Raises:
            Interrupted: the request failed, or broke off, in a way that a later one may not.
            UnsupportedCheckpoint, CorruptCheckpoint: the answer is not the range that was asked for.
        """
        location = self._locate(file, size)
        url = location.result()
        where = public_url(url)
        headers = {**self._headers(url), "Range": f"bytes={begin}-{end - 1}"}
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=self._timeout, follow_redirects=False
            ) as response:
                if response.status_code == 429 or response.status_code >= 500 or response.status_code == 408:
                    raise Interrupted(f"{where}: status {response.status_code}", demanded_wait=demanded_wait(response))
                if 300 <= response.status_code < 500 and response.status_code != 416:
                    # The signature has expired, or the file has moved; if it is gone, resolving again says why.
                    self._forget(file, location)
                    raise Interrupted(f"{where}: status {response.status_code}, its address is no longer valid")
                check_answer(response, where, begin, end, size)
                yield from response.iter_raw()
        except httpx2.RequestError as error:
            raise network_failure(error, where) from error

    def _headers(self, url: httpx2.URL) -> dict[str, str]:
        """The headers of a request for file bytes; the token is among them on the Hub's own hosts only."""
        own = _origin(url) in (_origin(httpx2.URL(self._hub)), _origin(httpx2.URL(PUBLIC_HUB)))
        headers = build_hf_headers(token=(self._token or False) if own else False)
        return {**headers, "Accept-Encoding": "identity"}

    def _locate(self, file: str, size: int) -> Future[httpx2.URL]:
        """The address of a file's bytes. One thread asks for it, the others wait and share its answer or failure."""
        with self._lock:
            known = self._locations.get(file)
            location = known or Future[httpx2.URL]()
            self._locations[file] = location
        if known is None:
            try:
                location.set_result(self._resolve(file, size))
            except BaseException as error:
                self._forget(file, location)
                location.set_exception(error)
                raise
        return location

    def _forget(self, file: str, location: Future[httpx2.URL]) -> None:
        with self._lock:
            if self._locations.get(file) is location:
                del self._locations[file]

    def _resolve(self, file: str, size: int) -> httpx2.URL:
        """Ask the Hub where a file's bytes are, and make sure that it means the same file."""
        url = hf_hub_url(self._repo_id, file, revision=self._commit, endpoint=self._hub)
        where = public_url(url)
        try:
            found = get_hf_file_metadata(url, token=self._token or False, timeout=self._timeout, endpoint=self._hub)
            location = httpx2.URL(url).join(found.location)
        except HfHubHTTPError as error:
            raise hub_failure(error, where, public_url(self._hub), self._repo_id, self._token) from error
        except httpx2.RequestError as error:
            raise network_failure(error, where) from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"{where}: it leads to {error}, an address was expected; use another server"
            ) from error
        if found.size not in (None, size) or found.commit_hash not in (None, self._commit):
            raise CorruptCheckpoint(
                f"{where}: {found.size} bytes of {found.commit_hash}, {size} bytes of {self._commit} were listed; "
                "the server mixes versions: run again, or use another"
            )
        return location


def check_answer(response: httpx2.Response, where: str, begin: int, end: int, size: int) -> None:
    """Make sure that the body is bytes ``begin`` to ``end`` of a file of ``size`` bytes and nothing else.

    Raises:
        CorruptCheckpoint: the file has another size than it was listed with.
        UnsupportedCheckpoint: the server does not give ranges, or gives another one.
    """
    status, content_range = response.status_code, response.headers.get("Content-Range")
    encoding = response.headers.get("Content-Encoding", "identity")
    stated = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", content_range or "")
    if stated and status in (206, 416) and int(stated[3]) != size:
        raise CorruptCheckpoint(
            f"{where}: the file has {int(stated[3]):,} bytes, {size:,} were listed; it changed, or the server mixes "
            "versions: run again"
        )
    expected = f"bytes {begin}-{end - 1}/{size}"
    if status != 206 or content_range != expected or encoding != "identity":
        raise UnsupportedCheckpoint(
            f"{where}: status {status} with Content-Range {content_range!r} and encoding {encoding}, 206 with "
            f"{expected!r} was expected; the server or a proxy before it does not give byte ranges: use another"
        )


def public_url(url: httpx2.URL | str) -> str:
    """An address without what may be secret in it: user, password, query."""
    address = httpx2.URL(url)
    return f"{address.scheme}://{address.netloc.decode()}{address.path}".rstrip("/")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
