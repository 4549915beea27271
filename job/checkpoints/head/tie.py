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

N_SAMPLES: Final = 24
"""How many rows are compared before head and embedding are taken to be copies. Others usually differ in the first."""


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
    samples = sorted({index * (n_rows - 1) // (N_SAMPLES - 1) for index in range(N_SAMPLES)})
    for row in samples:
        if _row(checkpoint, one, row) != _row(checkpoint, other, row):
            return differing(
                f"{head.name} and {embedding.name} are both stored and differ, as in row {row:,}", config_ties()
            )
    return TieState(
        "tied_copy",
        f"{head.name} and {embedding.name} are both stored and agree in the {len(samples):,} rows compared, spread over"
        f" {n_rows:,}; the others were not compared",
        Copy(embedding, config_ties()),
    )


def differing(found: str, config_ties: bool | None) -> TieState:
    """The state of a head and an embedding that differ. ``found`` says how."""
    if config_ties:
        return TieState("config_says_tied_but_differ", f"{found}, although the config ties them")
    said = "the config does not tie them" if config_ties is False else "the config does not say whether they are tied"
    return TieState("untied", f"{found}; {said}")


def _row(checkpoint: Checkpoint, tensor: TensorLocation, index: int) -> bytes:
    """The bytes at the place of a row. In a matrix that is stored by columns they are no row, but serve as well."""
    nbytes = tensor.nbytes // tensor.shape[0]
    begin = tensor.begin + index * nbytes
    return checkpoint.fetch(tensor.file, begin, begin + nbytes)


def _is_dense(tensor: TensorLocation) -> bool:
    n_rows, n_columns = tensor.shape
    return tensor.strides in (None, (n_columns, 1), (1, n_rows))


def _dtype_and_shape(tensor: TensorLocation) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
