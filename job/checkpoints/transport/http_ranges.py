"""Verified byte ranges over HTTP, for the Hub and for other web servers. It does not know what the files mean."""

import re
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock

import httpx2
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    get_session,
    parse_ratelimit_headers,
)

from job import __version__
from job.checkpoints.transport.retries import RetryableError
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint


@dataclass(frozen=True)
class Address:
    """Where a file's bytes are asked for."""

    url: httpx2.URL
    token: str | None = None
    """Sent with every request to this address."""
    content_id: str | None = None
    """What ``content_id_from_headers`` must give for every answer; None if the bytes at the address cannot change."""
    stated_id: str | None = None
    """What the server stated of the file's content when the address was asked for. It must state the same again."""


class HttpFiles:
    """The files of one checkpoint, each resolved once to the address of its bytes. Several threads may use it at once.

    ``resolve(file, size)`` finds a file's address; ``known`` holds the addresses that are known already.
    """

    def __init__(
        self, resolve: Callable[[str, int], Address], timeout: float, known: Mapping[str, Address] | None = None
    ) -> None:
        self._resolve = resolve
        self._timeout = timeout
        self._lock = Lock()
        self._addresses: dict[str, Future[Address]] = {}
        self._stated_ids = {file: address.stated_id for file, address in (known or {}).items()}
        for file, address in (known or {}).items():
            self._addresses[file] = Future()
            self._addresses[file].set_result(address)

    def read(self, file: str, size: int, begin: int, end: int) -> Generator[bytes, None, None]:
        """Bytes ``begin`` to ``end`` in pieces, as many as one request brings.

        Raises:
            RetryableError: the request failed or broke off, but a later one may succeed.
            UnsupportedCheckpoint, CorruptCheckpoint: the answer is not the range that was requested.
        """
        located = self._locate(file, size)
        address = located.result()
        where = public_url(address.url)
        headers = {**request_headers(address.token), "Range": f"bytes={begin}-{end - 1}"}
        try:
            with get_session().stream(
                "GET", address.url, headers=headers, timeout=self._timeout, follow_redirects=False
            ) as response:
                if is_retryable(response):
                    raise retryable_refusal(response, where)
                if 300 <= response.status_code < 500 and response.status_code != 416:
                    # The signature has expired, or the file has moved. If it is gone, resolving it again says why.
                    self._forget(file, located)
                    raise RetryableError(f"{where}: status {response.status_code}, so the address is no longer valid")
                check_answer(response, where, begin, end, size)
                found_id = content_id_from_headers(response.headers, size)
                if address.content_id not in (None, found_id):
                    raise changed(where, found_id, address.content_id)
                yield from response.iter_raw()
        except httpx2.RequestError as error:
            raise network_failure(error, where) from error

    def _locate(self, file: str, size: int) -> Future[Address]:
        """The address of a file's bytes. One thread asks for it; the others wait for its answer or failure."""
        with self._lock:
            known = self._addresses.get(file)
            located = known or Future[Address]()
            self._addresses[file] = located
        if known is None:
            try:
                address = self._resolve(file, size)
                pinned_id = self._stated_ids.setdefault(file, address.stated_id)
                if address.stated_id != pinned_id:
                    raise changed(public_url(address.url), address.stated_id, pinned_id)
                located.set_result(address)
            except BaseException as error:
                self._forget(file, located)
                located.set_exception(error)
                raise
        return located

    def _forget(self, file: str, located: Future[Address]) -> None:
        with self._lock:
            if self._addresses.get(file) is located:
                del self._addresses[file]


def changed(where: str, found_id: str | None, expected_id: str | None) -> CorruptCheckpoint:
    """The error for a file that has another id than the one that was pinned."""
    return CorruptCheckpoint(
        f"{where}: the file changed while it was read: found {found_id!r}, expected {expected_id!r}; run again when "
        "nothing writes to it"
    )


def check_answer(response: httpx2.Response, where: str, begin: int, end: int, size: int) -> None:
    """Check that the body is bytes ``begin`` to ``end`` of a file of ``size`` bytes, and nothing else.

    Raises:
        CorruptCheckpoint: the file has another size than the listing says.
        UnsupportedCheckpoint: the server does not give ranges, or gives another range.
    """
    status, content_range = response.status_code, response.headers.get("Content-Range")
    encoding = response.headers.get("Content-Encoding", "identity")
    stated = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", content_range or "")
    if stated and status in (206, 416) and int(stated[3]) != size:
        raise CorruptCheckpoint(
            f"{where}: found {int(stated[3]):,} bytes in the file, expected {size:,} as listed; the file changed while "
            "it was read, or the server mixes versions: run again"
        )
    expected = f"bytes {begin}-{end - 1}/{size}"
    if status != 206 or content_range != expected or encoding != "identity":
        raise UnsupportedCheckpoint(
            f"{where}: found status {status} with Content-Range {content_range!r} and encoding {encoding}, expected "
            f"206 with {expected!r}; the server or a proxy before it does not give byte ranges: use another server"
        )


def request_headers(token: str | None) -> dict[str, str]:
    """The headers of a request for file bytes. They ask for no compression: byte positions count uncompressed bytes.

    The Hub's client has headers of its own, but it asks the public Hub how to describe its caller, whatever server the
    request is for.
    """
    headers = {"User-Agent": f"black-hole-survey/{__version__}", "Accept-Encoding": "identity"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def content_id_from_headers(headers: httpx2.Headers, size: int) -> str | None:
    """What identifies a file's content on a server without object ids: its ETag, or else its date and size."""
    if etag := headers.get("ETag"):
        return etag.replace('"', "")
    date = headers.get("Last-Modified")
    return f"{date}, {size} bytes" if date else None


def is_retryable(response: httpx2.Response) -> bool:
    """Whether the same request may succeed later."""
    return response.status_code in (408, 429) or response.status_code >= 500


def retryable_refusal(response: httpx2.Response, where: str) -> RetryableError:
    """The error for an answer that ``is_retryable``, with the wait that the server demands of everyone."""
    status = response.status_code
    return RetryableError(
        f"{where}: status {status}", demanded_wait=demanded_wait(response), too_many_requests=status == 429
    )


def network_failure(error: httpx2.RequestError, where: str) -> RetryableError:
    """The error for a request without a complete answer. A protocol error's text is left out: it may quote a header."""
    words = "" if isinstance(error, httpx2.ProtocolError) else f" {error}"
    return RetryableError(f"{where}: {type(error).__name__}{words}".rstrip())


def demanded_wait(response: httpx2.Response) -> float | None:
    """Seconds that the server demands to wait: an exhausted ``RateLimit``, or ``Retry-After`` as seconds or a date."""
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


def public_url(url: httpx2.URL | str) -> str:
    """An address without the parts that may be secret: user, password, query."""
    address = httpx2.URL(url)
    return f"{address.scheme}://{address.netloc.decode()}{address.path}".rstrip("/")


def origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: two addresses with the same origin are on the same server."""
    return url.scheme, url.host, url.port
