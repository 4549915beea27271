"""What fills the image: its size, and the largest things in it.

.venv/bin/python -m benchmarks.image                  after `make image`
"""

import json
import subprocess

from tests.container.engine import IMAGE, engine

MEASURE = """
import json, sys
from pathlib import Path

def nbytes(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())

(packages,) = Path("/venv/lib").glob("python3*/site-packages")
sizes = {path.name: nbytes(path) for path in packages.iterdir()}
json.dump({"packages": sizes, "job": nbytes(Path("/app"))}, sys.stdout)
"""
SHOWN = 9


def main() -> None:
    """Print sizes in MB, the largest first."""
    inspect = [*engine(), "image", "inspect", IMAGE, "--format", "{{.Size}}"]
    total = int(subprocess.run(inspect, capture_output=True, check=True).stdout)
    run = [*engine(), "run", "--rm", "--network", "none", "--entrypoint", "python", IMAGE, "-c", MEASURE]
    found = json.loads(subprocess.run(run, capture_output=True, check=True).stdout)
    packages: dict[str, int] = found["packages"]
    largest = sorted(packages, key=lambda name: -packages[name])[:SHOWN]
    rows = {name: packages[name] for name in largest}
    rows[f"{len(packages) - SHOWN} smaller packages"] = sum(packages.values()) - sum(rows.values())
    rows["the job"] = found["job"]
    rows["the base image, Python included"] = total - sum(rows.values())
    for name, size in {**rows, IMAGE: total}.items():
        print(f"{size / 1e6:7.1f} MB  {name}")


if __name__ == "__main__":
    main()
