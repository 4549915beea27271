"""Types of the functions by which the steps of a survey report their progress. The steps do not know who watches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from job.store.store import Chunk

Stage = Callable[[str], AbstractContextManager[None]]
"""``with stage(name)``: the code inside belongs to this stage of the survey."""

Track = Callable[[Iterable[Chunk], int, str], Iterator[Chunk]]
"""``track(chunks, nbytes, label)``: the same chunks, ``nbytes`` bytes in all. Their progress is shown as ``label``."""
