"""Whether the output head is the input embedding: stored once, stored twice, or two different matrices.

The stored bytes count, not what the config says. Only a sample of rows is compared; the caller, which reads all of W
anyway, can compare the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from job.checkpoints.checkpoint import Checkpoint, TensorLocation

Tie = Literal["tied", "tied_copy", "untied", "config_says_tied_but_differ"]
"""Stored once for both; stored twice with the same bits; two matrices; two matrices although config.json ties them."""

N_PLACES: Final = 3
ROWS_AT_ONCE: Final = 8
"""At how many places, and how many rows at each, head and embedding are compared before they are taken to be copies.
Others usually differ in the first row. The rows of a place lie side by side, because each place costs two requests."""

MAX_AT_ONCE: Final = 1 << 20
"""Bytes of a place: a hostile header may claim rows of any length, of which one alone is compared."""


@dataclass(frozen=True)
class NamedTensor:
    """A tensor by its name on disk."""

    name: str
    location: TensorLocation


@dataclass(frozen=True)
class TieState:
    """Whether the head is the embedding, and how that is known."""

    tie: Tie
    evidence: str
    copy: "Copy | None" = None
    """The embedding, if it agrees with the head in all sampled rows. The other rows were not compared."""


@dataclass(frozen=True)
class Copy:
    """An embedding that seems to be a copy of the head."""

    embedding: NamedTensor
    config_ties: bool | None
    """Whether the config ties them; None if that cannot be known."""

    def settled(self, head: str, *, is_equal: bool) -> TieState:
        """The state after all bytes of the two were compared."""
        both = f"{head} and {self.embedding.name} are both stored"
        if is_equal:
            return TieState("tied_copy", f"{both}, and all their {self.embedding.location.nbytes:,} bytes agree")
        return differing(f"{both} and differ, although not in the rows that were compared first", self.config_ties)


def compare(
    checkpoint: Checkpoint, head: NamedTensor, embedding: NamedTensor, config_ties: Callable[[], bool | None]
) -> TieState:
    """The relation of a head and an embedding that are both stored.

    Args:
        config_ties: whether the config ties them, asked only if it matters; gives None if that cannot be known.
    """
    one, other = head.location, embedding.location
    if one == other:
        return TieState("tied", f"{head.name} and {embedding.name} are two names of the same bytes")
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        found = f"{embedding.name} is {_dtype_and_shape(other)}, {head.name} is {_dtype_and_shape(one)}"
        return differing(f"the embedding {found}", config_ties())
    if one.strides != other.strides or one.nbytes != other.nbytes or not _is_dense(one):
        found = f"{head.name} and {embedding.name} are laid out differently in their files and were not compared"
        return differing(found, config_ties())
    n_rows = one.shape[0]
    row_nbytes = one.nbytes // n_rows
    at_once = max(1, min(ROWS_AT_ONCE, n_rows, MAX_AT_ONCE // max(1, row_nbytes)))
    compared: set[int] = set()
    for first in (place * (n_rows - at_once) // (N_PLACES - 1) for place in range(N_PLACES)):
        rows = range(first, first + at_once)
        row = _first_differing(rows, _rows(checkpoint, one, rows), _rows(checkpoint, other, rows))
        if row is not None:
            return differing(
                f"{head.name} and {embedding.name} are both stored and differ, as in row {row:,}", config_ties()
            )
        compared.update(rows)
    return TieState(
        "tied_copy",
        f"{head.name} and {embedding.name} are both stored and agree in the {len(compared):,} rows compared, at the"
        f" beginning, in the middle and at the end of {n_rows:,}; the others were not compared",
        Copy(embedding, config_ties()),
    )


def differing(found: str, config_ties: bool | None) -> TieState:
    """The state of a head and an embedding that differ. ``found`` says how."""
    if config_ties:
        return TieState("config_says_tied_but_differ", f"{found}, although the config ties them")
    said = "the config does not tie them" if config_ties is False else "the config does not say whether they are tied"
    return TieState("untied", f"{found}; {said}")


def _rows(checkpoint: Checkpoint, tensor: TensorLocation, rows: range) -> bytes:
    """The bytes at the place of these rows. In a matrix stored by columns they are no rows, but serve as well."""
    nbytes = tensor.nbytes // tensor.shape[0]
    return checkpoint.fetch(tensor.file, tensor.begin + rows.start * nbytes, tensor.begin + rows.stop * nbytes)


def _first_differing(rows: range, one: bytes, other: bytes) -> int | None:
    """The first of the rows whose bytes differ; None if all agree."""
    if one == other:
        return None
    nbytes = len(one) // len(rows)
    places = (slice(index * nbytes, (index + 1) * nbytes) for index in range(len(rows)))
    return next(row for row, place in zip(rows, places, strict=True) if one[place] != other[place])


def _is_dense(tensor: TensorLocation) -> bool:
    n_rows, n_columns = tensor.shape
    return tensor.strides in (None, (n_columns, 1), (1, n_rows))


def _dtype_and_shape(tensor: TensorLocation) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
