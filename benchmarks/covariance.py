"""What the covariance costs: seconds, core-seconds and peak memory of a survey with it and without, and its plan.

.venv/bin/python -m benchmarks.covariance             with W of 0.8 GB, 151,936 rows and 2,560 columns
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.checkpoints import write_large
from benchmarks.measure import measure
from benchmarks.runner import clean_environment

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print a line for a survey without the covariance, and one for each number of threads with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=0.8, help="about the size of W, which grows by its columns")
    parser.add_argument("--threads", nargs="+", default=["1", "2"], help="values of OPENBLAS_NUM_THREADS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covariance-") as name:
        folder = Path(name)
        model = write_large(folder / "model", options.gigabytes).folder
        run = [sys.executable, str(ROOT / "entrypoint.py")]
        for tensors, threads in [("mu", "1"), *(("mu,covariance", threads) for threads in options.threads)]:
            environment = clean_environment() | {"TENSORS": tensors, "OPENBLAS_NUM_THREADS": threads}
            output = ["--output", str(folder / f"{tensors} {threads}")]
            measure([*run, "plan", str(model), "--format", "json", *output], environment, folder)
            need = json.loads((folder / "printed").read_text())["models"][0]["need"]
            took = measure([*run, str(model), *output], environment, folder)
            print(
                f"{tensors:<14} {threads} threads: {took.wall:7.1f} s {took.cpu:7.1f} core-seconds "
                f"{took.peak / 1e6:6.0f} MB; planned {need['memory_nbytes'] / 1e6:,.0f} MB of all processes, "
                f"{need['output_nbytes'] / 1e6:,.1f} MB of output, {need['covariance_flop'] / 1e12:.2f} Tflop",
                flush=True,
            )


if __name__ == "__main__":
    main()
