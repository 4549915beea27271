"""JSON objects from a checkpoint's files. Takes bytes and returns values; fetches nothing."""

import json
from collections import Counter
from collections.abc import Callable

from job.checkpoints.formats.foreign_content import is_error_message, recognise
from job.errors import CorruptCheckpoint

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


def _parse(text: bytes, where: str, make_object: Callable[[Pairs], dict[str, object]]) -> dict[str, object]:
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
