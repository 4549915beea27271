"""What was measured, by what was run. It knows no server and no process."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Final, Literal, TypeAlias

JOB: Final = "job"
"""Who is judged: the job of this checkout, or the first that was named."""


Tensors: TypeAlias = Literal["mu and black holes", "all tensors", "all tensors and tokens"]
"""What a run writes. The rulers know no tokens."""


@dataclass(frozen=True)
class Key:
    """One line of the table."""

    route: str
    """From where to where, such as ``folder → folder``."""
    who: str
    """The job, another version of it, or a ruler."""
    w_nbytes: int = 0
    """The size of W; 0 for runs of many small models."""
    tensors: Tensors = "all tensors"


@dataclass(frozen=True)
class Run:
    """One run, or the median of several. What nobody counted is 0."""

    wall: float
    """Seconds."""
    cpu: float
    """Core-seconds."""
    peak: float
    """Bytes of the largest process."""
    peak_of_all: float
    """Bytes of all processes together."""
    first_byte: float = 0.0
    """Seconds until the first byte of W was asked for."""
    sent_nbytes: float = 0.0
    """Bytes that came from the checkpoint's large files."""
    stored_nbytes: float = 0.0
    """Bytes that went to the store."""
    parts_in_flight: float = 0.0
    """The most parts of uploads that were on their way at once."""
    hub_requests: float = 0.0
    header_requests: float = 0.0
    """Those of large files' bytes that are not W's."""
    store_requests: float = 0.0
    reachability: float = 0.0
    """Seconds that the survey waited at its end for what is said of the tokens' reachability."""


Medians: TypeAlias = Mapping[Key, Run]
"""Of each key's runs the median of each figure by itself."""


@dataclass
class Results:
    """All runs of one invocation."""

    runs: dict[Key, list[Run]] = field(default_factory=lambda: defaultdict(list))
    left_out: list[str] = field(default_factory=list)
    """What was not measured, and why."""
    failures: list[str] = field(default_factory=list)

    def medians(self) -> Medians:
        """What the table shows."""
        names = [each.name for each in fields(Run)]
        return {
            key: Run(**{name: median(getattr(run, name) for run in runs) for name in names})
            for key, runs in self.runs.items()
        }
