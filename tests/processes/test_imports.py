"""What a process imports: only what it needs, since some libraries take a second."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]
LIBRARIES = frozenset(
    {
        *("torch", "transformers", "accelerate", "tokenizers", "gguf", "numpy", "numpy.ma"),
        *("httpx2", "huggingface_hub", "boto3", "prometheus_client", "pythonjsonlogger"),
        *("rich.progress", "rich.logging", "unicodedataplus", "sentencepiece"),
    }
)
"""Those that take long to import and that not every run needs."""

IMPORTED = """
import sys
import entrypoint
try:
    status = entrypoint.main({arguments!r})
except SystemExit as error:
    status = error.code
print("imported", *sorted({libraries!r} & sys.modules.keys()), file=sys.stderr)
sys.exit(status)
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    script = IMPORTED.format(arguments=list(arguments), libraries=LIBRARIES)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)


def imported(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()[1:]


def test_help_imports_none_of_the_libraries_that_take_long() -> None:
    assert imported(run("--help")) == []


@pytest.mark.parametrize(("case", "needed"), [("plan", []), ("published", []), ("survey", ["numpy"])])
def test_a_run_of_a_folder_imports_numpy_at_most_of_the_libraries_that_take_long(
    case: str, needed: list[str], tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]), n_tokens=40)
    arguments = [str(checkpoint), "--output", str(tmp_path / "out")]
    if case == "plan":
        arguments = ["plan", *arguments]
    elif case == "published":
        assert main(arguments) == 0
    assert imported(run(*arguments)) == needed


def test_neither_settings_nor_help_import_what_surveys() -> None:
    program = (
        "import sys\nfrom job.settings import read_settings\nread_settings(['a/b'])\n"
        "try: read_settings(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'numpy', 'huggingface_hub', 'boto3'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
