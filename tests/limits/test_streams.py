"""What a stream of chunks holds in memory."""

import os
import subprocess
import sys

MEASURED = """
import resource, sys
from job.checkpoints.transport.parallel import stream_range

CHUNK = 4 << 20

def fill(begin, chunk):
    chunk[:] = bytes(len(chunk))

def peak_after(chunks):
    for chunk in stream_range(fill, 0, chunks * CHUNK, chunk_nbytes=CHUNK, connections=4):
        assert len(chunk) == CHUNK
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak_after(0)
first = peak_after(40)
print((first - before) // CHUNK, (peak_after(800) - before) // CHUNK)
"""


def test_memory_does_not_grow_with_the_length_of_the_stream() -> None:
    # glibc returns a freed chunk to the system at once, so that what the kernel counts is what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    run = subprocess.run([sys.executable, "-c", MEASURED], env=environment, capture_output=True, check=True, text=True)
    short, long = map(int, run.stdout.split())
    # Four, each with the zeros that ``fill`` above makes for it, and one that the reader holds.
    assert short <= 9
    assert long <= short + 1
