"""Loads a tokenizer and describes its tokens in a process of its own. A file can make the libraries abort, or take all
memory; then only that process ends.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NotRequired, TypedDict, cast

from job.checkpoints.formats.gguf_file import Vocabulary
from job.limits.fork_server import CallFailed, ForkServer, Limits
from job.scratch import write_scratch
from job.tokens.kinds.gguf_tokens import from_vocabulary
from job.tokens.kinds.loading import load_tokenizer
from job.tokens.tokenizer import Tokenizer, TokenizerInfo, TokenizerUnusable, errors_translated

logger = logging.getLogger(__name__)

_LIMITS: Final = Limits(cpu_seconds=600, seconds=600, nbytes=2 << 30)
"""The largest tokenizers load in seconds; a converted one takes about a minute. A machine with many cores needs more
memory than others, for stacks."""

_MARKS: Final = ("added", "special", "unused")
"""The sets of ids of a vocabulary."""
_PRELOADED: Final = (
    *("job.tokens.process", "job.tokens.columns", "job.tokens.descriptions", "job.tokens.claims.reachability"),
    *("tokenizers", "arro3.core", "arro3.io", "unicodedataplus"),
)
_SERVER: Final = ForkServer(preload=_PRELOADED)


@dataclass(frozen=True)
class DescribedTokens:
    """What a tokenizer is whose tokens were described, and how long what took, in seconds."""

    info: TokenizerInfo
    seconds: dict[str, float]


class _Request(TypedDict):
    folder: str | None
    vocabulary: str | None
    n_rows: int
    columns: str
    claims: bool


class _Info(TypedDict):
    kind: str
    n_tokens: int
    n_ids: int
    n_own_ids: int


class _Answer(TypedDict):
    unusable: NotRequired[str]
    info: NotRequired[_Info]
    seconds: NotRequired[dict[str, float]]


def describe_in_process(
    folder: Path | None, vocabulary: Path | None, n_rows: int, columns: Path, *, with_claims: bool = True
) -> DescribedTokens:
    """Describe the rows of W, which has ``n_rows``, in the file ``columns``. It is not written if W has fewer rows than
    the vocabulary has ids.

    Args:
        folder: where the tokenizer's files are; None to go by ``vocabulary`` alone.
        vocabulary: a file by ``write_vocabulary``, with which the tokenizer has to agree.
        with_claims: whether to tell also which tokens round-trip and can be reached.

    Raises:
        TokenizerUnusable: the tokenizer cannot be read, or it ends the process that reads it, or it has other tokens
            than the vocabulary.
        TransientError: no process can be started.
    """
    request: _Request = {
        "folder": str(folder.absolute()) if folder else None,
        "vocabulary": str(vocabulary.absolute()) if vocabulary else None,
        "n_rows": n_rows,
        "columns": str(columns.absolute()),
        "claims": with_claims,
    }
    columns.unlink(missing_ok=True)
    try:
        answer = cast("_Answer", _SERVER.call(answer_request, request, _LIMITS))
    except CallFailed as error:
        answer = {"unusable": f"the tokenizer cannot be read ({error}); check its files"}
    if "unusable" in answer and with_claims and columns.exists():
        logger.warning("the tokens are described, but not whether text encodes to them: %s", answer["unusable"])
        return describe_in_process(folder, vocabulary, n_rows, columns, with_claims=False)
    if "unusable" in answer:
        raise TokenizerUnusable(answer["unusable"])
    return DescribedTokens(TokenizerInfo(**answer["info"]), answer["seconds"])


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write a GGUF file's list of tokens for the other process.

    Raises:
        TransientError: the scratch disk is full, or fails.
    """
    marks = {name: sorted(getattr(vocabulary, name)) for name in _MARKS}
    content = {"model": vocabulary.model, "tokens": vocabulary.tokens, **marks}
    write_scratch(path, json.dumps(content).encode())


def answer_request(request: _Request) -> _Answer:
    """Write the columns. Returns the tokenizer and the seconds, or why there are no columns. Called in the other
    process."""
    try:
        with errors_translated():
            begin = time.perf_counter()
            tokenizer = _load(request["folder"], request["vocabulary"])
            seconds = {"load tokenizer": time.perf_counter() - begin}
            if tokenizer.info.n_own_ids <= request["n_rows"]:
                seconds |= _describe(tokenizer, request["n_rows"], Path(request["columns"]), claims=request["claims"])
    except TokenizerUnusable as error:
        return {"unusable": str(error)}
    return {"info": cast("_Info", asdict(tokenizer.info)), "seconds": seconds}


def _load(folder: str | None, vocabulary: str | None) -> Tokenizer:
    """The tokenizer in the folder, if it agrees with the vocabulary; the vocabulary's own if there is no folder.

    Raises:
        TokenizerUnusable: it cannot be read, or does not agree.
    """
    own = _read_vocabulary(Path(vocabulary)) if vocabulary else None
    if folder is None and own:
        return own
    tokenizer = load_tokenizer(Path(folder or ""))
    if own:
        _check_alike(tokenizer.pieces, own)
    return tokenizer


def _read_vocabulary(path: Path) -> Tokenizer:
    content = json.loads(path.read_bytes())
    added, special, unused = (frozenset(content[name]) for name in _MARKS)
    return from_vocabulary(content["model"], content["tokens"], added, special=special, unused=unused)


def _check_alike(pieces: Sequence[str | None], own: Tokenizer) -> None:
    """Check that a tokenizer has the pieces of a GGUF file's own list. It may lack those that the list marks as unused:
    converters fill the list up to the number of rows."""
    for id, expected in enumerate(own.pieces):
        piece = pieces[id] if id < len(pieces) else None
        if piece != expected and not (piece is None and id in own.unused):
            raise TokenizerUnusable(
                f"found the piece {piece!r:.80} for id {id:,}, expected {expected!r:.80}, as the GGUF file has it"
            )


def _describe(tokenizer: Tokenizer, n_rows: int, path: Path, *, claims: bool) -> dict[str, float]:
    """Write the columns: first without claims, which may take more than this process has. Returns how long what took,
    in seconds."""
    # These import numpy, which the caller may not need.
    from job.tokens.claims.reachability import encoding_claims
    from job.tokens.columns import write_token_columns
    from job.tokens.descriptions import describe_tokens

    begin = time.perf_counter()
    tokens = describe_tokens(tokenizer, n_rows)
    unknown: list[bool | None] = [None] * len(tokens.pieces)
    write_token_columns(tokens, unknown, unknown, n_rows, path)
    seconds = {"describe tokens": time.perf_counter() - begin}
    if claims and tokenizer.backend:
        begin = time.perf_counter()
        found = encoding_claims(tokenizer.backend, tokens.pieces, tokens.texts, tokens.token_bytes, tokenizer.added)
        write_token_columns(tokens, found.round_trips, found.reachable, n_rows, path)
        seconds["reachability"] = time.perf_counter() - begin
    return seconds
