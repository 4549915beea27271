"""Requests whose bodies are read into buffers. They go through urllib3, which does that for a third of the processor
time that the Hub's client takes (benchmarks/clients.py).

It trusts the same certificates as the Hub's client, and fails with that client's errors.
"""

import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from typing import Final

import httpx2
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)

_CONNECTIONS: Final = 64  # more than are ever used at once
_KEEP_ALIVE_SECONDS: Final = 5.0
"""An idle connection is not used after that, as by the Hub's client: what lies on the way may have forgotten it."""


@dataclass(frozen=True)
class StreamedAnswer:
    """An answer whose body has not been read."""

    head: httpx2.Response
    body: "HttpBody"


class HttpBody:
    """The body of an answer. It is read as the server sends it, also if it is compressed."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: httpx2.URL) -> None:
        self._response, self._url = response, url

    def readinto(self, buffer: memoryview, /) -> int:
        """Read as many bytes as the buffer has, or those until the end; 0 at the end.

        Raises:
            httpx2.RequestError: the connection broke.
        """
        try:
            return self._response.readinto(buffer)
        except HTTPError as error:
            raise _translated(error, self._url, is_connected=True) from error

    def shutdown(self) -> None:
        """End a ``readinto`` that another thread waits for."""
        self._response.shutdown()

    def close(self) -> None:
        """Close the connection, unless the body has been read to its end."""
        self._response.close()


def stream_answer(
    url: httpx2.URL, headers: Mapping[str, str], timeout: float, proxy: httpx2.URL | None
) -> StreamedAnswer:
    """The answer to a GET request, whatever its status. Redirects are not followed.

    A user and a password in the address are sent. ``timeout``: seconds without a byte, or to connect. ``proxy``: what
    the request is sent through, with its user and password.

    Raises:
        httpx2.RequestError: there was no answer.
    """
    try:
        response = (
            _pool(url.scheme, proxy)
            .manager()
            .request(
                "GET",
                str(url),
                headers={**headers, **_credentials("authorization", url)},
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        )
    except HTTPError as error:
        raise _translated(error, url, is_connected=False) from error
    head = httpx2.Response(response.status, headers=list(response.headers.items()), request=httpx2.Request("GET", url))
    return StreamedAnswer(head, HttpBody(response, url))


class _Pool:
    """Connections that are open, which several threads may use."""

    def __init__(self, manager: urllib3.PoolManager) -> None:
        self._manager, self._used_at = manager, 0.0

    def manager(self) -> urllib3.PoolManager:
        now = time.monotonic()
        if now - self._used_at > _KEEP_ALIVE_SECONDS:
            self._manager.clear()
        self._used_at = now
        return self._manager


@cache
def _pool(scheme: str, proxy: httpx2.URL | None) -> _Pool:
    context = httpx2.create_ssl_context() if "https" in (scheme, proxy and proxy.scheme) else None
    if proxy is None:
        return _Pool(urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context))
    return _Pool(
        urllib3.ProxyManager(
            str(proxy.copy_with(userinfo=b"")),
            maxsize=_CONNECTIONS,
            proxy_headers=_credentials("proxy-authorization", proxy),
            ssl_context=context,
            proxy_ssl_context=context,
        )
    )


def _credentials(header: str, url: httpx2.URL) -> dict[str, str]:
    """The header that holds the user and the password of an address, if it has them."""
    if not url.userinfo:
        return {}
    return {header: f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode()}"}


def _translated(error: HTTPError, url: httpx2.URL, *, is_connected: bool) -> httpx2.RequestError:
    """The error with which the Hub's client would have failed."""
    request, cause = httpx2.Request("GET", url), error.original_error if isinstance(error, ProxyError) else error
    if refused := re.match("Tunnel connection failed: (.*)", str(cause)):
        return httpx2.ProxyError(refused[1], request=request)
    if isinstance(cause, ProtocolError) and isinstance(cause.args[-1], Exception):
        cause = cause.args[-1]
    text = str(cause.__cause__ or cause)  # without urllib3's words, which hold the address
    if isinstance(cause, ReadTimeoutError):
        return httpx2.ReadTimeout(text, request=request)
    if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
        return httpx2.ConnectTimeout(text, request=request)
    if isinstance(cause, NewConnectionError | urllib3.exceptions.SSLError) and not is_connected:
        return httpx2.ConnectError(text, request=request)
    if isinstance(cause, OSError | urllib3.exceptions.SSLError) and not isinstance(cause, HTTPException):
        return httpx2.ReadError(text, request=request)
    return httpx2.RemoteProtocolError(text, request=request)
