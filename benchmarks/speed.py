"""How fast W's bytes pass through each measurement on this machine, side by side.

.venv/bin/python -m benchmarks.speed
"""

import argparse
import hashlib
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from job.geometry.dedup import find_black_holes
from job.geometry.digests import row_digests, xxh3_128
from job.geometry.measure import Measurement
from job.geometry.methods import NUMBERS_PER_BLOCK
from job.geometry.rows import FLOATS, Block, centred, row_norms
from job.limits.memory import keep_freed_memory

HIDDEN_SIZE = 2560
BF16 = FLOATS["BF16"]
DIGEST = xxh3_128(seed=1)


def main() -> None:
    """Time each part over the same matrix and print megabytes of W a second."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000)
    options = parser.parse_args()
    keep_freed_memory()
    w = torch.randn(options.rows, HIDDEN_SIZE).to(torch.bfloat16)
    w[:1000] = w[0].clone()
    rows = w.view(torch.uint8).numpy()
    rows_per_block = NUMBERS_PER_BLOCK // HIDDEN_SIZE

    def show(what: str, take: Callable[[Block], object]) -> None:
        began = time.perf_counter()
        for first in range(0, len(rows), rows_per_block):
            take(rows[first : first + rows_per_block])
        print(f"{what:<58}{rows.nbytes / 1e6 / (time.perf_counter() - began):>8.0f} MB/s")

    mu, sha256 = np.zeros(HIDDEN_SIZE, np.float32), hashlib.sha256()
    measurement = Measurement(options.rows, HIDDEN_SIZE, BF16, DIGEST)
    show("first pass (centroid, norms, row digests)", measurement.add)
    show("second pass (centre, norms)", lambda block: row_norms(centred(block, BF16, mu).astype(np.float64)))
    show("  sha-256", lambda block: sha256.update(block.reshape(-1).data))
    show("  row digests", lambda block: row_digests(block, DIGEST))
    show("  to float64", _float64)
    show("  to float64, norms", lambda block: row_norms(_float64(block)))
    for dedup in ("byte-hash", "torch-unique"):
        began = time.perf_counter()
        holes, _ = find_black_holes(measurement, lambda ids: rows[ids], rows.shape[1], dedup)
        taken = time.perf_counter() - began
        print(f"black holes by {dedup:<43}{taken:>8.2f} s ({holes.n_tokens:,} rows in {holes.n_holes})")


def _float64(block: Block) -> NDArray[np.float64]:
    return BF16.numbers(block).astype(np.float64)


if __name__ == "__main__":
    main()
