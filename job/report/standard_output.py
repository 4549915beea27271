"""Standard output, for results. Whether anybody reads them changes nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def standard_output() -> Iterator[Console]:
    """A console to print on: as wide as the terminal, or wide enough for a file."""
    try:
        yield Console() if sys.stdout.isatty() else Console(width=250)
    except OSError:
        # Nobody reads: a pipe that was closed, a full disk. What is buffered must not fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
