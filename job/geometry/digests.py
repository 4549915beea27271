"""A digest of 16 bytes for each row, to find rows that may be identical."""

from collections.abc import Callable
from functools import partial

import numpy as np
import xxhash
from numpy.typing import NDArray

from job.geometry.rows import Block

Digest = Callable[[NDArray[np.uint8]], bytes]

Digests = NDArray[np.uint64]
"""(n, 2) uint64: the 16 bytes of each row's digest."""


def xxh3_128(seed: int) -> Digest:
    """XXH3 with 128 bits: it reads memory as fast as it comes, but who knows the seed can make rows that collide.

    ``seed``: 64 bits. With a random one, no checkpoint can hold rows that were made to collide.
    """
    return partial(xxhash.xxh3_128_digest, seed=seed)


def row_digests(block: Block, digest: Digest) -> Digests:
    """(n, 2) uint64: the digest of each row's bytes."""
    joined = b"".join(map(digest, block))
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)
