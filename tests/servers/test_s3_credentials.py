"""Credentials for S3 that cannot be fetched, expire or are replaced during a run: real services on loopback."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from job.checkpoints.sources.s3 import open_s3
from job.errors import ConfigError, TransientError
from job.s3.retries import S3Retries
from job.store.s3.store import open_s3_store
from tests.servers.meddling_store import Asked, meddling_store
from tests.servers.seaweed import ADMIN, Identity, SeaweedServer
from tests.servers.serving import serving
from tests.servers.short_waits import ONCE, ONE_ATTEMPT, QUICK

OLD = Identity("old-access-key", "old-secret-key")
HOUR = timedelta(hours=1)


class Service:
    """Gives out credentials, as a container's agent (JSON) and as AWS's STS (XML) do."""

    def __init__(self) -> None:
        self.given: list[Identity | int] = [ADMIN]
        """What comes next: credentials, or the status of a refusal. The last one stays."""
        self.lifetime = HOUR
        self.asked = 0
        self.address = ""

    def next(self) -> Identity | int:
        self.asked += 1
        return self.given.pop(0) if len(self.given) > 1 else self.given[0]


@contextmanager
def running_service() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = service.next()
            body = b"" if isinstance(given, int) else self.credentials(given)
            self.send_response(given if isinstance(given, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def credentials(self, given: Identity) -> bytes:
            until = (datetime.now(UTC) + service.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
            if self.command == "GET":
                document = {"AccessKeyId": given.access_key, "SecretAccessKey": given.secret_key, "Token": ""}
                return json.dumps({**document, "Expiration": until}).encode()
            keys = f"<AccessKeyId>{given.access_key}</AccessKeyId><SecretAccessKey>{given.secret_key}</SecretAccessKey>"
            inner = f"<Credentials>{keys}<SessionToken></SessionToken><Expiration>{until}</Expiration></Credentials>"
            return (
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>"
                f"{inner}</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ).encode()

        do_GET = do_POST = answer  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            """Not on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.address = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield service


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A container's agent that a job asks for its credentials."""
    request.getfixturevalue("s3_bucket")  # which sets the environment of which this takes the keys away
    with running_service() as running:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{running.address}/credentials")
        yield running


@pytest.fixture
def sts(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    """STS, from which a job gets the credentials of a role for the token in a file."""
    (tmp_path / "token").write_text("web-identity")
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.address)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/surveys")
    return service


def use_s3(bucket: str) -> None:
    """Write to a bucket, and read from it."""
    open_s3_store(f"s3://{bucket}", QUICK).write("model/config.json", b"{}")
    open_s3(f"s3://{bucket}/model", retry_policy=ONE_ATTEMPT, refusal_waits=QUICK.refusal_waits)


def expect_transient(bucket: str, message: str, retries: S3Retries = QUICK) -> None:
    """Neither writing nor reading can go on now, but another run might."""
    with pytest.raises(TransientError, match=message):
        open_s3_store(f"s3://{bucket}", retries).write("model/config.json", b"{}")
    with pytest.raises(TransientError, match=message):
        open_s3(f"s3://{bucket}/model", refusal_waits=retries.refusal_waits)


@pytest.mark.parametrize("source", ["service", "sts"])
def test_a_service_that_fails_for_a_moment_is_asked_again(
    request: pytest.FixtureRequest, s3_bucket: str, source: str
) -> None:
    service: Service = request.getfixturevalue(source)
    service.given = [500, 403, ADMIN]
    use_s3(s3_bucket)
    assert service.asked >= 4


def test_a_service_that_stays_out_of_order_is_a_passing_failure(service: Service, s3_bucket: str) -> None:
    service.given = [500]
    expect_transient(s3_bucket, "Error when retrieving credentials", ONCE)  # boto3's own attempts take two seconds


def test_credentials_that_are_expired_when_they_come_are_a_passing_failure(service: Service, s3_bucket: str) -> None:
    service.lifetime = -HOUR
    expect_transient(s3_bucket, "RuntimeError: .*still expired")


def test_a_token_file_that_is_missing_is_a_passing_failure(sts: Service, s3_bucket: str, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    expect_transient(s3_bucket, "FileNotFoundError")
    assert sts.asked == 0


def refusing_old_keys(asked: Asked) -> tuple[int, str] | None:
    """What a store answers to a session that has expired."""
    return (400, "ExpiredToken") if OLD.access_key in asked.headers["Authorization"] else None


@pytest.mark.parametrize("source", ["service", "sts"])
def test_expired_credentials_are_fetched_anew(
    request: pytest.FixtureRequest,
    s3_server: SeaweedServer,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    service: Service = request.getfixturevalue(source)
    with meddling_store(s3_server.endpoint, refusing_old_keys) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        service.given = [OLD, OLD, ADMIN]
        use_s3(s3_bucket)
        assert len(proxy.meddled) == 2


def test_credentials_that_stay_expired_are_a_passing_failure(
    service: Service, s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with meddling_store(s3_server.endpoint, refusing_old_keys) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        service.given = [OLD]
        expect_transient(s3_bucket, "ExpiredToken.*renew the credentials, then run again")
        assert service.asked == len(proxy.meddled) == 12


def test_keys_that_are_replaced_in_their_file_are_read_anew(
    s3_server: SeaweedServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"

    def write_keys(keys: Identity) -> None:
        path.write_text(f"[default]\naws_access_key_id={keys.access_key}\naws_secret_access_key={keys.secret_key}\n")

    def replaces_keys(asked: Asked) -> None:
        if OLD.access_key in asked.headers["Authorization"]:
            write_keys(ADMIN)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    write_keys(OLD)
    with meddling_store(s3_server.endpoint, replaces_keys) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        use_s3(s3_bucket)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "Partial credentials found"),
        ({"AWS_PROFILE": "nobodys"}, "nobodys"),
    ],
    ids=["none", "half", "profile"],
)
def test_missing_credentials_are_a_wrong_setting(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
        if not value:
            del os.environ[name]
    with pytest.raises(ConfigError, match=message):
        open_s3_store(f"s3://{s3_bucket}", QUICK).write("a.json", b"{}")
