"""Loads a tokenizer and decodes its tokens in a process of its own. A file can make the libraries abort, or take all
memory; then only that process ends.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, NotRequired, TypedDict, cast

from job.errors import TransientError
from job.tokens.tokenizer import Token, TokenizerInfo, TokenizerUnusable, load_tokenizer

MAX_SECONDS: Final = 600
"""The largest tokenizers load in seconds; a converted one takes about a minute."""
MAX_MEMORY: Final = 2 << 30
"""In bytes. A tokenizer of 262,144 tokens takes a tenth of it; a machine with many cores needs more, for stacks."""
MAX_ANSWER: Final = 512 << 20
"""In bytes. A name of 100 bytes for each of a million rows takes a fifth of it."""

_PROGRAM: Final = "import sys; sys.path[:0] = sys.argv[1:]; from job.tokens.process import main; main()"


class _Request(TypedDict):
    folder: str
    ids: list[int]


class _Info(TypedDict):
    kind: str
    n_tokens: int
    n_ids: int
    n_own_ids: int


class _Answer(TypedDict):
    unusable: NotRequired[str]
    info: NotRequired[_Info]
    tokens: NotRequired[list[tuple[str | None, str | None]]]


def decode_tokens(folder: Path, ids: Sequence[int]) -> tuple[TokenizerInfo, list[Token]]:
    """The tokenizer whose files are in a folder, and its tokens with these ids.

    Raises:
        TokenizerUnusable: the tokenizer cannot be read, or it ends the process that reads it.
        TransientError: no process can be started.
    """
    request: _Request = {"folder": str(folder.absolute()), "ids": list(ids)}
    command = [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[2])]
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter, with a program of its own
            command,
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a library in Rust prints a backtrace when it panics
            timeout=MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TokenizerUnusable(
            f"the tokenizer cannot be read (it took more than {MAX_SECONDS:,} seconds); check its files"
        ) from error
    except OSError as error:
        raise TransientError(
            f"{folder}: no process for the tokenizer could be started ({error}), expected one; free some memory"
        ) from error
    if child.returncode:
        raise TokenizerUnusable(
            f"the tokenizer cannot be read (the library ended with {_ending(child.returncode)}); check its files"
        )
    answer = cast("_Answer", json.loads(child.stdout))
    if "unusable" in answer:
        raise TokenizerUnusable(answer["unusable"])
    tokens = [Token(id, piece, text) for id, (piece, text) in zip(ids, answer["tokens"], strict=True)]
    return TokenizerInfo(**answer["info"]), tokens


def _ending(returncode: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"status {returncode}"


def main() -> None:
    """Answer the request on standard input."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no part of the answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    if hard_limit == resource.RLIM_INFINITY or hard_limit > MAX_MEMORY:
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process goes first
    answer = json.dumps(_answer(cast("_Request", json.load(sys.stdin.buffer)))).encode()
    if len(answer) > MAX_ANSWER:
        reason = f"the names of the tokens take {len(answer):,} bytes, expected at most {MAX_ANSWER:,}"
        answer = json.dumps({"unusable": reason}).encode()
    with os.fdopen(answer_to, "wb") as stream:
        stream.write(answer)


def _answer(request: _Request) -> _Answer:
    try:
        tokenizer = load_tokenizer(Path(request["folder"]))
        tokens = tokenizer.tokens(request["ids"])
    except TokenizerUnusable as error:
        return {"unusable": str(error)}
    info = cast("_Info", asdict(tokenizer.info))
    return {"info": info, "tokens": [(token.piece, token.text) for token in tokens]}
