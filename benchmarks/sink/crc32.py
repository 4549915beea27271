"""The CRC32 of two texts joined, from the CRC32 of each. Arithmetic alone, as in zlib's ``crc32_combine``."""

from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
"""That of zlib and of S3, with the coefficient of x⁰ in the highest bit, as in every number here."""
_ONE: Final = 1 << 31


def combine(first: int, second: int, second_nbytes: int) -> int:
    """The CRC32 of one text followed by another of ``second_nbytes`` bytes."""
    shift, power, bits = _ONE, _ONE >> 1, 8 * second_nbytes  # x⁰ and x¹
    while bits:
        if bits & 1:
            shift = _multiply(shift, power)
        power = _multiply(power, power)
        bits >>= 1
    return _multiply(shift, first) ^ second


def _multiply(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo that of CRC32."""
    product = 0
    for place in range(31, -1, -1):
        if a >> place & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
