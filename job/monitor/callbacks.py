"""Types of the functions by which the steps of a survey report their progress. The steps do not know who watches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

Stage = Callable[[str], AbstractContextManager[None]]
"""``with stage(name)``: the code inside belongs to this stage of the survey."""

Track = Callable[[Iterable[bytes], int, str], Iterator[bytes]]
"""``track(chunks, nbytes, label)``: the same chunks, ``nbytes`` bytes in all. Their progress is shown as ``label``."""
