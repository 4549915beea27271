"""Logs: one line for each event, whoever logs it; and one place that sets levels and handlers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]

SET_UP = """
import logging, sys
from rich.console import Console
from job.logs import LEVELS, set_up_logging
from job.monitor.current import CurrentStage
def set_up(log_format):
    set_up_logging(log_format, Console(stderr=True), CurrentStage("org/name", "find"), {})
"""

WARN = """
import huggingface_hub, transformers
from transformers.utils.logging import get_logger
get_logger("transformers.tokenization_utils_base").warning("of a\\ntokenizer")
transformers.logging.warning_once(get_logger("transformers"), "of all")
logging.getLogger("huggingface_hub.hf_api").warning("of the Hub")
logging.getLogger("job.survey").info("of the job")
"""

EVENTS = ["of a\ntokenizer", "of all", "of the Hub", "of the job"]


def logged(program: str, monkeypatch: pytest.MonkeyPatch | None = None, ci: str | None = None) -> list[str]:
    """The lines that a program writes on standard error."""
    if monkeypatch:
        monkeypatch.setenv("CI", ci) if ci else monkeypatch.delenv("CI", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", SET_UP + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


SET_UP_WHEN = {
    "before-the-libraries-are-imported": "set_up({0!r})\n" + WARN,
    "after-the-libraries-are-imported": "import huggingface_hub, transformers\nset_up({0!r})\n" + WARN,
    "twice": "set_up({0!r})\nset_up({0!r})\n" + WARN,
}


@pytest.mark.parametrize("ci", [None, "true"], ids=["", "CI"])  # with CI set, transformers logs otherwise
@pytest.mark.parametrize("program", SET_UP_WHEN.values(), ids=SET_UP_WHEN)
def test_what_libraries_warn_of_is_one_line_of_text_each(
    program: str, ci: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = logged(program.format("text"), monkeypatch, ci)
    levels_and_texts = [re.sub(r"^\S+ \S+ ", "", line) for line in lines]
    assert levels_and_texts == [
        r"WARNING of a\ntokenizer",
        "WARNING of all",
        "WARNING of the Hub",
        "INFO of the job",
    ]


@pytest.mark.parametrize("program", SET_UP_WHEN.values(), ids=SET_UP_WHEN)
def test_what_libraries_warn_of_is_one_object_of_json_each(program: str) -> None:
    events = [json.loads(line) for line in logged(program.format("json"))]
    assert [event["message"] for event in events] == EVENTS
    assert {(event["model"], event["stage"]) for event in events} == {("org/name", "find")}


CHATTER = """
from job.checkpoints.head.architecture import ask_model_class
set_up("text")
llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
odd = {"pad_token_id": -5, "rope_scaling": {"type": "dynamic", "factor": 0.2}}
ask_model_class({**llama, **odd, "num_labels": 5, "id2label": {"0": "x"}}, [])
ask_model_class({"architectures": ["BertLMHeadModel"], "model_type": "bert", "num_hidden_layers": 1}, [])
logging.getLogger("job").info("that is all")
"""


def test_what_transformers_thinks_of_a_config_is_not_logged() -> None:
    (line,) = logged(CHATTER)
    assert "that is all" in line


def test_addresses_of_requests_are_not_logged_even_where_all_else_is() -> None:
    program = """
set_up("text")
logging.getLogger().setLevel(logging.DEBUG)
for name in ("httpx2", "httpcore2.connection"):
    logging.getLogger(name).info("GET https://host/file?Signature=secret")
    logging.getLogger(name).warning("of a connection")
"""
    assert [line.split(maxsplit=3)[3] for line in logged(program)] == ["of a connection"] * 2


def test_logging_is_set_up_without_importing_the_libraries_it_is_set_up_for() -> None:
    program = """
set_up("json")
assert not {"torch", "transformers", "huggingface_hub", "httpx2"} & sys.modules.keys()
"""
    assert logged(program) == []


def test_a_plan_from_names_alone_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(40, 8, [[1, 2]]))
    arguments = ["plan", str(checkpoint), "--output", str(tmp_path / "out")]
    program = f"""
import entrypoint
assert entrypoint.main({arguments!r}) == 0
assert not {{"torch", "transformers"}} & sys.modules.keys()
"""
    assert all("Error" not in line for line in logged(program))
