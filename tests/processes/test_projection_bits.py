"""The projection has the same bits in every process, whatever BLAS is there and however many threads it has."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.processes.test_covariance_bits import KERNELS, ROOT

PROGRAM = """
import hashlib, sys
import numpy as np
from job.geometry.projection import Coordinates, principal_directions
rows = np.load(sys.argv[1])
directions = principal_directions(lambda ids: rows[ids.start : ids.stop], *rows.shape, np.float32(1))
coordinates = Coordinates(directions, len(rows))
for first in range(0, len(rows), int(sys.argv[2])):
    coordinates.add(rows[first : first + int(sys.argv[2])])
found = coordinates.finish()
digest = hashlib.sha256()
for values in (found.coordinates, found.directions, found.explained_variance):
    digest.update(values.tobytes())
print(digest.hexdigest())
"""
LIMITED = {"NPY_DISABLE_CPU_FEATURES": "AVX512_SPR AVX512_ICL X86_V4 X86_V3"}
"""numpy then takes the loops that it has for the oldest processors."""


def test_it_has_the_same_bits_whatever_the_processor_and_the_number_of_threads(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((9000, 1000), np.float32) / np.arange(1, 1001, dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    found = set()
    for kernel, threads, rows_per_block, features in zip(
        KERNELS, ("1", "2", "2", "1"), ("9000", "100", "17", "512"), ({}, {}, LIMITED, LIMITED), strict=True
    ):
        environment = {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads, **features}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "rows.npy"), rows_per_block],
            env={**os.environ, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
