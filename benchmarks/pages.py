"""Measures how long the page of a model takes to be made, and what memory and bytes: for Qwen's vocabulary, as its
survey publishes it, with W's numbers made up.

    .venv/bin/python -m benchmarks.pages [FILE]

FILE: where to write the page, to look at it.
"""

import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Final, cast

import numpy as np
from safetensors.numpy import save_file

from benchmarks.tokens import FILES, QWEN_ROWS, published_holes
from job.manifest.schema import ArtifactEntry, Manifest
from job.report.pages.publish import make_page
from job.store.folder import FolderStore
from job.tokens.process import describe_in_process
from job.tokens.table import RowNumbers, write_table

FOLDER: Final = "org/model/0123456789abcdef0123456789abcdef01234567"
_HIDDEN_SIZE: Final = 2560


def main() -> None:
    """Print a line. The page is made in a process of its own, so that its memory is told from the preparation's."""
    if sys.argv[1:2] == ["--make"]:
        _make(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        _publish(output)
        subprocess.run([sys.executable, "-m", "benchmarks.pages", "--make", name], check=True)
        page = (output / FOLDER / "report.html").read_bytes()
        if sys.argv[1:]:
            Path(sys.argv[1]).write_bytes(page)


def _publish(output: Path) -> None:
    """Write what a survey publishes of the rows."""
    folder = output / FOLDER
    folder.mkdir(parents=True)
    file, as_file, _ = FILES["Qwen, tiktoken"]
    (tokenizer := output / "tokenizer").mkdir()
    (tokenizer / as_file).symlink_to(file)
    describe_in_process(tokenizer, None, QWEN_ROWS, output / "columns")
    rng, holes = np.random.default_rng(0), published_holes()
    # Real rows are clouds with a tail; those in one hole lie in one point.
    coordinates = rng.standard_normal((QWEN_ROWS, 3)).astype(np.float32) * rng.gamma(4, 0.25, (QWEN_ROWS, 1))
    first = np.unique(holes, return_index=True)[1]
    coordinates = np.where(holes[:, None] > 0, coordinates[first[holes]], coordinates).astype(np.float32)
    norm = np.linalg.norm(coordinates, axis=1) + np.float32(0.3)
    write_table(output / "columns", RowNumbers(norm, norm * np.float32(0.9), holes), folder / "tokens.parquet", {})
    save_file({"coordinates": coordinates}, folder / "projection.safetensors")
    centroids = rng.standard_normal((int(holes.max()), _HIDDEN_SIZE)).astype(np.float32)
    save_file(
        {"black_hole_centroids": centroids, "black_hole_id": holes.astype(np.uint8)}, folder / "black_holes.safetensors"
    )


def _make(output: Path) -> None:
    manifest = _manifest(output)
    import job.report.pages.model_page  # noqa: F401 - what is imported is in memory at the end of a survey

    before, begin, cpu = _peak(), time.perf_counter(), time.process_time()
    if not make_page(FolderStore(output), FOLDER, manifest):
        sys.exit("the page was not made")
    seconds, cpu, memory = time.perf_counter() - begin, time.process_time() - cpu, _peak() - before
    page = (output / FOLDER / "report.html").read_bytes()
    print(
        f"{QWEN_ROWS:,} rows: made in {seconds:.2f} s ({cpu:.2f} s of a processor) with "
        f"{memory / 1e6:.0f} MB of memory; {len(page) / 1e6:.2f} MB, "
        f"{len(zlib.compress(page)) / 1e6:.2f} MB when a server compresses it"
    )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _manifest(output: Path) -> Manifest:
    """A manifest of what lies there."""
    import hashlib

    def entry(name: str) -> ArtifactEntry:
        content = (output / FOLDER / name).read_bytes()
        return {"key": f"{FOLDER}/{name}", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    holes = published_holes()
    populations = np.bincount(holes)[1:].tolist()
    counts = {"unique_rows": QWEN_ROWS - sum(populations) + len(populations), "duplicate_rows": 2_087}
    counts |= {"black_holes": len(populations), "black_hole_tokens": sum(populations)}
    norms = {"mean": 1.0, "std": 0.2, "min": 0.3, "median": 1.0, "max": 2.0}
    manifest = {
        "schema_version": 1,
        "model": "org/model",
        "commit": FOLDER.rpartition("/")[2],
        "tensor": {"name": "lm_head.weight", "reason": "", "chosen_by_user": False, "tied": False, "dtype": "BF16"}
        | {"shape": [QWEN_ROWS, _HIDDEN_SIZE], "nbytes": 2 * QWEN_ROWS * _HIDDEN_SIZE, "file": "model.safetensors"}
        | {"begin": 0, "end": 2 * QWEN_ROWS * _HIDDEN_SIZE, "content_id": "0" * 64},
        "w_sha256": "0" * 64,
        "statistics": counts
        | {"share_of_rows": sum(populations) / QWEN_ROWS, "largest": max(populations), "smallest": min(populations)}
        | {"mean_population": float(np.mean(populations)), "median_population": float(np.median(populations))}
        | {"distribution": {str(n): populations.count(n) for n in sorted(set(populations), reverse=True)}}
        | {"by_value": {**counts, "agrees": True}, "rows_with_negative_zero": 0, "rows_with_nan": 0}
        | {"rows_with_infinity": 0, "mu": {**norms, "norm": 0.3}, "row_norm": norms, "black_hole_row_norm": norms}
        | {"gamma_centered_norm": norms, "gamma_centered_norm_of_first_rows": [1.0] * 10},
        "black_holes": [
            {"id": number, "population": population, "row_norm": 1.0, "tokens": []}
            for number, population in enumerate(populations, 1)
        ],
        "artifacts": {
            name: entry(f"{name}.{'parquet' if name == 'tokens' else 'safetensors'}")
            for name in ("tokens", "projection", "black_holes")
        },
        "pages": {"report": f"{FOLDER}/report.md"},
        "tokenizer": {"files": {}, "kind": "tiktoken", "n_tokens": 151_643, "n_ids": 151_643, "rows_beyond": 293},
        "checkpoint": {"nbytes": 8_000_000_000, "bytes_fetched": 778_000_000},
        "warnings": [],
        "published_at": "2026-01-01T00:00:00+00:00",
    }
    return cast("Manifest", manifest)


if __name__ == "__main__":
    main()
