"""How a survey's steps say where they are, without knowing who watches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

Stage = Callable[[str], AbstractContextManager[None]]
"""``stage(name)``: what happens inside belongs to this stage of the survey."""

Track = Callable[[Iterable[bytes], int, str], Iterator[bytes]]
"""``track(chunks, nbytes, label)``: the same chunks, ``nbytes`` bytes in all, shown under a label as they pass."""
