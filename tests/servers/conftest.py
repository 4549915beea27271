"""Servers that the tests run against, and an environment in which nothing of this machine's own set-up is left."""

import os
from collections.abc import Iterator

import huggingface_hub
import pytest

from tests.servers.loopback_hub import LoopbackHub
from tests.servers.rclone import weak_s3 as weak_s3
from tests.servers.seaweed import s3_bucket as s3_bucket
from tests.servers.seaweed import s3_server as s3_server
from tests.servers.tls import behind_tls as behind_tls
from tests.servers.tls import tls_folder as tls_folder

for name in list(os.environ):  # now, because the Hub's client reads some of them when it is first used
    if name.startswith(("HF_", "HUGGING_FACE_", "AWS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A Hub without repositories."""
    with LoopbackHub() as server:
        yield server
    huggingface_hub.close_session()
