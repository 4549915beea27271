"""The credentials for S3: found by boto3, tried again if that fails, and found anew if the store refuses them."""

from __future__ import annotations

import logging
import time
from threading import Lock

import boto3
import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    UnknownCredentialError,
)
from botocore.parsers import ResponseParserError

logger = logging.getLogger(__name__)

SETTING_ERRORS = (
    ConfigNotFound,
    ConfigParseError,
    InvalidConfigError,
    PartialCredentialsError,
    ProfileNotFound,
    UnknownCredentialError,
)
"""What boto3 raises if the profile or the variables are wrong: another attempt does not help."""

FETCH_ERRORS = (BotoCoreError, ClientError, OSError, RuntimeError, KeyError, ValueError, ResponseParserError)
"""What boto3 raises if credentials cannot be fetched: OSError for a token file, RuntimeError if those that it fetched
are expired, the last three for an answer that is not as it should be."""

NOTHING_FOUND_ATTEMPTS = 4
"""How often to look if boto3 finds no credentials at all: EC2's metadata service may be slow to start, but most often
nobody has set any, and each look may take two seconds."""


class RenewableCredentials(Credentials):
    """The credentials that boto3 finds at the first request, and again after ``renew``: in the environment, the
    profile, the files and the services that give out those of a role. Safe for several threads."""

    def __init__(self, waits: tuple[float, ...]) -> None:
        super().__init__("", "", method="renewable")
        self._waits = waits
        self._lock = Lock()
        self._current: Credentials | None = None

    def renew(self) -> None:
        """Let the next request look for credentials anew."""
        self._current = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The credentials to sign a request with.

        Raises:
            NoCredentialsError: boto3 finds none.
            CredentialRetrievalError: they cannot be fetched.
            BotoCoreError, ClientError: a setting is wrong, or a service refuses to give out credentials.
        """
        with self._lock:
            for attempt, wait in enumerate((*self._waits, None), 1):
                try:
                    return self._find()
                except SETTING_ERRORS:
                    raise
                except FETCH_ERRORS as error:
                    self._current = None
                    nothing_found = isinstance(error, NoCredentialsError)
                    if wait is None or (nothing_found and attempt >= NOTHING_FOUND_ATTEMPTS):
                        if nothing_found or isinstance(error, ClientError | CredentialRetrievalError):
                            raise
                        found = f"{type(error).__name__}: {error}"
                        raise CredentialRetrievalError(provider="boto3", error_msg=found) from error
                    logger.warning("S3: no credentials (%s); trying again in %.1f s", type(error).__name__, wait)
                    time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _find(self) -> ReadOnlyCredentials:
        # A new session, because one keeps the credentials that it has found.
        found = self._current or boto3.Session().get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
        self._current = found
        return frozen


class _Provider(CredentialProvider):
    """Gives botocore the renewable credentials."""

    METHOD = "renewable"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


def session_with(credentials: Credentials) -> boto3.Session:
    """A session whose clients sign their requests with these credentials.

    Raises:
        BotoCoreError: the profile or its file is wrong.
    """
    session = botocore.session.Session()
    session.register_component("credential_provider", CredentialResolver([_Provider(credentials)]))
    return boto3.Session(botocore_session=session)
