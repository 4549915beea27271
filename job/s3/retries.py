"""Which requests to S3 are sent again, and after how long. One handler of botocore's events does it for reading, for
writing and for the parts of an upload."""

from __future__ import annotations

import http.client
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from botocore.exceptions import ConnectionClosedError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from job.s3.refusals import OPERATIONS_WITH_BODY, is_final, is_outage, is_tls_refusal

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

Trouble: TypeAlias = Literal["refusal", "outage"] | None
"""Which waits of S3Retries a request has; None if it is not sent again."""


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
    waits_after: dict[Trouble, tuple[float, ...]] = {
        "refusal": retries.refusal_waits,
        "outage": retries.outage_waits,
        None: (),
    }
    took_a_body = False

    def needs_retry(
        response: tuple[AWSResponse, Mapping[str, Any]] | None,
        operation: OperationModel,
        attempts: int,
        caught_exception: Exception | None,
        request_dict: Mapping[str, Any],
        **_: object,
    ) -> float | None:
        """The seconds until the next attempt, or None if there is none."""
        nonlocal took_a_body
        if operation.name == "HeadBucket":  # botocore's question for a bucket's region, within another request
            return None
        has_body = operation.name in OPERATIONS_WITH_BODY
        if response is None:
            found, trouble = type(caught_exception).__name__, _trouble_of_error(caught_exception)
        else:
            answer, parsed = response
            code = parsed.get("Error", {}).get("Code", "")
            found = f"{answer.status_code} {code}".rstrip()
            trouble = _trouble_of_answer(answer, code, operation, request_dict)
            took_a_body |= has_body and answer.status_code < 300
        # Some servers close the connection to refuse a body that has a checksum.
        refuses_bodies = has_body and not took_a_body and isinstance(caught_exception, ConnectionClosedError)
        if refuses_bodies or operation.name == "AbortMultipartUpload":
            trouble = trouble and "refusal"
        if attempts > len(waits := waits_after[trouble]):
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


def _trouble_of_error(error: Exception | None) -> Trouble:
    if is_tls_refusal(error):
        return "refusal"
    # botocore also wraps what the body of an upload raises to end the upload.
    cause = error.kwargs.get("error") if type(error) is HTTPClientError else None
    if cause is not None and not isinstance(cause, OSError | HTTPError | http.client.HTTPException):
        return None
    return "outage" if isinstance(error, HTTPClientError | BotoConnectionError) else None


def _trouble_of_answer(
    answer: AWSResponse, code: str, operation: OperationModel, request_dict: Mapping[str, Any]
) -> Trouble:
    if answer.status_code < 300:
        return None if _begins_where_asked(answer, operation, request_dict) else "refusal"
    if is_final(answer.status_code, code):
        return None
    return "outage" if is_outage(answer.status_code, code) else "refusal"


def _begins_where_asked(answer: AWSResponse, operation: OperationModel, request_dict: Mapping[str, Any]) -> bool:
    """Whether a successful answer begins at the byte that was asked for. Whoever reads it checks where it ends.

    An answer without a Content-Range is the whole object. The status is not compared: rclone gives ranges with 200.
    """
    asked = request_dict["headers"].get("Range")
    if operation.name != "GetObject" or asked is None:
        return True
    begin = answer.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0]
    return bool(begin == asked.removeprefix("bytes=").partition("-")[0])


def _follow_no_redirect(context: dict[str, Any], **_: object) -> None:
    """Answer botocore's question for a bucket's region as it is. Otherwise botocore would ask again for every redirect
    of this question, without end."""
    context["s3_redirect"]["redirected"] = True
