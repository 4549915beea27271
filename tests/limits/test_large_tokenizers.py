"""A tokenizer of 100 MB where a survey has 1 GiB of memory: the survey is whole, with names or the reason for none."""

import json
import subprocess
import sys
from pathlib import Path

from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]
N_TOKENS = 130_000
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
import entrypoint
sys.exit(entrypoint.main(sys.argv[1:]))
"""


def test_a_survey_with_a_tokenizer_of_100_mb_and_1_gib_of_memory_is_whole(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", planted(N_TOKENS, 8, [[3, 38], [10, 11]]))
    vocabulary = {f"t{id}{'x' * 760}": id for id in range(N_TOKENS)}
    names = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": next(iter(vocabulary))}
    (folder / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model, **dict.fromkeys(names)})
    )
    assert (folder / "tokenizer.json").stat().st_size > 100_000_000
    command = [sys.executable, "-c", LIMITED, str(folder), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out" / "local" / "model").glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    holes = [[token["id"] for token in hole["tokens"]] for hole in manifest["black_holes"]]
    assert holes == [[3, 38], [10, 11]]
    pieces = [token["piece"] for hole in manifest["black_holes"] for token in hole["tokens"]]
    if "unusable" in manifest["tokenizer"]:
        assert "memory" in manifest["tokenizer"]["unusable"]
        assert pieces == [None] * 4
    else:
        assert [piece[:5].rstrip("x") for piece in pieces] == ["t3", "t38", "t10", "t11"]
