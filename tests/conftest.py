"""What every test run reports, how patient it is, and what holds after every test."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.manifest_schema import NAMES, errors_in

# Here, because with xdist the process that reports loads no deeper conftest than this.
from tests.zoo.summary import pytest_terminal_summary as pytest_terminal_summary

# A machine that is busy with other tests is slow; that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Exempt the imported objects from garbage collection, which took a tenth of the unit tests' time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def manifests_are_valid(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every manifest that a test leaves below ``tmp_path`` is valid, unless the test is marked to write others."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder and not request.node.get_closest_marker("writes_invalid_manifests"):
        paths = (path for path in folder.rglob("*.json") if path.name in NAMES and path.is_file())
        assert errors_in((str(path), path.read_bytes()) for path in paths) == []
