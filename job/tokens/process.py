"""Loads a tokenizer and decodes its tokens in a process of its own. A file can make the libraries abort, or take all
memory; then only that process ends.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, NotRequired, TypedDict, cast

from job.limits.fork_server import CallFailed, ForkServer, Limits
from job.tokens.loading import load_tokenizer
from job.tokens.tokenizer import Token, TokenizerInfo, TokenizerUnusable

_LIMITS: Final = Limits(cpu_seconds=600, seconds=600, nbytes=2 << 30)
"""The largest tokenizers load in seconds; a converted one takes about a minute. A machine with many cores needs more
memory than others, for stacks."""

_SERVER: Final = ForkServer(preload=("job.tokens.process", "tokenizers"))


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
    try:
        answer = cast("_Answer", _SERVER.call(answer_request, request, _LIMITS))
    except CallFailed as error:
        raise TokenizerUnusable(f"the tokenizer cannot be read ({error}); check its files") from error
    if "unusable" in answer:
        raise TokenizerUnusable(answer["unusable"])
    tokens = [Token(id, piece, text) for id, (piece, text) in zip(ids, answer["tokens"], strict=True)]
    return TokenizerInfo(**answer["info"]), tokens


def answer_request(request: _Request) -> _Answer:
    """The tokenizer and the tokens, or why there are none. Called in the other process."""
    try:
        tokenizer = load_tokenizer(Path(request["folder"]))
        tokens = tokenizer.tokens(request["ids"])
    except TokenizerUnusable as error:
        return {"unusable": str(error)}
    info = cast("_Info", asdict(tokenizer.info))
    return {"info": info, "tokens": [(token.piece, token.text) for token in tokens]}
