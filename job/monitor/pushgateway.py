"""Sends a run's metrics to a Prometheus Pushgateway. A failure is logged and does not affect the run."""

import logging
import time
from functools import partial
from http.client import HTTPException
from threading import Thread
from typing import Final
from urllib.parse import unquote, urlsplit

from prometheus_client.exposition import basic_auth_handler, default_handler, push_to_gateway

from job.monitor.numbers import RunNumbers
from job.monitor.openmetrics import RunCollector

logger = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0
"""Seconds that a run waits for the gateway's answer. A stopped run has 25 seconds for everything."""
_COOLDOWN: Final = 60.0
"""Seconds without requests after a failure, so that a gateway that is down hardly slows a run of many models."""


class Pushgateway:
    """The gateway at ``http(s)://host``, or ``http(s)://user:password@host``."""

    def __init__(self, address: str, index: int) -> None:
        """``index``: the index of this worker."""
        self._address, self._index = address, index
        self._failed_at: float | None = None
        """The monotonic time of the last push if it failed, else None."""

    def push(self, numbers: RunNumbers, *, is_last: bool = False) -> None:
        """Send all metrics. They replace those that a worker with this index sent before, in this or another run.

        Metrics are not grouped by run, because the gateway would keep the groups of all earlier runs. The last push of
        a run is sent even after a failure.
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
                    registry=RunCollector(numbers),
                    grouping_key={"index": str(self._index)},
                    timeout=2 * _TIMEOUT,  # ends the thread; it holds for each piece of an answer
                    handler=handler,
                )
            except (OSError, HTTPException, ValueError) as error:
                failure.append(str(error))

        # This time-out holds for the whole answer, including the lookup of the host's name.
        thread = Thread(target=send, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # this process may not have another thread
            failure.append(str(error))
        else:
            thread.join(_TIMEOUT)
            if thread.is_alive():
                failure.append(f"no answer within {_TIMEOUT:.0f} s")
        self._failed_at = time.monotonic() if failure else None
        if failure:
            logger.warning(
                "PUSHGATEWAY: %s did not accept the metrics: %s; the run goes on", address.hostname, failure[0]
            )
