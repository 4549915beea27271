"""The job as a process of its own: what it prints may hold what no report of a test can."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def run_job(*arguments: str | Path, status: int = 0, **environment: str) -> bytes:
    """Run the job, which must end with this status, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "entrypoint.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stderr.decode("utf-8", "backslashreplace").encode(
        "ascii", "backslashreplace"
    )
    return done.stdout
