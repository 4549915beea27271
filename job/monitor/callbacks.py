"""Types of the functions by which the steps of a survey report their progress. The steps do not know who watches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

Stage = Callable[[str], AbstractContextManager[None]]
"""``with stage(name)``: the code inside belongs to this stage of the survey."""

Chunk = TypeVar("Chunk", bytes, memoryview)
"""Bytes in either form."""


class Track(Protocol):
    """How the progress of a stream is reported."""

    def __call__(self, chunks: Iterable[Chunk], nbytes: int, label: str, /) -> Iterator[Chunk]:
        """The same chunks, ``nbytes`` bytes in all. Their progress is shown as ``label``."""
