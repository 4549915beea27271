"""The S3 server of k8s/overlays/local, started here by the command, the variables and the keys that the pod has."""

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from job.store.s3.bucket import Bucket
from job.store.s3.store import S3Store
from tests.documentation import DOCS
from tests.manifests.rendering import MANIFESTS, Document, environment, of_kind, render, survey_container
from tests.servers.seaweed import END_WITH_PARENT, PORTS, Identity, SeaweedServer, free_ports, weed_binary


@pytest.fixture
def documents() -> list[Document]:
    return render(MANIFESTS / "overlays" / "local")


@pytest.fixture
def ports(documents: list[Document], tmp_path: Path) -> Iterator[dict[str, int]]:
    """The ports of the server, which is as the manifest has it but for them and its folder."""
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (secret,) = of_kind(documents, "Secret")
    keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    (tmp_path / "data").mkdir()
    own = [f"-dir={tmp_path / 'data'}", *(f"-{name}={port}" for name, port in ports.items())]
    command = [sys.executable, "-c", END_WITH_PARENT, weed_binary(), *container["command"][1:], *own]
    variables = {"PATH": os.environ["PATH"], **environment(container), **keys, "HOME": str(tmp_path)}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=tmp_path) as process,
    ):
        yield ports
        process.kill()


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):  # noqa: S310 - of this machine
            return True
    except (HTTPError, URLError, ConnectionError, TimeoutError):
        return False


def test_when_the_probe_lets_workers_in_they_find_their_bucket_and_what_they_write_can_be_browsed(
    documents: list[Document], ports: dict[str, int]
) -> None:
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert probe["port"] == 8888, "the filer's own port, in whose place is another here"
    deadline = time.monotonic() + 60
    while not answers(f"http://127.0.0.1:{ports['filer.port']}{probe['path']}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    (secret,) = of_kind(documents, "Secret")
    key, secret_key = (
        base64.b64decode(secret["data"][name]).decode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    bucket, _, prefix = environment(survey_container(documents))["OUTPUT"].removeprefix("s3://").partition("/")
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    store = S3Store(Bucket(SeaweedServer.client_at(endpoint, Identity(key, secret_key), None), bucket, f"{prefix}/"))
    store.check()
    assert store.create("runs/a/plan.json", b"{}")
    assert not store.create("runs/a/plan.json", b"[]")

    (shown,) = re.findall(r"<http://localhost:8888(/\S+)>", DOCS["kubernetes"])
    with urlopen(f"http://127.0.0.1:{ports['filer.port']}{shown}runs/a/plan.json", timeout=5) as answer:
        assert answer.read() == b"{}"
    browser = Request(f"http://127.0.0.1:{ports['filer.port']}{shown}", headers={"Accept": "text/html"})
    with urlopen(browser, timeout=5) as answer:  # noqa: S310 - of this machine
        assert f'href="{shown}runs/"' in answer.read().decode()
