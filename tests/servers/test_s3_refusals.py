"""What an S3 store's refusals mean: the same for reading a checkpoint and for publishing a survey."""

from collections.abc import Callable
from typing import Final

import pytest

from job.checkpoints.sources.s3 import open_s3
from job.errors import ConfigError, ModelUnavailable, SurveyError, TransientError
from job.s3.refusals import REFUSALS
from job.store.s3.store import open_s3_store
from tests.servers.answering import server_that_answers
from tests.servers.seaweed import ADMIN, SeaweedServer, free_ports
from tests.servers.short_waits import ONCE, ONE_ATTEMPT

Direction = Callable[[str], None]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Direction:
    """Read from the store at an endpoint."""

    def read(endpoint: str) -> None:
        for name, value in SeaweedServer.environment_at(endpoint, ADMIN).items():
            monkeypatch.setenv(name, value)
        open_s3("s3://bucket/model", read_timeout=1.0, retry_policy=ONE_ATTEMPT, refusal_waits=())

    return read


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Direction:
    """Write to the store at an endpoint."""

    def write(endpoint: str) -> None:
        for name, value in SeaweedServer.environment_at(endpoint, ADMIN).items():
            monkeypatch.setenv(name, value)
        open_s3_store("s3://bucket", ONCE).write("a", b"{}")

    return write


KINDS: Final[dict[str, tuple[type[SurveyError], type[SurveyError]]]] = {
    "retryable": (TransientError, TransientError),
    "setting": (ConfigError, ConfigError),
    "unavailable": (ModelUnavailable, ConfigError),
}
"""What reading and writing raise: a bucket or key that cannot be used is one model's failure for reading, and a wrong
OUTPUT for writing."""

ANSWERS: Final = [
    (400, "BadDigest", "retryable"),
    (409, "ConditionalRequestConflict", "retryable"),
    (400, "IDPCommunicationError", "retryable"),
    (400, "IncompleteBody", "retryable"),
    (400, "InvalidPart", "retryable"),
    (500, "InternalError", "retryable"),
    (404, "NoSuchUpload", "retryable"),
    (409, "OperationAborted", "retryable"),
    (400, "RequestTimeout", "retryable"),
    (403, "RequestTimeTooSkewed", "retryable"),
    (503, "ServiceUnavailable", "retryable"),
    (503, "SlowDown", "retryable"),
    (400, "Throttling", "retryable"),
    (400, "ThrottlingException", "retryable"),
    (429, "TooManyRequests", "retryable"),
    (400, "XAmzContentSHA256Mismatch", "retryable"),
    (400, "ExpiredToken", "retryable"),
    (400, "ExpiredTokenException", "retryable"),
    (400, "InvalidToken", "retryable"),
    (400, "RequestExpired", "retryable"),
    (400, "TokenRefreshRequired", "retryable"),
    (408, "SomethingElse", "retryable"),
    (409, "SomethingElse", "retryable"),
    (429, "SomethingElse", "retryable"),
    (502, "SomethingElse", "retryable"),
    (400, "AuthorizationHeaderMalformed", "setting"),
    (403, "InvalidAccessKeyId", "setting"),
    (301, "PermanentRedirect", "setting"),
    (403, "SignatureDoesNotMatch", "setting"),
    (403, "AccessDenied", "unavailable"),
    (401, "SomethingElse", "unavailable"),
    (403, "SomethingElse", "unavailable"),
    (307, "SomethingElse", "setting"),
    (400, "InvalidBucketName", "unavailable"),
    (404, "NoSuchBucket", "unavailable"),
    (404, "NoSuchKey", "unavailable"),
    (404, "SomethingElse", "unavailable"),
    (400, "SomethingElse", "unavailable"),
    (405, "MethodNotAllowed", "unavailable"),
    (501, "NotImplemented", "unavailable"),
]


def test_every_code_of_the_table_is_tested() -> None:
    assert REFUSALS.keys() == {code for _, code, _ in ANSWERS} - {"SomethingElse", "MethodNotAllowed", "NotImplemented"}


@pytest.mark.parametrize(("status", "code", "kind"), ANSWERS, ids=[f"{status}-{code}" for status, code, _ in ANSWERS])
def test_reading_and_writing_agree_on_what_a_refusal_means(
    read: Direction, write: Direction, status: int, code: str, kind: str
) -> None:
    raised = []
    with server_that_answers(status, code) as endpoint:
        for direction in (read, write):
            with pytest.raises(SurveyError) as caught:
                direction(endpoint)
            raised.append(type(caught.value))
            assert code in str(caught.value)
    assert tuple(raised) == KINDS[kind]


@pytest.mark.parametrize(
    ("direction", "permission"), [("read", "s3:GetObject and s3:ListBucket"), ("write", "s3:PutObject")]
)
def test_a_refusal_names_what_the_keys_must_allow(
    request: pytest.FixtureRequest, direction: str, permission: str
) -> None:
    with (
        server_that_answers(403, "AccessDenied") as endpoint,
        pytest.raises(SurveyError, match=rf"s3://bucket/.*403 AccessDenied.* allow them .*{permission}") as caught,
    ):
        request.getfixturevalue(direction)(endpoint)
    assert ("PutObject, " in str(caught.value)) == (direction == "write")


@pytest.mark.parametrize("direction", ["read", "write"])
def test_https_to_a_server_that_speaks_http_is_a_wrong_setting(request: pytest.FixtureRequest, direction: str) -> None:
    with (
        server_that_answers(404, "NoSuchKey") as endpoint,
        pytest.raises(ConfigError, match=r"WRONG_VERSION_NUMBER.*AWS_ENDPOINT_URL"),
    ):
        request.getfixturevalue(direction)(endpoint.replace("http://", "https://"))


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_server_that_redirects_every_request_is_a_wrong_setting(
    request: pytest.FixtureRequest, direction: str
) -> None:
    with (
        server_that_answers(301, "MovedPermanently") as endpoint,
        pytest.raises(ConfigError, match=r"301 MovedPermanently.*AWS_ENDPOINT_URL \(perhaps to https\)"),
    ):
        request.getfixturevalue(direction)(endpoint)


@pytest.mark.parametrize("direction", ["read", "write"])
@pytest.mark.parametrize(("password", "error"), [("pass-word", TransientError), ("pass/word", ConfigError)])
def test_a_password_in_the_endpoint_is_not_shown(
    request: pytest.FixtureRequest, direction: str, password: str, error: type[SurveyError]
) -> None:
    with pytest.raises(error, match=r"s3://bucket/.*127\.0\.0\.1") as caught:
        request.getfixturevalue(direction)(f"http://user:{password}@127.0.0.1:{free_ports(1)[0]}")
    assert "word" not in str(caught.value)
