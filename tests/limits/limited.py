"""Code run in a process of its own, under the operating system's limits: what exceeds them dies, and it alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

MAX_MEMORY = 300_000_000
"""Bytes, of which the interpreter takes 15 million and the longest pickle 20 million."""

MAX_SECONDS = 15
"""Of one core. Three are enough on a machine that does little else."""

LIMITS = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({MAX_MEMORY}, {MAX_MEMORY}))
resource.setrlimit(resource.RLIMIT_CPU, ({MAX_SECONDS}, {MAX_SECONDS}))
"""


def run_limited(code: str, given: bytes) -> None:
    """Run ``code`` with ``given`` as its standard input; it must end well and print nothing."""
    child = subprocess.run([sys.executable, "-c", LIMITS + code], input=given, cwd=ROOT, capture_output=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, b"", b"")
