"""What a person sees at a terminal while the job runs, and what is left there when it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.checkpoints import planted, write_checkpoint

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, runpy, signal, sys
import job.ending, job.monitor.metrics
job.ending.GRACE_SECONDS = 2
counted = job.monitor.metrics.Metrics.count_chunks
def count_chunks(self, chunks, nbytes):
    for chunk in counted(self, chunks, nbytes):
        yield chunk
        {midway}
job.monitor.metrics.Metrics.count_chunks = count_chunks
sys.argv[0] = "entrypoint.py"
runpy.run_path("entrypoint.py", run_name="__main__")
"""

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ERASE_LINE = "\x1b[2K"
BAR = "[━╸╺]+"


def seen(width: int, midway: str, *models: Path) -> tuple[int, str]:
    """The exit status of a run at a terminal of this width, and all that it prints there."""
    controller, terminal = os.openpty()
    command = [sys.executable, "-c", PROGRAM.format(midway=midway), *map(str, models)]
    environment = {**os.environ, "COLUMNS": str(width), "LINES": "40", "TERM": "xterm-256color"}
    environment |= {"OUTPUT": str(models[0].parent / "out")}
    printed = b""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        try:
            while chunk := os.read(controller, 1 << 16):
                printed += chunk
        except OSError:  # EIO: nobody has the terminal open any more
            pass
        os.close(controller)
    return process.returncode, printed.decode()


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    names = ("short", "a-very-long-name-of-a-model-with-128-experts-and-its-instructions-BF16", "Ωλ-漢字")
    return [write_checkpoint(tmp_path / name, planted(40, 8, [[1, 2]]), n_tokens=20) for name in names]


def lines(printed: str) -> list[str]:
    """The lines as they are drawn, without colours and cursors. A bar is drawn over the line before it."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed))


@pytest.mark.parametrize("width", [80, 120])
def test_bars_and_the_summary_fit_the_terminal_and_the_bars_are_gone_at_the_end(width: int, models: list[Path]) -> None:
    status, printed = seen(width, "pass", *models)
    assert status == 0
    bars = [line for line in lines(printed) if re.search(BAR, line)]
    assert len(bars) >= 2 * len(models)
    for line in bars:
        assert cell_len(line.rstrip()) <= width
        assert {len(bar) for bar in re.findall(BAR, line)} == {width // 4}
        assert re.search(r" (W|gamma_centered) [━╸╺]+ [\d.]+/[\d.]+ \w+ ", line)
    summary = lines(printed[printed.rindex("rows × columns") :])
    assert sum("surveyed" in line for line in summary) >= len(models)
    assert sum("40 × 8" in line for line in summary) == len(models)
    after_the_bars = printed[re.search(rf".*{BAR}", printed, re.DOTALL).end() :]  # type: ignore[union-attr]
    assert ERASE_LINE in after_the_bars
    assert printed.rindex(SHOW) > printed.rindex(HIDE)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("then", ["", "; __import__('time').sleep(60)"], ids=["at-once", "while-cleaning-up-hangs"])
def test_a_signal_leaves_no_bar_and_shows_the_cursor(number: str, then: str, models: list[Path]) -> None:
    midway = f"try: os.kill(os.getpid(), signal.{number})\n        finally: pass{then}"
    status, printed = seen(80, midway, models[0])
    assert status == {"SIGINT": 130, "SIGTERM": 143}[number]
    assert re.search(BAR, printed)
    after_the_bars = printed[re.search(rf".*{BAR}", printed, re.DOTALL).end() :]  # type: ignore[union-attr]
    assert ERASE_LINE in after_the_bars
    assert printed.rindex(SHOW) > printed.rindex(HIDE)
    assert "Traceback" not in printed


def test_tiny_models_take_few_lines_without_a_terminal(models: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "entrypoint.py", *map(str, models), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stderr.splitlines()) <= 4 * len(models) + len(["the index"])
    assert " %, " not in done.stderr
