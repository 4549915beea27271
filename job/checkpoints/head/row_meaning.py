"""Whether row i of W is token i. It is not in a drafter with a shortened vocabulary, nor in a head over audio codes."""

from collections.abc import Callable, Collection, Iterator, Mapping

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.head.config import (
    MAX_DEPTH,
    VOCAB_SIZE_NAMES,
    has_a_row_for_each_token,
    stated_number,
)

DRAFT_SIZE_NAMES = ("draft_vocab_size",)
TEXT_SIZE_NAMES = ("text_vocab_size",)
"""Settings for the number of a drafter's rows, and of a speech model's text tokens."""

CODE_SIZE_NAMES = ("audio_vocab_size", "codebook_size", "codebook_vocab_size", "codec_vocab_size")
"""Settings for the number of audio codes: of one codebook, or of the head."""

CODEBOOK_NAMES = ("num_codebooks", "audio_num_codebooks", "n_codebooks")


def why_rows_are_not_tokens(
    n_rows: int,
    names: Collection[str],
    find: Callable[[str], TensorLocation | None],
    config: Mapping[str, object],
) -> str | None:
    """One sentence, without its full stop, on what the rows of W stand for if not for the tokens; else None.

    Args:
        names: of all stored tensors.
        find: tells where a tensor lies, by its name.
    """
    return (
        _why_by_map(n_rows, names, find)
        or _why_by_draft_size(n_rows, config)
        or _why_by_codes(n_rows, config)
        or _why_far_too_short(n_rows, config)
    )


def is_draft_map(name: str) -> bool:
    """Whether a tensor maps a shortened draft vocabulary to the vocabulary of the model, or back."""
    return name.rpartition(".")[2] in ("d2t", "t2d")


def _why_far_too_short(n_rows: int, config: Mapping[str, object]) -> str | None:
    """For a W of at most half the rows that config.json sets."""
    stated = stated_number(config, VOCAB_SIZE_NAMES)
    if stated and 2 * n_rows <= stated[1]:
        return (
            f"W has {n_rows:,} rows of the {stated[1]:,} that {CONFIG} sets {stated[0]} to, and nothing says which"
            " token each row stands for"
        )
    return None


def _why_by_map(n_rows: int, names: Collection[str], find: Callable[[str], TensorLocation | None]) -> str | None:
    for name in sorted(name for name in names if is_draft_map(name)):
        kind, location = name.rpartition(".")[2], find(name)
        if location is None or len(location.shape) != 1:
            continue
        length = location.shape[0]
        if (kind == "d2t" and length == n_rows) or (kind == "t2d" and n_rows < length):
            which = "which token each row stands for" if kind == "d2t" else f"which of {length:,} tokens have a row"
            return f"the head has a shortened draft vocabulary of {n_rows:,} rows: {name} says {which}"
    return None


def _why_by_draft_size(n_rows: int, config: Mapping[str, object]) -> str | None:
    draft, vocabulary = stated_number(config, DRAFT_SIZE_NAMES), stated_number(config, VOCAB_SIZE_NAMES)
    if draft is None or draft[1] != n_rows or (vocabulary and vocabulary[1] == n_rows):
        return None
    whole = f", and {vocabulary[0]} to {vocabulary[1]:,}" if vocabulary else ""
    return f"the head has a shortened draft vocabulary: {CONFIG} sets {draft[0]} to {n_rows:,}{whole}"


def _why_by_codes(n_rows: int, config: Mapping[str, object]) -> str | None:
    text, vocabulary = stated_number(config, TEXT_SIZE_NAMES), stated_number(config, VOCAB_SIZE_NAMES)
    if text and 2 * n_rows <= text[1]:
        return f"the rows are no text tokens: {CONFIG} sets {text[0]} to {text[1]:,}, and W has {n_rows:,} rows"
    if vocabulary is None or has_a_row_for_each_token(n_rows, config):
        return None
    for setting, n_codes in _code_sizes(config):
        if n_codes == n_rows:
            return (
                f"the head is over audio codes: {CONFIG} sets {setting}, which gives {n_rows:,} rows, and"
                f" {vocabulary[0]} to {vocabulary[1]:,}"
            )
    return None


def _code_sizes(config: Mapping[str, object], depth: int = 0) -> Iterator[tuple[str, int]]:
    """The numbers of rows that a head over audio codes may have, by the settings that give them, in all parts."""
    sizes = [(name, value) for name in CODE_SIZE_NAMES if type(value := config.get(name)) is int]
    counts = [(name, value) for name in CODEBOOK_NAMES if type(value := config.get(name)) is int]
    for name, size in sizes:
        yield f"{name} to {size:,}", size
        for other, count in counts:
            yield f"{name} to {size:,} and {other} to {count:,}", size * count
    for part in config.values() if depth < MAX_DEPTH else ():
        if isinstance(part, dict):
            yield from _code_sizes(part, depth + 1)
