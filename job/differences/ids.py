"""Which id of one survey stands for the same token as which id of another. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""(n,) int64: ids of tokens, ascending unless it is said otherwise."""

_DIGEST_NBYTES: Final = 16

MappedBy = Literal["id", "token"]
"""``id``: the same id. ``token``: the same bytes, or where a token has none, the same piece."""


@dataclass(frozen=True)
class IdMap:
    """How the ids of survey A map to those of survey B."""

    by: MappedBy
    a: Ids
    """(n,): the mapped ids of A."""
    b: Ids
    """(n,): the ids of B that they map to; in the order of ``a``."""
    only_a: Ids
    """The ids of A whose token B has not."""
    only_b: Ids
    ambiguous_a: Ids
    """The ids of A whose token A or B has more than once, so that nothing says which is which."""
    ambiguous_b: Ids
    without_token_a: Ids
    """The ids of A that stand for no token."""
    without_token_b: Ids

    @property
    def n_moved(self) -> int:
        """How many tokens have another id in B."""
        return int((self.a != self.b).sum())


def map_same_ids(n_rows_a: int, n_rows_b: int) -> IdMap:
    """Each id to itself. The ids that one of the two lacks are only in the other."""
    both, none = np.arange(min(n_rows_a, n_rows_b)), np.empty(0, np.int64)
    only_a, only_b = (np.arange(len(both), n_rows) for n_rows in (n_rows_a, n_rows_b))
    return IdMap("id", both, both, only_a, only_b, none, none, none, none)


Digests = NDArray[np.uint64]
"""(n, 2) uint64: 16 bytes of BLAKE2b for each token. Nobody can make two tokens that have the same."""


@dataclass(frozen=True)
class Spellings:
    """How the tokens of a survey are spelled, by id."""

    whole: Digests
    """Of the piece and the bytes together."""
    content: Digests
    """Of the bytes alone, or of the piece where nobody knows them."""
    is_token: NDArray[np.bool_]
    """(n,) bool: whether the id stands for a token."""

    def agrees_with(self, other: "Spellings") -> bool:
        """Whether each id has the same token, and what one side has more stands for no token."""
        n_both = min(len(self.is_token), len(other.is_token))
        rest = self.is_token[n_both:].any() or other.is_token[n_both:].any()
        return not rest and np.array_equal(self.whole[:n_both], other.whole[:n_both])


def spell(tokens: Iterable[tuple[str | None, bytes | None]]) -> Spellings:
    """How these tokens are spelled. Of each id: its piece, None if it stands for no token; its bytes, None if nobody
    knows them."""
    whole, content, is_token = bytearray(), bytearray(), bytearray()
    for piece, token_bytes in tokens:
        name = (piece or "").encode("utf-8", "surrogatepass")
        known = b"piece" + name if token_bytes is None else b"bytes" + token_bytes
        content += blake2b(known, digest_size=_DIGEST_NBYTES).digest()
        whole += blake2b(b"%d %s%s" % (len(name), name, known), digest_size=_DIGEST_NBYTES).digest()
        is_token.append(piece is not None)
    digests, of_content = (np.frombuffer(column, np.uint64).reshape(-1, 2) for column in (whole, content))
    return Spellings(digests, of_content, np.frombuffer(is_token, np.bool_))


def map_by_token(a: Spellings, b: Spellings) -> IdMap:
    """Each id to the one with the same token.

    First by bytes and piece together, so that byte tokens are told from letters; what is left, by bytes alone, since
    vocabularies spell the same bytes differently. A token that one side has several times is left out.
    """
    rest_a, rest_b = np.flatnonzero(a.is_token), np.flatnonzero(b.is_token)
    pairs = []
    for digests_a, digests_b in ((a.whole, b.whole), (a.content, b.content)):
        labels = _labels(np.concatenate((digests_a[rest_a], digests_b[rest_b])))
        label_a, label_b = labels[: len(rest_a)], labels[len(rest_a) :]
        n_a, n_b = (np.bincount(side, minlength=labels.max(initial=-1) + 1) for side in (label_a, label_b))
        once, shared = (n_a == 1) & (n_b == 1), (n_a > 0) & (n_b > 0)
        of_a, of_b = (rest[once[label]] for rest, label in ((rest_a, label_a), (rest_b, label_b)))
        order_a, order_b = (np.argsort(label[once[label]]) for label in (label_a, label_b))
        pairs.append(np.stack((of_a[order_a], of_b[order_b])))
        ambiguous_a, ambiguous_b = (
            rest[(shared & ~once)[label]] for rest, label in ((rest_a, label_a), (rest_b, label_b))
        )
        only_a, only_b = (rest[~shared[label]] for rest, label in ((rest_a, label_a), (rest_b, label_b)))
        rest_a, rest_b = (rest[~once[label]] for rest, label in ((rest_a, label_a), (rest_b, label_b)))
    mapped = np.concatenate(pairs, axis=1)
    mapped = mapped[:, np.argsort(mapped[0])]
    return IdMap(
        "token",
        a=mapped[0],
        b=mapped[1],
        only_a=only_a,
        only_b=only_b,
        ambiguous_a=ambiguous_a,
        ambiguous_b=ambiguous_b,
        without_token_a=np.flatnonzero(~a.is_token),
        without_token_b=np.flatnonzero(~b.is_token),
    )


def _labels(digests: Digests) -> Ids:
    """(n,) int64: the same number for the same digest, from 0."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    starts = np.zeros(len(order), np.int64)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    labels = np.empty(len(order), np.int64)
    labels[order] = np.cumsum(starts)
    return labels
