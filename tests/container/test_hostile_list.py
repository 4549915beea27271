"""A worker of one gigabyte goes through hostile checkpoints with sound ones between them."""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests import hostile
from tests.checkpoints import planted, write_checkpoint
from tests.container.engine import SCRATCH, Container, writable

WATCHED = """
import resource, subprocess, sys
from pathlib import Path
status = subprocess.run([sys.executable, "/app/entrypoint.py", *sys.argv[1:]]).returncode
print("PEAK", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
groups = [Path("/sys/fs/cgroup") / name for name in ("memory.events", "memory/memory.oom_control")]
lines = [line for path in groups if path.exists() for line in path.read_text().splitlines()]
print("OOM", *(line for line in lines if line.startswith("oom_kill ")))
sys.exit(status)
"""


def tied(folder: Path) -> Path:
    """A sound model whose class has to be asked."""
    folder.mkdir(parents=True)
    config = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": 1500, "hidden_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"model.embed_tokens.weight": planted(1500, 64, [[3, 5]])}, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    return folder


def test_each_hostile_checkpoint_costs_itself_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, output, scratch = tmp_path / "models", writable(tmp_path / "surveys"), writable(tmp_path / "scratch")
    sound = []
    for number, make in enumerate([*hostile.REFUSED, *hostile.SURVEYED]):
        (models / make.__name__).mkdir(parents=True)
        make(models / make.__name__)
        name = f"sound_{number}"
        if number % 3 == 1:
            tied(models / name)
        else:
            write_checkpoint(models / name, planted(1500, 64, [[3, 5]]), n_tokens=1500)
        sound.append(name)
    for path in models.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    order = [f"/models/{name}" for pair in zip(made_names(), sound, strict=True) for name in pair]
    container = Container(
        {"SCRATCH_LIMIT": str(hostile.SCRATCH_LIMIT), "LOG_FORMAT": "json"},
        {SCRATCH: scratch, "/surveys": output, "/models:ro": models},
        options=("--entrypoint", "python"),
    )
    done = container.run("-c", WATCHED, *order)
    log = done.stdout + done.stderr
    assert done.returncode == 65, log
    failures = dict(re.findall(r"/models/(\w+): failed: (\w+):", log))
    assert failures == {make.__name__: kind for make, kind in hostile.REFUSED.items()}, log
    surveyed = {path.parent.name for path in output.rglob("latest.json")}
    assert surveyed == {*sound, *(make.__name__ for make in hostile.SURVEYED)}, log
    (peak,) = re.findall(r"^PEAK (\d+)$", done.stdout, re.MULTILINE)
    (killed,) = re.findall(r"^OOM.*$", done.stdout, re.MULTILINE)
    assert not re.search(r"oom_kill [1-9]", killed)
    assert int(peak) < 900_000_000
    with capsys.disabled():
        print(  # noqa: T201 - what the test is to show
            f"\n{len(order)} models in 1 GiB: the largest process had {int(peak) / 1e6:.0f} MB at its peak; {killed}"
        )


def made_names() -> list[str]:
    return [make.__name__ for make in (*hostile.REFUSED, *hostile.SURVEYED)]
