"""Which requests to S3 are sent again, and after how long. One handler of botocore's events does it for reading, for
writing and for the parts of an upload."""

from __future__ import annotations

import http.client
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

OUTAGE_CODES: Final = (
    "InternalError",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
)
"""The codes of outages and of throttling, whatever the status."""

FINAL_STATUSES: Final = (304, 405, 412, 501)
FINAL_CODES: Final = ("404", "NoSuchKey", "NoSuchUpload")
"""Answers that a second request does not change: the condition does not hold, the object or the upload is not there, or
the store does not know the request."""

TLS_REFUSALS: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""Connection errors that are about a setting: an unknown certificate, or https to a server that speaks http."""


@dataclass(frozen=True)
class S3Retries:
    """How long to wait before each further attempt, in seconds. Each wait is shortened by up to half, so that requests
    that failed together do not all come back together.

    The defaults try six times. The waits for an outage bridge up to half a minute, because after a failed upload all of
    W has to be read again. None is longer than 8 s, because a part that waits cannot be stopped, and a terminated run
    has 25 s; for the same reason an upload is aborted with the shorter waits. Every other refusal may be a passing one
    too (409, 400 InvalidPart, 403), but most of them are wrong settings: their waits add up to less than 8 s, so a
    wrong key soon ends the run.
    """

    outage_waits: tuple[float, ...] = (2.0, 4.0, 8.0, 8.0, 8.0)
    refusal_waits: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)


DEFAULT_RETRIES: Final = S3Retries()


def retry_requests(client: S3Client, retries: S3Retries, renew_credentials: Callable[[], None]) -> None:
    """Let ``client`` send failed requests again. Its own configuration must not retry (``total_max_attempts`` 1).

    ``renew_credentials`` is called after a refusal that other credentials may not meet: expired ones, or rotated keys.
    """

    def needs_retry(
        response: tuple[AWSResponse, Mapping[str, Any]] | None,
        operation: OperationModel,
        attempts: int,
        caught_exception: Exception | None,
        request_dict: Mapping[str, Any],
        **_: object,
    ) -> float | None:
        """The seconds until the next attempt, or None if there is none."""
        if operation.name == "HeadBucket":  # botocore's question for a bucket's region, within another request
            return None
        if response is None:
            found, waits = type(caught_exception).__name__, _waits_after_error(caught_exception, retries)
        else:
            answer, parsed = response
            code = parsed.get("Error", {}).get("Code", "")
            found = f"{answer.status_code} {code}".rstrip()
            if answer.status_code < 300:
                waits = () if _is_range_asked_for(answer, operation, request_dict) else retries.refusal_waits
            else:
                waits = _waits_after_refusal(answer.status_code, code, retries)
        if operation.name == "AbortMultipartUpload":
            waits = waits and retries.refusal_waits
        if attempts > len(waits):
            return None
        if response is not None:
            answer.raw.close()  # an answer of the wrong range has a body that nobody reads
            if answer.status_code in (400, 401, 403):
                renew_credentials()
        seconds = waits[attempts - 1] * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
        logger.warning("S3: %s: %s; trying again in %.1f s", operation.name, found, seconds)
        return seconds

    events = client.meta.events
    events.register("needs-retry.s3", needs_retry)  # type: ignore[arg-type]  # the stubs let no handler return a value
    events.register("before-call.s3.HeadBucket", _follow_no_redirect)


def is_outage(status: int, code: str) -> bool:
    """Whether a refusal says that the store cannot answer now. botocore makes a 500 of a successful answer that breaks
    off."""
    return code in OUTAGE_CODES or status in (408, 429) or (status >= 500 and status != 501)


def _waits_after_error(error: Exception | None, retries: S3Retries) -> tuple[float, ...]:
    if any(mark in str(error) for mark in TLS_REFUSALS):
        return retries.refusal_waits
    # botocore also wraps what the body of an upload raises to end the upload.
    cause = error.kwargs.get("error") if type(error) is HTTPClientError else None
    if cause is not None and not isinstance(cause, OSError | HTTPError | http.client.HTTPException):
        return ()
    return retries.outage_waits if isinstance(error, HTTPClientError | BotoConnectionError) else ()


def _waits_after_refusal(status: int, code: str, retries: S3Retries) -> tuple[float, ...]:
    if status in FINAL_STATUSES or code in FINAL_CODES:
        return ()
    if is_outage(status, code):
        return retries.outage_waits
    return retries.refusal_waits


def _is_range_asked_for(answer: AWSResponse, operation: OperationModel, request_dict: Mapping[str, Any]) -> bool:
    """Whether a successful answer is the byte range that was asked for, if one was."""
    asked = request_dict["headers"].get("Range")
    if operation.name != "GetObject" or asked is None:
        return True
    expected = f"{asked.replace('=', ' ')}/"
    return answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(expected)


def _follow_no_redirect(context: dict[str, Any], **_: object) -> None:
    """Answer botocore's question for a bucket's region as it is. Otherwise botocore would ask again for every redirect
    of this question, without end."""
    context["s3_redirect"]["redirected"] = True
