"""Permissions that hold for the process of the tests, whoever runs it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def somebody() -> Iterator[None]:
    """Permissions hold for this process, even if root runs it."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)
