"""Where there is no Chromium, the tests say so and fail: they are not skipped."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("environment", [{"CHROME": "/no/such/chromium"}, {"CHROME": ""}], ids=["CHROME", "PATH"])
def test_the_tests_end_with_what_to_install(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/browser"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)} | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "found no Chromium, expected" in done.stderr
    assert "apt install chromium" in done.stderr
