"""One HTTP request: how long it may take, what it is sent through, and what its failure means."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx2
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, but lazily
    get_session,
    parse_ratelimit_headers,
)

from job import __version__
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.http_bodies import StreamedAnswer, stream_answer
from job.checkpoints.transport.parallel import call_within
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy, retry
from job.errors import ConfigError, SurveyError

Value = TypeVar("Value")

BAD_REDIRECTS: Final = (httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, httpx2.InvalidURL)
"""Redirects that lead nowhere. Only who sent the request knows which address to correct."""

NOT_REACHED: Final = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.ProxyError, httpx2.RemoteProtocolError)
"""What a request ends with if there is no answer at all."""


@dataclass(frozen=True)
class HttpClient:
    """Asks servers for one checkpoint or one query, by the Hub's client. Several threads may use it at once."""

    read_timeout: float
    """Seconds without a byte after which a request is given up."""
    policy: RetryPolicy = DEFAULT_RETRY
    cooldown: Cooldown = field(default_factory=Cooldown)
    deadline: Deadline = field(default_factory=Deadline)

    def retry(self, call: Callable[[], Value]) -> Value:
        """The value of a call that makes a request; see ``retries.retry``."""
        return retry(call, self.policy, self.cooldown, self.deadline)

    def answer(
        self, method: str, url: httpx2.URL | str, token: str | None, *, follow_redirects: bool
    ) -> httpx2.Response:
        """A whole answer, whatever its status. A redirect to another host is followed without the token.

        Raises:
            RetryableError: there was no answer, or not in time; or a proxy refuses this user.
            TransientError: the server could not be reached before, or the deadline has passed.
            BAD_REDIRECTS, OfflineModeIsEnabled: as the Hub's client raises them.
        """

        def send() -> httpx2.Response:
            return get_session().request(
                method,
                url,
                headers=request_headers(token),
                timeout=self.read_timeout,
                follow_redirects=follow_redirects,
            )

        return self._send(send, lambda answer: answer, httpx2.URL(url), self.policy.answer_seconds)

    @contextmanager
    def stream(self, url: httpx2.URL, headers: Mapping[str, str]) -> Iterator[StreamedAnswer]:
        """An answer whose body has not been read. Redirects are not followed. Raises as ``answer``."""
        streamed = self._send(
            lambda: stream_answer(url, headers, self.read_timeout, proxy_of(url)),
            lambda answer: answer.head,
            url,
            max(self.policy.slow_seconds, self.read_timeout),
            lambda answer: answer.body.close(),
        )
        with closing(streamed.body):
            yield streamed

    def _send(
        self,
        send: Callable[[], Value],
        head_of: Callable[[Value], httpx2.Response],
        url: httpx2.URL,
        seconds: float,
        discard: Callable[[Value], object] = lambda _: None,
    ) -> Value:
        proxy, where, unreachable = _proxy_name(url), public_url(url), self.cooldown.unreachable
        servers = [server_name(url), *([proxy] if proxy else [])]
        for server in servers:
            unreachable.check(server)
        self.deadline.check()
        try:
            answer = call_within(send, min(seconds, self.deadline.seconds_left), discard)
        except TimeoutError as error:
            self.deadline.check()
            raise RetryableError(
                f"{where}{_through(proxy)}: no whole answer within {seconds:g} s", server=servers[0]
            ) from error
        except BAD_REDIRECTS:
            raise
        except httpx2.RequestError as error:
            raise network_failure(error, where, is_reached=False) from error
        for server in servers:
            unreachable.remove(server)
        if head_of(answer).status_code == 407:
            discard(answer)
            raise RetryableError.unless_repeated(refused_by_proxy(where, proxy, "status 407"), explained=True)
        return answer


def request_headers(token: str | None) -> dict[str, str]:
    """The headers of a request for file bytes. They ask for no compression: byte positions count uncompressed bytes.

    The Hub's client has headers of its own, but it asks the public Hub how to describe its caller, whatever server the
    request is for.
    """
    headers = {"User-Agent": f"black-hole-survey/{__version__}", "Accept-Encoding": "identity"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def is_retryable(response: httpx2.Response) -> bool:
    """Whether the same request may succeed later."""
    return response.status_code in (408, 429) or response.status_code >= 500


def retryable_refusal(response: httpx2.Response, where: str) -> RetryableError:
    """The error for an answer that ``is_retryable``, with the wait that the server demands of everyone."""
    status = response.status_code
    return RetryableError(
        f"{where}: status {status}", demanded_wait=demanded_wait(response), too_many_requests=status == 429
    )


def final_if_repeated(refusal: SurveyError, response: httpx2.Response) -> RetryableError:
    """The error for an answer that is final if it is repeated: once, if the Hub said why in its own headers."""
    explained = "X-Error-Code" in response.headers or "X-Error-Message" in response.headers
    return RetryableError.unless_repeated(refusal, explained=explained)


def network_failure(error: httpx2.RequestError, where: str, *, is_reached: bool) -> RetryableError:
    """The error for a request without a complete answer. A protocol error's text is left out: it may quote a header.

    ``is_reached``: whether the server had begun to answer.
    """
    url = error.request.url
    proxy = _proxy_name(url)
    words = "" if isinstance(error, httpx2.ProtocolError) else f" {error}"
    found = f"{type(error).__name__}{words}".rstrip()
    if isinstance(error, httpx2.ProxyError) and str(error)[:3] in ("401", "403", "407"):
        refusal = refused_by_proxy(where, proxy, found)
        return RetryableError.unless_repeated(refusal, explained=str(error)[:3] != "403")
    server = None
    if not is_reached and isinstance(error, NOT_REACHED):
        is_proxys = proxy is not None and isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        server = proxy if is_proxys else server_name(url)
    return RetryableError(f"{where}{_through(proxy)}: {found}", server=server)


def refused_by_proxy(where: str, proxy: str | None, found: str) -> ConfigError:
    """The error for a proxy that does not serve this user, or this address."""
    return ConfigError(
        f"{where}: the proxy {proxy or '(unknown)'} refuses the request ({found}), expected one that serves this user; "
        "correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY and the user and password in it, or name the host in NO_PROXY"
    )


def proxy_of(url: httpx2.URL) -> httpx2.URL | None:
    """The proxy that requests for an address are sent through; None if there is none.

    It follows from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, which the Hub's client reads with the same
    functions.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    try:
        return httpx2.URL(proxy if "://" in proxy else f"http://{proxy}")
    except httpx2.InvalidURL:
        return None


def _proxy_name(url: httpx2.URL) -> str | None:
    """The proxy of an address, without its user and password."""
    proxy = proxy_of(url)
    return server_name(proxy) if proxy else None


def _through(proxy: str | None) -> str:
    return f" (through the proxy {proxy})" if proxy else ""


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
    return f"{server_name(address)}{address.path}".rstrip("/")


def server_name(url: httpx2.URL) -> str:
    """The server that an address is on, without user and password."""
    return f"{url.scheme}://{url.netloc.decode()}"


def origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: two addresses with the same origin are on the same server."""
    return url.scheme, url.host, url.port
