"""A weak S3 server for the tests: ``rclone serve s3``, which takes no notice of conditions on a write."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.seaweed import ADMIN, END_WITH_PARENT, READY_WITHIN_SECONDS, SeaweedServer, free_ports


@pytest.fixture
def weak_s3(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket on it, with boto3's environment set to reach it."""
    folder, (port,) = tmp_path_factory.mktemp("rclone"), free_ports(1)
    (folder / "bucket").mkdir()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {**SeaweedServer(folder).environment(), "AWS_ENDPOINT_URL": endpoint}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    program = str(Path(sys.executable).parent / "rclone")
    keys = f"{ADMIN.access_key},{ADMIN.secret_key}"
    options = ["--config", "/dev/null", "--addr", f"127.0.0.1:{port}", "--auth-key", keys]
    # An object that is written while its folder is read is hidden as long as rclone keeps what it read, 5 minutes else.
    options += ["--dir-cache-time", "5s"]
    command = [sys.executable, "-c", END_WITH_PARENT, program, "serve", "s3", *options, str(folder)]
    with (
        (folder.parent / f"{folder.name}.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        client = SeaweedServer.client_at(endpoint, ADMIN, None)
        while True:
            try:
                client.list_objects_v2(Bucket="bucket")
                break
            except (BotoCoreError, ClientError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield "s3://bucket/surveys"
        process.kill()
