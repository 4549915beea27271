"""Zip files whose directory is made to cost much time or memory."""

import struct

import pytest

from tests.limits.limited import run_limited

FILE = "pytorch_model.bin"


def flooded(n_entries: int) -> bytes:
    """A zip that is nothing but directory."""
    record = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", *[0] * 8, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0)
    directory = b"".join(record[:42] + n.to_bytes(4, "little") + b"%06x" % n for n in range(n_entries))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, n_entries % 65536, n_entries % 65536, len(directory), 0, 0)
    return directory + end


READ = f"""
from job.checkpoints.checkpoint import Checkpoint, StoredFile
from job.checkpoints.head.headers import read_torch_save
from job.errors import ModelError
content = sys.stdin.buffer.read()
def fill(file, begin, buffer):
    buffer[:] = content[begin : begin + len(buffer)]
try:
    read_torch_save(Checkpoint("a/b", None, "c", "here", {{"{FILE}": StoredFile(len(content), "id")}}, fill), "{FILE}")
except ModelError as error:
    assert len(str(error)) < 1000
else:
    assert False
"""


@pytest.mark.parametrize("n_entries", [95_000, 2_000_000])
def test_no_directory_takes_long_or_much_memory(n_entries: int) -> None:
    run_limited(READ, flooded(n_entries))
