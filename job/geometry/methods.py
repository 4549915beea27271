"""How rows are measured: the names of the methods to find black holes, and the size of a block. Apart from where they
are used, so that whoever needs only these imports no torch."""

from typing import Final, Literal

Dedup = Literal["byte-hash", "torch-unique"]

NUMBERS_PER_BLOCK: Final = 1 << 19
"""The size of a block of rows, which has at least one row. As float64 it has 4 MiB, so it stays near the caches."""

ROWS_PER_PRODUCT: Final = 1024
"""How many rows are multiplied at a time for the covariance: all sums of their products are exact."""

N_DIRECTIONS: Final = 3
"""How many principal directions of γ′ are published."""
