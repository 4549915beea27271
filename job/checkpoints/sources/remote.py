"""How a checkpoint on a server fetches bytes: it checks names and offsets first, and resumes after a break."""

from collections.abc import Callable, Generator, Mapping

from job.checkpoints.checkpoint import StoredFile, check_range
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import RetryPolicy, read_resuming


def resuming_fetch(
    read: Callable[[str, StoredFile, int, int], Generator[bytes, None, None]],
    files: Mapping[str, StoredFile],
    source: str,
    policy: RetryPolicy,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
) -> Callable[[str, int, int], bytes]:
    """The ``fetch`` of a checkpoint with these files.

    ``read(file, stored, begin, end)`` yields as many bytes as one request brings, and may raise RetryableError.
    """

    def fetch(file: str, begin: int, end: int) -> bytes:
        stored = check_range(files, source, file, begin, end)
        return read_resuming(
            lambda position, end: read(file, stored, position, end),
            begin,
            end,
            where=f"{source}: {file}",
            policy=policy,
            cooldown=cooldown,
            deadline=deadline,
        )

    return fetch
