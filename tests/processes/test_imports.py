"""What a process imports: torch and transformers only where they are needed, since they take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]
IMPORTED = """
import sys
import entrypoint
try:
    status = entrypoint.main({arguments!r})
except SystemExit as error:
    status = error.code
print("imported", *sorted({{"torch", "transformers", "boto3"}} & sys.modules.keys()), file=sys.stderr)
sys.exit(status)
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    script = IMPORTED.format(arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("case", ["help", "plan", "published"])
def test_help_a_plan_and_a_run_with_nothing_to_do_import_no_torch_and_no_transformers(
    case: str, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]), n_tokens=40)
    arguments = [str(checkpoint), "--output", str(tmp_path / "out")]
    if case == "help":
        arguments = ["--help"]
    elif case == "plan":
        arguments = ["plan", *arguments]
    else:
        assert main(arguments) == 0
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "imported"


def test_neither_settings_nor_help_import_what_surveys() -> None:
    program = (
        "import sys\nfrom job.settings import read_settings\nread_settings(['a/b'])\n"
        "try: read_settings(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'numpy', 'huggingface_hub', 'boto3'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
