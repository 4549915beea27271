"""How a process ends while its fetches hang."""

import subprocess
import sys
import time

STALLED = """
import signal, sys, time
from job.checkpoints.transport.parallel import stream_range
from job.errors import Terminated

def terminate(number, frame):
    raise Terminated

def fill(begin, chunk):
    time.sleep(600)

signal.signal(signal.SIGTERM, terminate)
print("reading", flush=True)
try:
    list(stream_range(fill, 0, 300, chunk_nbytes=100, connections=3))
except Terminated:
    sys.exit(Terminated.exit_status)
"""


def test_a_process_ends_at_once_although_its_fetches_are_stalled() -> None:
    with subprocess.Popen([sys.executable, "-c", STALLED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        time.sleep(0.2)
        process.terminate()
        try:
            assert process.wait(timeout=5) == 143
        finally:
            process.kill()
