"""The covariance has the same bits in every process, whatever BLAS computes it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PROGRAM = """
import hashlib, sys
import numpy as np
from job.geometry.covariance import Covariance
rows = np.load(sys.argv[1])
covariance = Covariance(rows.mean(axis=0).astype(np.float32))
covariance.add(rows)
print(hashlib.sha256(covariance.finish()).hexdigest(), hashlib.sha256(rows.T @ rows).hexdigest())
"""
KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell")
"""Of OpenBLAS, from that of the oldest processor on; each sums in an order of its own."""


def test_it_has_the_same_bits_whatever_the_processor_and_the_number_of_threads(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((3000, 300)))
    found, products = set(), set()
    for kernel in KERNELS:
        for threads in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(tmp_path / "rows.npy")],
                env={**os.environ, "OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            covariance, product = done.stdout.split()
            found.add(covariance)
            products.add(product)
    assert len(found) == 1
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        assert len(products) > 1, "a plain product has the same bits for all kernels, so this test shows nothing"
