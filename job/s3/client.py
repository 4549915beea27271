"""The S3 client that reading and writing share, with the endpoint, region and credentials that boto3 finds. Creating it
sends no request."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import botocore.session
import botocore.utils
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from job.errors import ConfigError
from job.s3.credentials import RenewableCredentials, session_with
from job.s3.refusals import CHECKSUM_SETTING, without_password
from job.s3.retries import S3Retries, retry_requests

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def create_client(config: Config, where: str, retries: S3Retries) -> S3Client:
    """A client with the endpoint, region and credentials that boto3 finds. Error messages begin with ``where``.

    Every failed request is sent again as ``retries`` says. ``config`` says the other properties of the client.

    Raises:
        ConfigError: boto3 found a setting that it cannot use.
    """
    credentials = RenewableCredentials(retries.refusal_waits)
    one_attempt = Config(retries={"mode": "standard", "total_max_attempts": 1})  # retry_requests() sends the others
    try:
        session = session_with(credentials)
        session._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
        client = session.client("s3", config=config.merge(one_attempt))
    except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for an invalid endpoint
        raise ConfigError(
            f"{where}: {without_password(str(error))}, expected usable AWS_… settings; correct them, or the profile "
            "they name"
        ) from error
    retry_requests(client, retries, credentials.renew)
    return client


def parse_timestamp(value: str) -> datetime:
    """The time that an answer states. botocore takes 40 µs for each object of a listing, which is most of what a
    listing of thousands costs; the form that S3 uses takes 1 µs."""
    with suppress(ValueError, TypeError):  # some protocols state a number
        time = datetime.fromisoformat(value)
        if time.tzinfo:
            return time
    parsed: datetime = botocore.utils.parse_timestamp(value)
    return parsed


def checksum_setting() -> str | None:
    """What the environment or the profile sets AWS_REQUEST_CHECKSUM_CALCULATION to; None if neither does."""
    name = CHECKSUM_SETTING.removeprefix("AWS_").lower()
    session = botocore.session.Session(session_vars={name: (name, CHECKSUM_SETTING, None, None)})
    setting: str | None = session.get_config_variable(name)
    return setting
