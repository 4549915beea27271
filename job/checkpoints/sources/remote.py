"""How a checkpoint on a server reads bytes: it resumes after a break."""

from collections.abc import Callable, Generator, Mapping

from job.checkpoints.checkpoint import StoredFile
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import RetryPolicy, read_resuming


def resuming_fill(
    read: Callable[[str, StoredFile, int, memoryview], Generator[int, None, None]],
    files: Mapping[str, StoredFile],
    source: str,
    policy: RetryPolicy,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
) -> Callable[[str, int, memoryview], None]:
    """The ``fill`` of a checkpoint with these files.

    ``read(file, stored, begin, buffer)`` makes one request for the bytes from ``begin`` on, as many as the buffer has.
    It yields the number of bytes of each piece that it has read into the buffer, and may raise RetryableError.
    """

    def fill(file: str, begin: int, buffer: memoryview) -> None:
        read_resuming(
            lambda position, rest: read(file, files[file], position, rest),
            begin,
            buffer,
            where=f"{source}: {file}",
            policy=policy,
            cooldown=cooldown,
            deadline=deadline,
        )

    return fill
