"""What byte sequences can be part of a UTF-8 text, and by which characters the parts can be completed."""

import codecs
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final, NamedTuple

_UTF8: Final = codecs.getincrementaldecoder("utf-8")
MAX_CHARACTER: Final = 4
"""The bytes of the longest character."""


class Parts(NamedTuple):
    """Bytes, cut where characters begin and end."""

    head: bytes
    """The last bytes of a character that begins before."""
    whole: str
    tail: bytes
    """The first bytes of a character that ends after."""


def cut(data: bytes) -> Parts | None:
    """The parts of these bytes; None if no UTF-8 text holds them (Unicode 16.0, table 3-7)."""
    n_head = next((n for n, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))
    if n_head >= MAX_CHARACTER:
        return None
    decoder = _UTF8()
    try:
        whole = decoder.decode(data[n_head:])
    except UnicodeDecodeError:
        return None
    return Parts(data[:n_head], whole, decoder.getstate()[0])


def with_whole_characters(data: bytes) -> Iterator[str]:
    """Texts that hold these bytes, each of which adds to them only what the characters at both ends lack. The ends vary
    together, so that all of their bytes come early."""
    parts = cut(data)
    if parts is None:
        return
    if not parts.whole and not parts.tail:
        yield from characters_with(parts.head)
        return
    heads = characters_ending_in(parts.head) if parts.head else ("",)
    tails = characters_beginning_with(parts.tail) if parts.tail else ("",)
    for n in range(max(len(heads), len(tails))):
        yield heads[n % len(heads)] + parts.whole + tails[n % len(tails)]


def is_text(data: bytes) -> bool:
    """Whether these bytes are whole characters."""
    parts = cut(data)
    return parts is not None and not parts.head and not parts.tail


@cache
def characters_beginning_with(data: bytes) -> tuple[str, ...]:
    """The characters whose encoding begins with these bytes: all of them if at most two bytes are missing, of others
    one for each two bytes that may come next. Those whose last bytes differ come first."""
    missing = _length(data[0]) - len(data)
    rests = (
        bytes(0x80 + byte % 64 for byte in (last * 7 + last // 64, last, last * 11))[max(0, 2 - missing) :][:missing]
        for last in range(64 ** min(missing, 2))
    )
    return tuple(char for rest in rests for char in _decoded(data + rest))


def is_exhaustive(data: bytes) -> bool:
    """Whether ``characters_beginning_with`` gives all."""
    return _length(data[0]) - len(data) <= 2


@cache
def characters_ending_in(data: bytes) -> tuple[str, ...]:
    """The characters of up to three bytes whose encoding ends in these bytes, and those of four with at least two."""
    found: list[str] = []
    for n_before in range(1, MAX_CHARACTER + 1 - len(data)):
        leads = _LEADS[n_before + len(data)] if n_before < MAX_CHARACTER - 1 else ()
        inner = product(range(0x80, 0xC0), repeat=n_before - 1)
        found += [char for each in inner for lead in leads for char in _decoded(bytes([lead, *each]) + data)]
    return tuple(found)


def characters_with(data: bytes) -> Iterator[str]:
    """Characters that hold these bytes after their first."""
    yield from characters_ending_in(data)
    if len(data) < MAX_CHARACTER - 1:
        for last in range(0x80, 0xC0):
            yield from characters_ending_in(data + bytes([last]))


_LEADS: Final = {2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}
"""The first bytes of characters, by length."""


def _length(lead: int) -> int:
    return next(length for length, leads in _LEADS.items() if lead in leads)


def _decoded(data: bytes) -> Iterator[str]:
    try:
        yield data.decode()
    except UnicodeDecodeError:
        return
