"""How this process's allocator treats large blocks. It knows glibc, and nothing of what the blocks hold."""

import ctypes

LARGE_NBYTES = 4 << 20
"""Less than a chunk of a weight file, more than what is allocated and freed all the time."""

_M_MMAP_THRESHOLD = -3  # malloc.h


def give_back_large_blocks() -> None:
    """Have every block of ``LARGE_NBYTES`` or more returned to the system when it is freed. For the whole process.

    Left to itself, glibc stops doing so once a large block has been freed, and keeps the next ones in heaps that belong
    to threads, where they leave gaps: streaming chunks of 4 MB over 4 connections, peak memory crept from 60 to
    97 MB over 2,400 chunks; with this it stays at 36 MB from the first chunk to the last. See mallopt(3),
    "M_MMAP_THRESHOLD". Does nothing where there is no such setting (musl, macOS).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_NBYTES)
