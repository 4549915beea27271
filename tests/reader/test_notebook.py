"""The example notebook and the README's lines, run on surveys that the job makes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from entrypoint import main
from examples import prepare
from tests.reader.conftest import Publish

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebooks" / "survey.ipynb"


def printed(notebook: Any) -> list[str]:
    """What each cell prints."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.text for output in outputs if output.output_type == "stream"]


def pictures(notebook: Any) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def execute(place: Path, model: str, monkeypatch: pytest.MonkeyPatch, work: Path) -> Any:
    """The notebook, executed with other parameters."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = re.sub(r'(?m)^PLACE = "[^"]*"', f"PLACE = {str(place)!r}", parameters.source)
    parameters.source = re.sub(r'(?m)^MODEL = "[^"]*"', f"MODEL = {model!r}", parameters.source)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "reader"))
    monkeypatch.setenv("IPYTHONDIR", str(work / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(work / "matplotlib"))
    resources = {"metadata": {"path": str(work)}}
    return NotebookClient(notebook, timeout=240, coalesce_streams=True, resources=resources).execute()


@pytest.mark.filterwarnings("default")  # of Jupyter's own start
def test_the_notebook_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare.main()
    checkpoint = prepare.CHECKPOINTS / "SmolLM2-135M-Instruct"
    assert main([str(checkpoint), "--output", str(tmp_path / "surveys")]) == 0
    shown = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    executed = execute(tmp_path / "surveys", f"local/{checkpoint.name}", monkeypatch, tmp_path)
    assert printed(executed) == printed(shown)
    assert len(pictures(executed)) == len(pictures(shown)) == 3


@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_on_a_model_without_black_holes(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder = publish("model", torch.randn(300, 16, generator=torch.Generator().manual_seed(0)))
    executed = execute(folder, "local/model", monkeypatch, tmp_path)
    assert "Duplicated tokens: 0\n" in "".join(printed(executed))


def test_the_notebook_is_small_and_shows_no_path_of_a_machine() -> None:
    content = NOTEBOOK.read_text("utf-8")
    assert len(content.encode()) < 300_000
    assert not re.search(r'["\s](/tmp|/home|/root|/work|/Users)/', content)
    assert all(
        cell["outputs"] or "import" in "".join(cell["source"]) or cell["metadata"].get("tags")
        for cell in json.loads(content)["cells"]
        if cell["cell_type"] == "code"
    )


def test_the_readmes_lines_run(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "reader" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    place = os.fspath(publish())
    code = code.replace("s3://bucket/surveys", place).replace("Qwen/Qwen3-4B-Instruct-2507", "local/model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code.replace("[0, 7, 42]", "[0, 7, 21]"), "README.md", "exec"), names)  # noqa: S102 - our own lines
    assert (tmp_path / "tensors" / "model.safetensors").exists()
    assert names["tokens"]["id"].tolist() == list(range(40))
