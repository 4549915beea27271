"""What the projection costs, and how good it is.

.venv/bin/python -m benchmarks.projection             a survey of 0.8 GB with it and without, and some spectra
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.checkpoints import write_large
from benchmarks.measure import measure
from benchmarks.runner import clean_environment
from job.geometry.projection import Coordinates, principal_directions, scale_of

ROOT = Path(__file__).parents[1]
TENSORS: Final = "W,mu,gamma_centered,black_holes,tokens"

SPECTRA: Final[Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "1 / rank": lambda ranks: 1 / ranks,
    "1 / √rank": lambda ranks: ranks**-0.5,
    "0.98 ^ rank": lambda ranks: 0.98**ranks,
    "rank ^ −0.3": lambda ranks: ranks**-0.3,
    "flat": np.ones_like,
}
"""The variances along the directions, of the largest to the smallest."""


def main() -> None:
    """Print a survey's time with and without the projection, in turns, and what the projection explains."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=0.8, help="about the size of W, which grows by its columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=2, default=[40_000, 768], help="of the matrices with known spectra")
    options = parser.parse_args()
    compare_time(options.gigabytes, options.rounds)
    for name, spectrum in SPECTRA.items():
        compare_variance(name, options.shape[0], options.shape[1], spectrum)


def compare_time(gigabytes: float, rounds: int) -> None:
    """Print the medians of surveys with the projection and without, which take turns, and their ratios."""
    wall: dict[str, list[float]] = {TENSORS: [], f"{TENSORS},projection": []}
    cpu: dict[str, list[float]] = {tensors: [] for tensors in wall}
    with tempfile.TemporaryDirectory(prefix="projection-") as name:
        folder = Path(name)
        model = write_large(folder / "model", gigabytes).folder
        for number in range(rounds):
            for tensors in wall:
                command = [sys.executable, str(ROOT / "entrypoint.py"), str(model), "--output", str(folder / "out")]
                took = measure(command, clean_environment() | {"TENSORS": tensors}, folder)
                for path in sorted((folder / "out").rglob("*"), reverse=True):
                    path.unlink() if path.is_file() else path.rmdir()
                wall[tensors].append(took.wall)
                cpu[tensors].append(took.cpu)
                print(f"round {number + 1}: {took.wall:6.2f} s {took.cpu:6.2f} core-seconds  {tensors}", flush=True)
    for unit, seconds in (("s", wall), ("core-seconds", cpu)):
        without, with_it = (statistics.median(of_tensors) for of_tensors in seconds.values())
        print(f"median: {without:.2f} {unit} without, {with_it:.2f} with: {with_it / without:.3f} times as long")


def compare_variance(
    name: str, n_rows: int, hidden_size: int, spectrum: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    """Print how much less each direction of a random matrix explains than that of an exact decomposition."""
    gamma = np.random.default_rng(0).standard_normal((n_rows, hidden_size), np.float32)
    gamma *= np.sqrt(spectrum(np.arange(1.0, hidden_size + 1))).astype(np.float32)
    gamma -= gamma.mean(axis=0)
    begin = time.perf_counter()
    scale = scale_of(np.linalg.norm(gamma, axis=1).astype(np.float64))
    directions = principal_directions(lambda ids: gamma[ids.start : ids.stop], n_rows, hidden_size, scale)
    coordinates = Coordinates(directions, n_rows)
    coordinates.add(gamma)
    found = coordinates.finish().explained_variance
    middle = time.perf_counter()
    exact = np.linalg.eigvalsh((gamma.T @ gamma).astype(np.float64) / n_rows)[::-1][:3]
    end = time.perf_counter()
    less = " ".join(f"{(1 - share) * 100:6.2f} %" for share in found / exact)
    print(f"{name:<12} {less} less than exact; {middle - begin:.2f} s, exact {end - middle:.2f} s", flush=True)


if __name__ == "__main__":
    main()
