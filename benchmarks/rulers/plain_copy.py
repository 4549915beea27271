"""What the same bytes cost without any thought: read W, write W and twice as much beside it, and wait for the disk.

python benchmarks/rulers/plain_copy.py FILE BEGIN END OUTPUT
"""

import os
import sys
from pathlib import Path

checkpoint, begin, end, output = sys.argv[1:]
folder = Path(output)
folder.mkdir(parents=True)
buffer = memoryview(bytearray(8 << 20))
with (
    Path(checkpoint).open("rb", buffering=0) as source,
    (folder / "once").open("wb", buffering=0) as once,
    (folder / "twice").open("wb", buffering=0) as twice,
):
    source.seek(int(begin))
    remaining = int(end) - int(begin)
    while remaining:
        nbytes = source.readinto(buffer[:remaining])
        remaining -= nbytes
        for target in (once, twice, twice):
            target.write(buffer[:nbytes])
    for target in (once, twice):
        os.fsync(target.fileno())
