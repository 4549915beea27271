"""What a run may keep of the models that it is through with."""

import gc
import json
import tracemalloc
from pathlib import Path

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint


def test_a_run_through_many_models_takes_no_more_memory_than_one_through_few(tmp_path: Path) -> None:
    """A manifest of 4,000 tokens takes 1.5 MB here: four more models took 6 MB more, where all of them were kept."""
    pairs = [[row, row + 1] for row in range(0, 4000, 2)]
    models = [str(write_checkpoint(tmp_path / f"model-{number}", planted(4000, 4, pairs))) for number in range(6)]

    def peak(chosen: list[str]) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            assert main([*chosen, "--output", str(tmp_path / f"out-{len(chosen)}")]) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(models[:1])  # what is imported and cached at the first time
    assert peak(models) - peak(models[:2]) < 2_000_000


def test_holes_too_large_for_a_manifest_are_compared_by_the_published_tensor(tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "model", tmp_path / "out"
    for groups in ([list(range(30_000))], [list(range(1, 30_000)), [30_005, 30_007]]):
        write_checkpoint(checkpoint, planted(30_010, 8, groups))
        assert main([str(checkpoint), "--output", str(output)]) == 0
    manifest = json.loads((output / "local" / "model" / "latest.json").read_text())
    assert [hole["population"] for hole in manifest["black_holes"]] == [29_999, 2]
    assert sum(len(hole["tokens"]) for hole in manifest["black_holes"]) == 20_000
    assert [token["id"] for token in manifest["black_holes"][1]["tokens"]] == [30_005, 30_007]
    previous = manifest["previous"]
    assert (previous["joined"], previous["left"], previous["same_black_holes"]) == ([30_005, 30_007], [0], False)
    assert (previous["black_hole_tokens"], previous["n_joined"], previous["n_left"]) == (30_000, 2, 1)
