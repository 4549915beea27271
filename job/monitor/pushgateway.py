"""Sends a run's metrics to a Prometheus Pushgateway, which may fail without any harm to the run."""

import logging
import time
from functools import partial
from http.client import HTTPException
from threading import Thread
from typing import Final
from urllib.parse import unquote, urlsplit

from prometheus_client.exposition import basic_auth_handler, default_handler, push_to_gateway
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0
"""Seconds for the gateway to answer in: a run waits for it, and has 25 in all to end in."""
_COOLDOWN: Final = 60.0
"""Seconds for which a gateway that failed is left alone, so that one that is down costs hundreds of models little."""


class Pushgateway:
    """The gateway at an address, ``http(s)://host``, in which a user and a password may stand."""

    def __init__(self, address: str, index: int) -> None:
        """``index``: which of the run's workers sends."""
        self._address, self._index = address, index
        self._failed_at: float | None = None
        """By the monotonic clock; None where the last push went well."""

    def push(self, metrics: Collector, *, is_last: bool = False) -> None:
        """Send every metric, in place of those that this worker's index sent before, in whatever run.

        By run, the groups of all runs there ever were would stay. The last push is tried whatever happened before.
        """
        if not is_last and self._failed_at is not None and time.monotonic() - self._failed_at < _COOLDOWN:
            return
        address = urlsplit(self._address)
        handler = default_handler
        if address.username is not None:
            user, password = unquote(address.username), unquote(address.password or "")
            handler = partial(basic_auth_handler, username=user, password=password)
        gateway = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
        failure: list[str] = []

        def send() -> None:
            try:
                push_to_gateway(
                    gateway,
                    job="black-hole-survey",
                    registry=metrics,
                    grouping_key={"index": str(self._index)},
                    timeout=2 * _TIMEOUT,  # so that the thread ends, too
                    handler=handler,
                )
            except (OSError, HTTPException, ValueError) as error:
                failure.append(str(error))

        # Its time-out holds for every piece of an answer; this one for all of it, and for looking up the name.
        thread = Thread(target=send, daemon=True)
        thread.start()
        thread.join(_TIMEOUT)
        if thread.is_alive():
            failure.append(f"nothing within {_TIMEOUT:.0f} s")
        self._failed_at = time.monotonic() if failure else None
        if failure:
            logger.warning(
                "PUSHGATEWAY: %s did not take the metrics: %s; the run goes on", address.hostname, failure[0]
            )
