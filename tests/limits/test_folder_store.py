"""What is left in a folder where a file would exceed the system's limit."""

import resource
import subprocess
import sys
from pathlib import Path

LIMITED = """
import sys
from pathlib import Path
from job.errors import ConfigError
from job.store.folder import FolderStore
try:
    FolderStore(Path(sys.argv[1])).write_stream("org/W", (bytes(1 << 20) for _ in range(8)), 8 << 20)
except ConfigError as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_short_midway_leaves_nothing(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 19, 5 << 19))  # two chunks and a half

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
