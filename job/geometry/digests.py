"""A digest of 16 bytes for each row, to find rows that may be identical."""

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.geometry.rows import Block

Digest = Callable[[NDArray[np.uint8]], bytes]

DIGEST_NBYTES: Final = 16

Digests = NDArray[np.uint64]
"""(n, 2) uint64: the 16 bytes of each row's digest."""


def blake2b_128(row: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(row.data, digest_size=DIGEST_NBYTES).digest()


def row_digests(block: Block, digest: Digest = blake2b_128) -> Digests:
    """(n, 2) uint64: the digest of each row's bytes."""
    joined = b"".join(map(digest, block))
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)
