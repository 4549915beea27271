"""Measures the job beside what people would do without it, and prints one table of ratios.

    .venv/bin/python -m benchmarks.bench                                             what `make bench` runs
    .venv/bin/python -m benchmarks.bench --rows local http --gigabytes 0.8 --rounds 5
    .venv/bin/python -m benchmarks.bench --rows local --job before/entrypoint.py     this version beside another

The whole table is written to benchmarks/RESULTS.md; of a part of it, only what is printed remains.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine
from benchmarks.many import ManyRows
from benchmarks.measure import CommandFailed
from benchmarks.results import JOB, Results
from benchmarks.rows import SIZES, Case, LargeRows
from benchmarks.runner import Runner
from benchmarks.servers import ROOT, Servers
from benchmarks.table import page

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
ROWS = (*SIZES, "small", "requests")
MAX_GB_OF_ROUNDS = 4.0
"""Of a larger W there is one round."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="by default all")
    parser.add_argument("--gigabytes", nargs="+", type=float, help="sizes of W, for all rows that have one")
    parser.add_argument("--rounds", type=int, default=3, help=f"of a W of up to {MAX_GB_OF_ROUNDS:g} GB")
    parser.add_argument("--job", type=Path, action="append", default=[], help="another version's entrypoint.py")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    options = parser.parse_args()
    jobs = {JOB: ROOT / "entrypoint.py"} | {path.absolute().parent.name: path.absolute() for path in options.job}
    began, described = time.monotonic(), machine.describe(options.folder)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))).resolve()
        runner = Runner(folder, Servers(folder, stack))
        results = measure_all(runner, jobs, options.rows, options.gigabytes, options.rounds)
    versions = ", ".join(f"{name} {machine.commit(path.parent)}" for name, path in jobs.items())
    minutes = (time.monotonic() - began) / 60
    rounds = (
        "a single round"
        if options.rounds == 1
        else f"{options.rounds} rounds, one of a W above {MAX_GB_OF_ROUNDS:g} GB"
    )
    measured = f"{versions}; {rounds}; {minutes:.0f} minutes in all."
    text = page(results, described, measured)
    print(text)
    if results.failures:
        sys.exit("\n".join(results.failures))
    if options.rows == list(ROWS) and options.gigabytes is None:
        RESULTS.write_text(text)


def measure_all(
    runner: Runner, jobs: Mapping[str, Path], rows: Sequence[str], gigabytes: Sequence[float] | None, rounds: int
) -> Results:
    """Everything that was asked for, the sizes one after another, and of each size the rows in turn."""
    results = Results()
    small = ManyRows(runner, jobs, runner.folder)
    small.warm_up()
    for size in sorted({size for row in rows if row in SIZES for size in gigabytes or SIZES[row]}):
        of_size = [row for row in rows if row in SIZES and (gigabytes or size in SIZES[row])]
        if (free := shutil.disk_usage(runner.folder).free) < 2e9 * size:
            results.left_out.append(
                f"W of {size:g} GB: it needs twice the disk, and the machine had {free / 1e9:.0f} GB"
            )
            continue
        large = LargeRows.write(runner, jobs, size, of_size)
        n_rounds = rounds if size <= MAX_GB_OF_ROUNDS else 1
        run_in_turn(f"W of {size:g} GB", list(large.cases(of_size)), n_rounds, results, runner.folder)
        large.remove()
    run_in_turn("small models", list(small.cases(rows)), rounds, results, runner.folder)
    return results


def run_in_turn(group: str, cases: Sequence[Case], rounds: int, results: Results, folder: Path) -> None:
    """Run each case once a round, but for those that need more than the machine has."""
    fit = []
    for case in cases:
        memory, disk = machine.memory_nbytes("MemAvailable"), shutil.disk_usage(folder).free
        if case.memory_nbytes < memory and case.disk_nbytes < disk:
            fit.append(case)
        else:
            need = f"{case.memory_nbytes / 1e9:.0f} GB of memory and {case.disk_nbytes / 1e9:.0f} GB of disk"
            has = f"{memory / 1e9:.0f} and {disk / 1e9:.0f} GB"
            results.left_out.append(f"{group}, {case.title}: it needs {need}, and the machine had {has}")
    for number in range(rounds):
        for case in fit:
            where = f"{group}, round {number + 1} of {rounds}, {case.title}"
            try:
                for key, run in case.run():
                    results.runs[key].append(run)
                    figures = f"{run.wall:.2f} s, {run.cpu:.2f} core-s, {run.peak / 1e6:.0f} MB"
                    print(f"{where}: {key.route}: {figures}", file=sys.stderr)
            except CommandFailed as error:  # the other rows are worth their minutes
                print(f"{where}: {error}", file=sys.stderr)
                results.failures.append(f"{where}: {error}")


if __name__ == "__main__":
    main()
