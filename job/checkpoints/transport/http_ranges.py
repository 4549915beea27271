"""Verified byte ranges over HTTP, for the Hub and for other web servers. It does not know what the files mean."""

import re
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import httpx2

from job.checkpoints.transport.bodies import read_body
from job.checkpoints.transport.http_client import (
    HttpClient,
    is_retryable,
    network_failure,
    public_url,
    request_headers,
    retryable_refusal,
)
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
        self, resolve: Callable[[str, int], Address], client: HttpClient, known: Mapping[str, Address] | None = None
    ) -> None:
        self._resolve = resolve
        self._client = client
        self._lock = Lock()
        self._addresses: dict[str, Future[Address]] = {}
        self._stated_ids: dict[str, str | None] = {}
        for file, address in (known or {}).items():
            self.add(file, address)

    def add(self, file: str, address: Address) -> None:
        """Use an address that is known already."""
        located = Future[Address]()
        located.set_result(address)
        with self._lock:
            self._stated_ids.setdefault(file, address.stated_id)
            self._addresses.setdefault(file, located)

    def read(self, file: str, size: int, begin: int, buffer: memoryview) -> Generator[int, None, None]:
        """Read the bytes from ``begin`` on into a buffer, as many as one request brings. Yields each piece's size.

        Raises:
            RetryableError: the request failed, broke off, or brought something else than the range; a later one may
                succeed.
            CorruptCheckpoint: the file is another one than was pinned.
            UnsupportedCheckpoint: the server sends more than the range.
        """
        end = begin + len(buffer)
        located = self._locate(file, size)
        address = located.result()
        where = public_url(address.url)
        headers = {**request_headers(address.token), "Range": f"bytes={begin}-{end - 1}"}
        with self._client.stream(address.url, headers) as answer:
            response, body = answer.head, answer.body
            if is_retryable(response):
                raise retryable_refusal(response, where)
            if 300 <= response.status_code < 500 and response.status_code != 416:
                # The signature has expired, or the file has moved. If it is gone, resolving it again says why.
                self._forget(file, located)
                raise RetryableError(f"{where}: status {response.status_code}, so the address is no longer valid")
            try:
                check_answer(response, where, begin, end, size)
            except RetryableError:
                self._forget(file, located)  # another address may lead to another server
                raise
            found_id = content_id_from_headers(response.headers, size)
            if address.content_id not in (None, found_id):
                raise changed(where, found_id, address.content_id)
            try:
                yield from read_body(body, buffer, where, self._client.policy, self._client.deadline)
                if body.readinto(memoryview(bytearray(1))):
                    raise UnsupportedCheckpoint(
                        f"{where}: found more bytes than the {len(buffer):,} requested; use another server"
                    )
            except httpx2.RequestError as error:
                raise network_failure(error, where, is_reached=True) from error

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
        RetryableError: it is not. If that is repeated, it means that the file has another size than the listing says
            (CorruptCheckpoint), or that the server does not give ranges (UnsupportedCheckpoint).
    """
    status, content_range = response.status_code, response.headers.get("Content-Range")
    encoding = response.headers.get("Content-Encoding", "identity")
    stated = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", content_range or "")
    if stated and status in (206, 416) and int(stated[3]) != size:
        raise RetryableError.unless_repeated(
            CorruptCheckpoint(
                f"{where}: found {int(stated[3]):,} bytes in the file, expected {size:,} as listed; the file changed "
                "while it was read, or the server mixes versions: run again"
            ),
            explained=True,
        )
    expected = f"bytes {begin}-{end - 1}/{size}"
    if status != 206 or content_range != expected or encoding != "identity":
        raise RetryableError.unless_repeated(
            UnsupportedCheckpoint(
                f"{where}: found status {status} with Content-Range {content_range!r} and encoding {encoding}, "
                f"expected 206 with {expected!r}; the server or a proxy before it does not give byte ranges: use "
                "another server"
            ),
            explained=False,
        )


def content_id_from_headers(headers: httpx2.Headers, size: int) -> str | None:
    """What identifies a file's content on a server without object ids: its ETag, or else its date and size."""
    if etag := headers.get("ETag"):
        return etag.replace('"', "")
    date = headers.get("Last-Modified")
    return f"{date}, {size} bytes" if date else None
