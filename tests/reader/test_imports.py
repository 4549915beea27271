"""What importing the reader imports, and that it can be installed by itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reader.conftest import Publish

READER = Path(__file__).parents[2] / "reader"
LATER = {"torch", "safetensors", "pandas", "polars", "pyarrow", "boto3", "botocore", "ml_dtypes", "job"}
MODULES = 'import json, sys; print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))'


def modules_after(code: str, *, path: Path = READER) -> set[str]:
    """The modules that are imported when this code ends, without what the interpreter starts with."""
    environment = {**os.environ, "PYTHONPATH": str(path)}

    def run(program: str) -> set[str]:
        answer = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=path
        )
        return set(json.loads(answer.stdout.splitlines()[-1]))

    return run(f"{code}\n{MODULES}") - run(MODULES)


def test_importing_imports_nothing_that_is_not_pythons_own() -> None:
    code = "from black_hole_survey import open_surveys\nopen_surveys('surveys'), open_surveys('s3://bucket/surveys')"
    assert modules_after(code) - set(sys.stdlib_module_names) == {"black_hole_survey"}


def test_reading_as_numpy_imports_no_other_library(publish: Publish) -> None:
    code = (
        "from black_hole_survey import open_surveys\n"
        f"survey = open_surveys({str(publish())!r}, framework='numpy')['local/model']\n"
        "survey.mu, survey.gamma_centered, survey.black_hole_id, survey.rows([1], of='gamma_centered'), survey.verify()"
    )
    assert not modules_after(code) & LATER


@pytest.mark.parametrize(
    ("ask", "imported"), [("survey.W", "torch"), ("surveys.table('polars')", "polars"), ("surveys.table()", "pandas")]
)
def test_a_library_is_imported_when_it_is_asked_for(publish: Publish, ask: str, imported: str) -> None:
    code = f"from black_hole_survey import open_surveys\nsurveys = open_surveys({str(publish())!r})\n"
    assert imported not in modules_after(code + "survey = surveys['local/model']")
    assert imported in modules_after(code + f"survey = surveys['local/model']\n{ask}")


def test_the_package_installs_by_itself_with_its_types(tmp_path: Path) -> None:
    shutil.copytree(READER, tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    target = tmp_path / "installed"
    subprocess.run([*pip, "--no-build-isolation", "--target", target, tmp_path / "source"], check=True)
    assert (target / "black_hole_survey" / "py.typed").is_file()
    assert modules_after("import black_hole_survey", path=target) >= {"black_hole_survey"}
    (metadata,) = target.glob("*.dist-info/METADATA")
    lines = metadata.read_text().splitlines()
    assert "Name: black-hole-survey-reader" in lines
    assert [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line] == [
        "Requires-Dist: numpy>=1.26"
    ]


def test_the_job_does_not_import_the_reader_and_the_reader_not_the_job() -> None:
    root = READER.parent
    job = "".join(path.read_text() for path in [root / "entrypoint.py", *(root / "job").rglob("*.py")])
    reader = "".join(path.read_text() for path in READER.rglob("*.py"))
    assert not re.search(r"^ *(from|import) black_hole_survey\b", job, re.MULTILINE)
    assert not re.search(r"^ *(from|import) job\b", reader, re.MULTILINE)
