"""GPT-2's spelling of bytes: each byte is one printable character."""

from typing import Final


def _characters() -> list[str]:
    """The character of each byte. A printable byte has its own character, and each other byte has the next character
    from U+0100. As ``bytes_to_unicode`` in https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(0x100)]


CHARACTERS: Final = tuple(_characters())
"""The character of each byte."""

BYTES: Final = {char: byte for byte, char in enumerate(CHARACTERS)}
"""The byte of each character."""

_TRANSLATION: Final = dict(enumerate(CHARACTERS))


def spell(content: bytes) -> str:
    """These bytes in GPT-2's characters."""
    return content.decode("latin-1").translate(_TRANSLATION)
