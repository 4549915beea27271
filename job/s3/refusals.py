"""What the errors of an S3 store mean: the one table of its refusals, for reading and for writing. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionClosedError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

S3Error: TypeAlias = BotoCoreError | ClientError | HTTPError
S3_ERRORS: Final = (BotoCoreError, ClientError, HTTPError)
"""What a request to a store can raise. urllib3's errors come from bodies that are read in pieces."""

CHECKSUM_SETTING: Final = "AWS_REQUEST_CHECKSUM_CALCULATION"
"""boto3's setting, ``when_supported`` by default: a checksum is sent with each body. ``when_required``: none is."""
OPERATIONS_WITH_BODY: Final = ("PutObject", "UploadPart")
"""The operations whose body boto3 sends with a checksum."""

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

FINAL_STATUSES: Final = (304, 405, 411, 412, 501)
FINAL_CODES: Final = ("404", "NoSuchKey", "NoSuchUpload")
"""Answers that a second request does not change: the condition does not hold, the object or the upload is not there, or
the store does not know the request, or not in this form."""

TLS_REFUSALS: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""Connection errors that are about a setting: an unknown certificate, or https to a server that speaks http."""

Kind = Literal["retryable", "setting", "unavailable"]
"""``retryable``: a later attempt may succeed. ``setting``: the keys, the region or the endpoint are wrong.
``unavailable``: the bucket or the object is missing, or these keys may not use it."""


@dataclass(frozen=True)
class BucketUse:
    """What a bucket is used for: the words in which the advice for reading and for writing differs."""

    address: str
    """What names the bucket, as messages call it."""
    permissions: str
    """What the keys must allow."""
    other: str
    """What to do after a refusal that no code explains."""
    with_body: str = ""
    """What else to do if the request had a body."""


READING: Final = BucketUse(
    address="the model's address",
    permissions="s3:GetObject and s3:ListBucket",
    other="check the model's address and AWS_ENDPOINT_URL",
)
WRITING: Final = BucketUse(
    address="OUTPUT",
    permissions="s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, "
    "s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts",
    other="check AWS_ENDPOINT_URL",
    with_body=f"; {CHECKSUM_SETTING}=when_required helps with some stores",
)
WRITING_WITHOUT_CHECKSUMS: Final = replace(WRITING, with_body="")


@dataclass(frozen=True)
class S3Failure:
    """What an error of a store means."""

    kind: Kind
    found: str
    """``where: what was found``."""
    advice: str
    """``expected …; what to do``."""
    tried_again: bool = False
    """Whether it was tried again for as long as ``S3Retries.refusal_waits`` says, and was no outage."""

    @property
    def message(self) -> str:
        return f"{self.found}, {self.advice}"


Meaning: TypeAlias = tuple[Kind, str]
"""What a refusal means, and ``expected …; what to do``."""

RETRYABLE: Final[Meaning] = ("retryable", "expected success; run again, later if this is throttling")
UNEXPLAINED: Final[Meaning] = ("unavailable", "expected an S3 store that supports this request; {use.other}")

REFUSALS: Final[dict[str, Meaning]] = {
    # An outage, damage on the way, another write of the same key, or an upload that somebody aborted: a later attempt
    # may succeed.
    **dict.fromkeys(
        (
            *OUTAGE_CODES,
            "BadDigest",
            "ConditionalRequestConflict",
            "IDPCommunicationError",
            "IncompleteBody",
            "InvalidPart",
            "NoSuchUpload",
            "OperationAborted",
            "XAmzContentSHA256Mismatch",
        ),
        RETRYABLE,
    ),
    # The credentials were fetched anew before each attempt. Whoever starts the job again may have newer ones.
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired", "TokenRefreshRequired"),
        ("retryable", "expected a session that has not expired; renew the credentials, then run again"),
    ),
    "RequestTimeTooSkewed": ("retryable", "expected clocks that agree; set this machine's clock, then run again"),
    "AuthorizationHeaderMalformed": ("setting", "expected the bucket's own region; correct AWS_DEFAULT_REGION"),
    "InvalidAccessKeyId": (
        "setting",
        "expected an access key that this store knows; correct AWS_ACCESS_KEY_ID, the profile or the role",
    ),
    "PermanentRedirect": (
        "setting",
        "expected the bucket's own endpoint; correct AWS_DEFAULT_REGION or AWS_ENDPOINT_URL (perhaps to https)",
    ),
    "SignatureDoesNotMatch": ("setting", "expected the secret of this access key; correct AWS_SECRET_ACCESS_KEY"),
    "AccessDenied": (
        "unavailable",
        "expected keys that may do this; allow them {use.permissions}, or change {use.address}",
    ),
    "InvalidBucketName": ("unavailable", "expected a name that a bucket can have; correct {use.address}"),
    "NoSuchBucket": ("unavailable", "expected a bucket that exists; create it or correct {use.address}"),
    "NoSuchKey": ("unavailable", "expected an object that exists; check {use.address}"),
}
"""By the code of a store's answer (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""

