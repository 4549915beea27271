"""What a run may keep of the models that it is through with."""

import gc
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
