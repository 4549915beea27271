"""Peak memory and speed of the whole job, for a small and a large W, beside the memory that its plan states.

    .venv/bin/python -m benchmarks.memory                 W of 0.8 and of 4 GB, from a Hub on this machine to a folder
    .venv/bin/python -m benchmarks.memory --store s3      … to an S3 server on this machine

Needs free disk of five times the larger W. Memory is the kernel's count of the job's largest resident set, imports
included, and the largest sum over the job and its children (of PSS, which counts shared pages once). The Hub and the
S3 server are other processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice, product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import tokenizers
from tokenizers.models import BPE

from job.store.safetensors_file import StoredTensor, header
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import SeaweedServer

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.05
N_ROWS = 156_250
"""W grows by its columns: 156,250 rows of 2,560 BF16 columns have 0.8 GB, of 12,800 columns 4 GB."""


@dataclass(frozen=True)
class Measured:
    """One run of the job."""

    w_nbytes: int
    peak_rss: int
    """Bytes of the job's own process."""
    peak_of_all: int
    """Bytes of it and its children together, as far as samples tell."""
    stated: int
    """Bytes that the plan states."""
    seconds: float


def write_checkpoint(folder: Path, n_rows: int, hidden_size: int) -> None:
    """A tied Gemma 2 checkpoint that is nothing but its BF16 embedding, with a token and a merge for each row, and one
    hole of 250 rows.

    Its config does not say that it is tied, so that the job has to ask the model class, the costliest way.
    """
    folder.mkdir(parents=True)
    config = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": n_rows}
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": hidden_size}))
    tokens = chain.from_iterable(product(ascii_lowercase, repeat=length) for length in range(1, 6))
    vocabulary = {"".join(letters): index for index, letters in enumerate(islice(tokens, n_rows))}
    merges = [(token[0], token[1:]) for token in vocabulary if len(token) > 1]
    tokenizers.Tokenizer(BPE(vocabulary, merges)).save(str(folder / "tokenizer.json"))
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header([StoredTensor("model.embed_tokens.weight", "BF16", (n_rows, hidden_size))], {}))
        # A few rows at a time: the kernel counts this process's memory towards the job's, which is forked from it.
        for first in range(0, n_rows, 250):
            rows = random.standard_normal((min(250, n_rows - first), hidden_size), np.float32)
            if first == 0:
                rows[:] = rows[0]
            file.write((rows.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def run_job(model: str, output: str, environment: dict[str, str]) -> tuple[int, int, float]:
    """Peak bytes of the job's process, and of it and its children, and seconds of one run."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "entrypoint.py"), model, "--output", output], env=os.environ | environment
    )
    peak_of_all = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        peak_of_all = max(peak_of_all, proportional_nbytes(process.pid))
        time.sleep(SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the job ended with {process.returncode}")
    return usage.ru_maxrss * 1024, peak_of_all, time.monotonic() - began


def proportional_nbytes(pid: int) -> int:
    """The memory of a process and its children, with a share of each page that several have."""
    total = 0
    with suppress(OSError):  # it may end meanwhile
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total = 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(proportional_nbytes(int(child)) for child in (task / "children").read_text().split())
    return total


def stated_nbytes(model: str, output: str, environment: dict[str, str]) -> int:
    """The memory that a plan states for the survey of a model."""
    command = [sys.executable, str(ROOT / "entrypoint.py"), "plan", model, "--output", output, "--format", "json"]
    plan = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True).stdout
    memory: int = json.loads(plan)["models"][0]["need"]["memory_nbytes"]
    return memory


def main() -> None:
    """Run the job for each size, and print the sizes side by side."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.8, 4.0])
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--store", choices=["folder", "s3"], default="folder")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    options = parser.parse_args()
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        hub = stack.enter_context(LoopbackHub())
        environment = {"HF_ENDPOINT": hub.endpoint, "SCRATCH": str(folder)}
        output = str(folder / "surveys")
        if options.store == "s3":
            server = SeaweedServer(folder / "seaweed")
            server.start()
            stack.callback(server.kill)
            server.client().create_bucket(Bucket="surveys")
            environment |= server.environment()
            output = "s3://surveys"
        for gigabytes in options.gigabytes:
            hidden_size = round(gigabytes * 1e9 / options.rows / 2)
            name = f"benchmark/{hidden_size}-columns"
            write_checkpoint(folder / name, options.rows, hidden_size)
            hub.add(name, folder / name)
            stated = stated_nbytes(name, output, environment)
            own, of_all, seconds = run_job(name, output, environment)
            results.append(Measured(options.rows * hidden_size * 2, own, of_all, stated, seconds))
    print(f"\n{'W':>10} {'peak RSS':>10} {'with children':>14} {'stated':>10} {'seconds':>8} {'of W':>10}")
    for result in results:
        sizes = f"{result.peak_rss / 1e6:>7.0f} MB {result.peak_of_all / 1e6:>11.0f} MB {result.stated / 1e6:>7.0f} MB"
        rate = f"{result.seconds:>8.1f} {result.w_nbytes / result.seconds / 1e6:>5.0f} MB/s"
        print(f"{result.w_nbytes / 1e9:>7.2f} GB {sizes} {rate}")
    print(f"largest peak / smallest peak: {max(r.peak_rss for r in results) / min(r.peak_rss for r in results):.3f}")


if __name__ == "__main__":
    main()