CHECKSUM_CODES: Final = ("BadDigest", "IncompleteBody", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch")
"""Codes of REFUSALS with which stores also refuse a checksum's headers."""
OTHER_STATUSES: Final = (401, 403, 404, 407, 408, 429)
"""Statuses from 400 to 499 with which no store refuses them."""

CODE_BY_STATUS: Final = {
    **dict.fromkeys((301, 302, 307), "PermanentRedirect"),
    **dict.fromkeys((401, 403), "AccessDenied"),
    409: "OperationAborted",
}
"""Which code an answer stands for that has an unknown code or none."""

RETRYABLE_ERRORS: Final = (
    HTTPClientError,
    BotoConnectionError,
    ChecksumError,
    FlexibleChecksumError,
    IncompleteReadError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    HTTPError,
)
"""What goes wrong on the way to the store, or to the service that gives out credentials. Every other BotoCoreError is
about a setting: no credentials, no such profile, an impossible bucket name or region."""


def status_and_code(error: ClientError) -> tuple[int, str]:
    """The status of a store's answer, and the code in it: empty if it has none."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"].get("Code", "")


def is_tls_refusal(error: BaseException | None) -> bool:
    """Whether a connection failed because of a setting, not of the network."""
    return any(mark in str(error) for mark in TLS_REFUSALS)


def is_final(status: int, code: str) -> bool:
    """Whether a second request would get the same answer for certain."""
    return status in FINAL_STATUSES or code in FINAL_CODES


def is_outage(status: int, code: str) -> bool:
    """Whether a refusal says that the store cannot answer now. botocore makes a 500 of a successful answer that breaks
    off."""
    return code in OUTAGE_CODES or status in (408, 429) or (status >= 500 and status != 501)


def may_be_checksum(error: BaseException | None) -> bool:
    """Whether the checksum that was sent with a body may be why the request failed.

    Only where a request without a body succeeded: it shows that the keys, the bucket and the network are right.
    """
    if isinstance(error, ClientError):
        status, code = status_and_code(error)
        refused = status == 501 or (400 <= status < 500 and status not in OTHER_STATUSES)
        return code in CHECKSUM_CODES or (refused and code not in REFUSALS)
    # Some servers answer 411 before they have read the body, and close the connection while it is sent. Some give back
    # bytes with the checksum of others.
    return isinstance(error, ConnectionClosedError | FlexibleChecksumError)


def s3_failure(error: S3Error, where: str, use: BucketUse) -> S3Failure:
    """What an error means. Its message begins with ``where``; ``use`` says what the bucket is used for."""
    if isinstance(error, ClientError):
        return _refusal(error, where, use)
    found = f"{where}: {without_password(str(error))}"
    if is_tls_refusal(error):
        return S3Failure("setting", found, "expected a trusted TLS certificate; correct AWS_ENDPOINT_URL")
    if isinstance(error, RETRYABLE_ERRORS):
        advice = "expected an answer; check AWS_ENDPOINT_URL and the network, or run again"
        return S3Failure("retryable", found, advice, tried_again=isinstance(error, CredentialRetrievalError))
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return S3Failure(
            "setting",
            found,
            "expected S3 keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a profile or a role",
        )
    return S3Failure("setting", found, "expected usable AWS_… settings; correct them, or the profile they name")


def _refusal(error: ClientError, where: str, use: BucketUse) -> S3Failure:
    status, code = status_and_code(error)
    found = f"{where}: the store answered {error.operation_name} with {status} {code}"
    if words := error.response["Error"].get("Message", ""):
        found += f" ({words})"
    by_status = RETRYABLE if is_outage(status, code) else REFUSALS.get(CODE_BY_STATUS.get(status, ""), UNEXPLAINED)
    kind, advice = REFUSALS.get(code, by_status)
    if (kind, advice) == UNEXPLAINED and error.operation_name in OPERATIONS_WITH_BODY:
        advice += use.with_body
    return S3Failure(kind, found, advice.format(use=use), tried_again=not is_outage(status, code))


def without_password(text: str) -> str:
    """botocore's text without the password of an endpoint that it quotes, in whatever way the password is written."""
    return re.sub(r"""//[^"'\n]*@""", "//", text)
