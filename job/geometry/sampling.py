"""Which rows of γ′ tell its principal directions, and how much is computed of them. Apart from where they are used, so
that whoever needs only these imports no numpy.

All of it depends on the shape of W alone, so the directions do not depend on how W arrives.
"""

from typing import Final

NUMBERS_IN_MEMORY: Final = 1 << 23
"""How many numbers of γ′ are held as the first sample: 34 MB as float32."""
_NUMBERS_OF_SAMPLE: Final = 1 << 21
"""At least so many are held of a W that does not fit."""
NUMBERS_REFINING: Final = 1 << 26
"""At least so many numbers refine the directions, or all of them; and at least a quarter of all of them."""
_NUMBERS_PER_GROUP: Final = 1 << 17
"""Rows are read in groups of neighbours of about this size: 512 kB as float32, which stays in the caches."""
_FEWEST_ROWS_PER_GROUP: Final = 4

VECTORS_PER_STEP: Final = 4
"""How many vectors are multiplied at a time: more than three, for equal eigenvalues."""
_FEWEST_STEPS, _MOST_STEPS = 10, 16
"""How many blocks the Krylov subspace has: 10 for a sample that fills its memory, more for a smaller one."""
_STEPS_OF_LONG_ROWS: Final = 2
"""With rows so long that more blocks would take more memory than the sample."""


def rows_per_group(hidden_size: int) -> int:
    """How many neighbouring rows are read at a time."""
    return max(_FEWEST_ROWS_PER_GROUP, _NUMBERS_PER_GROUP // hidden_size)


def first_sample(n_rows: int, hidden_size: int) -> list[range]:
    """The groups of rows that are held in memory: all of them if they fit, else an eighth, but neither few nor many."""
    n_numbers = n_rows * hidden_size
    part = min(NUMBERS_IN_MEMORY, max(_NUMBERS_OF_SAMPLE, n_numbers // 8))
    return _spread(n_rows, hidden_size, n_numbers if n_numbers <= NUMBERS_IN_MEMORY else part)


def second_sample(n_rows: int, hidden_size: int) -> list[range]:
    """The groups of rows that refine what the first sample told; none if that one has all rows."""
    groups = _spread(n_rows, hidden_size, max(NUMBERS_REFINING, n_rows * hidden_size // 4))
    return groups if len(groups) > len(first_sample(n_rows, hidden_size)) else []


def _spread(n_rows: int, hidden_size: int, n_numbers: int) -> list[range]:
    """Groups of rows, evenly spread over all rows, that hold at most ``n_numbers``; at least one."""
    at_once = rows_per_group(hidden_size)
    n_groups = -(-n_rows // at_once)
    n_sampled = n_groups if n_numbers >= n_rows * hidden_size else max(1, n_numbers // (at_once * hidden_size))
    begins = (index * n_groups // n_sampled * at_once for index in range(n_sampled))
    return [range(begin, min(begin + at_once, n_rows)) for begin in begins]


def n_steps(n_rows: int, hidden_size: int) -> int:
    """How many blocks the Krylov subspace of a sample of so many rows has."""
    affordable = _FEWEST_STEPS * NUMBERS_IN_MEMORY // (n_rows * hidden_size)
    fitting = NUMBERS_IN_MEMORY // (2 * VECTORS_PER_STEP * hidden_size)
    return max(_STEPS_OF_LONG_ROWS, min(max(_FEWEST_STEPS, affordable), _MOST_STEPS, fitting))


def krylov_size(n_rows: int, hidden_size: int) -> int:
    """At most how many vectors the Krylov subspace has."""
    return min(n_rows, hidden_size, VECTORS_PER_STEP * n_steps(n_rows, hidden_size))
