"""What boto3's exceptions mean to a survey: whether a setting is wrong or a retry may help. Makes no requests."""

import re

from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from job.errors import ConfigError, SurveyError, TransientError

REFUSALS = {
    "NoSuchBucket": "a bucket that exists was expected; create it or correct OUTPUT",
    "InvalidBucketName": "a name that a bucket can have was expected; correct OUTPUT",
    "InvalidAccessKeyId": "an access key this store knows was expected; correct AWS_ACCESS_KEY_ID, the profile or role",
    "SignatureDoesNotMatch": "the secret of this access key was expected; correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "a session that lasts was expected; renew the credentials",
    "InvalidToken": "a valid session token was expected; renew the credentials",
    "RequestTimeTooSkewed": "clocks that agree were expected; set this machine's",
    "PermanentRedirect": "the bucket's own endpoint was expected; correct AWS_DEFAULT_REGION or AWS_ENDPOINT_URL",
    "AuthorizationHeaderMalformed": "the bucket's own region was expected; correct AWS_DEFAULT_REGION",
    "AccessDenied": "credentials that allow this were expected; grant them s3:ListBucket, s3:GetObject, s3:PutObject, "
    "s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads, or choose an OUTPUT they may write to",
}
"""What was expected and what to do, for the refusals whose code says enough."""

BY_STATUS = {301: "PermanentRedirect", 307: "PermanentRedirect", 403: "AccessDenied"}
"""The refusal that an answer with another code, or with none, stands for."""

UNSUPPORTED = (
    "a store that supports this request was expected; AWS_REQUEST_CHECKSUM_CALCULATION=when_required helps with some"
)

RETRYABLE_CODES = {
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
"""4xx codes that a later attempt may not meet: damage on the way, an upload that somebody else aborted, throttling."""

RETRYABLE_ERRORS = (
    HTTPClientError,
    BotoConnectionError,
    ChecksumError,
    FlexibleChecksumError,
    IncompleteReadError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)
"""What goes wrong between here and the store, or the service that lends credentials. Every other BotoCoreError is about
a setting: no credentials, no such profile, an impossible bucket name or region."""

TLS_REFUSALS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""The errors of a connection that are settings after all: an unknown certificate, https where http is spoken."""


def without_endpoint_password(text: str) -> str:
    """What botocore says, which may quote an endpoint, without a password in it, in whatever way that is written."""
    return re.sub(r"""//[^"'\n]*@""", "//", text)


def survey_error(error: BotoCoreError | ClientError, where: str) -> SurveyError:
    """The error of the contract that boto3's stands for; ``where`` begins its message."""
    if not isinstance(error, ClientError):
        found = f"{where}: {without_endpoint_password(str(error))}"
        if isinstance(error, RETRYABLE_ERRORS) and not any(mark in found for mark in TLS_REFUSALS):
            return TransientError(
                f"{found}, an answer was expected; check AWS_ENDPOINT_URL and the network, or run again"
            )
        return ConfigError(f"{found}, usable AWS_… settings were expected; correct them, or the profile they name")
    code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]
    found = (
        f"{where}: {error.operation_name} was answered {status} {code} ({error.response['Error'].get('Message', '')})"
    )
    passing = code in RETRYABLE_CODES or status in (408, 429) or (status >= 500 and status != 501)
    if passing:
        return TransientError(f"{found}, success was expected; run again, later if this is throttling")
    return ConfigError(f"{found}, {REFUSALS.get(code) or REFUSALS.get(BY_STATUS.get(status, ''), UNSUPPORTED)}")
