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
from job.geometry.digests import row_digests
from job.geometry.measure import Measurement
from job.geometry.methods import NUMBERS_PER_BLOCK
from job.geometry.rows import FLOATS, Block, centred, row_blocks, row_norms

HIDDEN_SIZE = 2560


def main() -> None:
    """Time each part over the same matrix and print megabytes of W a second."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000)
    options = parser.parse_args()
    w = torch.randn(options.rows, HIDDEN_SIZE).to(torch.bfloat16)
    w[:1000] = w[0].clone()
    rows = w.view(torch.uint8).numpy()
    content = rows.tobytes()
    threads = torch.get_num_threads()

    def seconds(take: Callable[[Block], object]) -> float:
        began = time.perf_counter()
        for block in row_blocks([content], rows.shape[1], 2 * NUMBERS_PER_BLOCK):
            take(block)
        return time.perf_counter() - began

    def show(what: str, taken: float) -> None:
        print(f"{what:<58}{len(content) / 1e6 / taken:>8.0f} MB/s")

    mu, sha256 = np.zeros(HIDDEN_SIZE, np.float32), hashlib.sha256()
    for n_threads in sorted({1, threads}):
        torch.set_num_threads(n_threads)
        with_threads = f"torch with {n_threads} thread{'s' if n_threads > 1 else ''}"
        measurement = Measurement(options.rows, HIDDEN_SIZE, FLOATS["BF16"])
        show(f"first pass, all of it, {with_threads}", seconds(measurement.add))
        show(f"second pass (centre, norms), {with_threads}", seconds(_second(mu)))
    torch.set_num_threads(1)
    show("  rows cut from the stream", seconds(len))
    show("  sha-256", seconds(lambda block: sha256.update(block.reshape(-1).data)))
    show("  row digests", seconds(row_digests))
    show("  to float64", seconds(_float64))
    show("  to float64, norms", seconds(lambda block: row_norms(_float64(block))))
    for dedup in ("byte-hash", "torch-unique"):
        began = time.perf_counter()
        holes, _ = find_black_holes(measurement, lambda ids: rows[ids], rows.shape[1], dedup)
        taken = time.perf_counter() - began
        print(f"black holes by {dedup:<43}{taken:>8.2f} s ({holes.n_tokens:,} rows in {holes.n_holes})")


def _float64(block: Block) -> NDArray[np.float64]:
    return FLOATS["BF16"].numbers(block).to(torch.float64).numpy()


def _second(mu: NDArray[np.float32]) -> Callable[[Block], object]:
    return lambda block: row_norms(centred(block, FLOATS["BF16"], mu).astype(np.float64))


if __name__ == "__main__":
    main()
