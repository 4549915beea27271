"""JSON objects from a checkpoint's files. Takes bytes and returns values; fetches nothing."""

import json
from collections import Counter
from collections.abc import Callable

from job.checkpoints.formats.foreign_content import is_error_message, recognise
from job.errors import CorruptCheckpoint
from job.limits.memory import claim_memory

Pairs = list[tuple[str, object]]


def parse_json_object(text: bytes, where: str) -> dict[str, object]:
    """A JSON object. If a key occurs twice, the last one counts, as in the libraries that wrote the file.

    Raises:
        CorruptCheckpoint, UnsupportedCheckpoint: the text is not a JSON object.
    """
    return _parse(text, where, dict)


def parse_unambiguous_object(text: bytes, where: str) -> dict[str, object]:
    """A JSON object in which no key occurs twice with different values.

    Raises:
        CorruptCheckpoint, UnsupportedCheckpoint: the text is not such an object.
    """
    return _parse(text, where, _unambiguous)


def _unambiguous(pairs: Pairs) -> dict[str, object]:
    """The object with these keys and values.

    Raises:
        ValueError: a key occurs twice with different values.
    """
    unique = dict(pairs)
    if len(unique) < len(pairs):
        for key, value in pairs:
            if unique[key] != value:
                times = Counter(key for key, _ in pairs)[key]
                raise ValueError(f"the key {key!r:.200} occurs {times} times with different values")
    return unique


def claim_for_json(text: bytes, where: str) -> None:
    """Make sure that there is memory to parse a text.

    Each value of it takes up to 130 bytes, and as much in what is made of an index or a header; the text is decoded,
    and its strings are copied from it, with four bytes for each character if one of them is beyond the first 256.

    Raises:
        UnsupportedCheckpoint: there is not.
    """
    n_values = sum(map(text.count, (b",", b":", b"{", b"[")))
    width = 1 if text.isascii() and b"\\u" not in text else 4
    claim_memory(2 * width * len(text) + 200 * n_values, where)


def _parse(text: bytes, where: str, make_object: Callable[[Pairs], dict[str, object]]) -> dict[str, object]:
    claim_for_json(text, where)
    try:
        parsed = json.loads(text, object_pairs_hook=make_object)
    except (ValueError, RecursionError) as error:
        if foreign := recognise(text, len(text), where):
            raise foreign from None
        raise CorruptCheckpoint(
            f"{where}: found invalid JSON ({error}), expected an object; get the file again"
        ) from None
    if not isinstance(parsed, dict):
        raise CorruptCheckpoint(
            f"{where}: found a JSON {type(parsed).__name__}, expected an object; get the file again"
        )
    if is_error_message(parsed) and (foreign := recognise(text, len(text), where)):
        raise foreign
    return parsed
