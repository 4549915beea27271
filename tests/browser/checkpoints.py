"""Checkpoints whose surveys show pages at their extremes: hostile texts, very many rows, very many holes, none."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import tokenizers
from tokenizers.models import WordLevel

from tests.checkpoints import planted, write_checkpoint

Maker: TypeAlias = Callable[[Path], Path]
"""Writes a checkpoint into a folder."""
SMOLLM2: Final = Path(__file__).parents[2] / "examples" / "checkpoints" / "SmolLM2-135M-Instruct"
MINILM: Final = SMOLLM2.parent / "all-MiniLM-L6-v2"
"""Real models: with four black holes, and without any."""

LONG: Final = 10_000
HOSTILE: Final = (
    "<script>document.title='taken'</script>",
    "</script><script>document.title='taken'</script>",
    "<!--",
    "-->",
    "<!--<script>",
    "</style></title></textarea><img src=x onerror=\"document.title='taken'\">",
    "\u202egnp.exe",
    "\u2066\u2067\u200f\u061c",
    "\0",
    "a\0b",
    "\x1b[31mred\x7f\x85",
    "\u2028\u2029",
    "\ufeff\u200b\u200d",
    "one\ntwo\r\n\tthree",
    "=cmd()",
    "{{ 7 * 7 }}${7 * 7}",
    "&lt;script&gt;&amp;",
    "![x](http://a.example/x.png)",
    "x" * LONG,
    "é" * LONG,
    "\u0301" * LONG,
    "\U000e0001\U0010ffff\ufffe",
    "",
    " ",
    "__proto__",
    "constructor",
)
"""Texts of tokens that would run, hide, turn or break what stands around them."""
HOSTILE_NAME: Final = os.fsdecode(b"<img src=x onerror=alert(1)><!--\xe2\x80\xae\xff'\"&`")
"""The name of a folder. A byte of it is no UTF-8, which Python gives as a lone surrogate."""


def hostile(folder: Path) -> Path:
    """Every hostile text as a token, each once in a black hole and once by itself."""
    groups = [list(range(len(HOSTILE))), [len(HOSTILE), len(HOSTILE) + 1]]
    checkpoint = write_checkpoint(folder / HOSTILE_NAME, planted(len(HOSTILE) + 40, 16, groups))
    vocabulary = {text: index for index, text in enumerate(HOSTILE)}
    vocabulary |= {f"token{index}": index for index in range(len(HOSTILE), len(HOSTILE) + 36)}
    tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="=cmd()"))
    (checkpoint / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    return checkpoint


def many_rows(folder: Path) -> Path:
    """262,144 rows, as Gemma has, with three holes."""
    groups = [list(range(100, 1_100)), [7, 262_000], [5, 6, 262_143]]
    return write_checkpoint(folder / "many-rows", planted(262_144, 16, groups), n_tokens=262_000)


def many_holes(folder: Path) -> Path:
    """5,000 holes with two rows each."""
    groups = [[number, 20_000 + number] for number in range(5_000)]
    return write_checkpoint(folder / "many-holes", planted(40_000, 16, groups), n_tokens=40_000)


def without_tokenizer(folder: Path) -> Path:
    return write_checkpoint(folder / "without-tokenizer", planted(400, 16, [[1, 2, 3], [10, 20]]))


def one_row(folder: Path) -> Path:
    """One row, so nothing varies."""
    return write_checkpoint(folder / "one-row", planted(1, 2, []), n_tokens=1)
