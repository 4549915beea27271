"""Lists of tokens, each with its ids in both surveys and its text."""

from dataclasses import dataclass, field

import numpy as np

from job.differences.ids import IdMap, Ids
from job.differences.published_data import TokenTable
from job.differences.schema import MAX_TOKENS, DifferentToken, TokenList


@dataclass
class Texts:
    """Tokens that are to be shown, with their texts once all of them are known."""

    entries: list[DifferentToken] = field(default_factory=list)

    def token(self, a: int | None, b: int | None) -> DifferentToken:
        entry: DifferentToken = {"a": a, "b": b, "piece": None, "text": None}
        self.entries.append(entry)
        return entry

    def fill(self, a: TokenTable | None, b: TokenTable | None) -> None:
        """Give each entry its piece and text: as B has it, or else A."""
        tokens_b = b.tokens([entry["b"] for entry in self.entries if entry["b"] is not None]) if b else {}
        missing = [entry for entry in self.entries if entry["b"] not in tokens_b]
        tokens_a = a.tokens([entry["a"] for entry in missing if entry["a"] is not None]) if a else {}
        for entry in self.entries:
            token = tokens_b.get(entry["b"]) or tokens_a.get(entry["a"])  # type: ignore[arg-type]
            if token:
                entry["piece"], entry["text"] = token.piece, token.text


class TokenLists:
    """Makes lists of tokens, given as ids of A or of B."""

    def __init__(self, ids: IdMap, n_rows_a: int, n_rows_b: int, texts: Texts) -> None:
        self._texts = texts
        self._to_b, self._to_a = np.full(n_rows_a, -1), np.full(n_rows_b, -1)
        self._to_b[ids.a], self._to_a[ids.b] = ids.b, ids.a

    def of_a(self, id: int) -> DifferentToken:
        return self._texts.token(id, _id_or_none(self._to_b[id]))

    def of_b(self, id: int) -> DifferentToken:
        return self._texts.token(_id_or_none(self._to_a[id]), id)

    def list_a(self, ids: Ids, limit: int = MAX_TOKENS) -> TokenList:
        return {"count": len(ids), "tokens": [self.of_a(id) for id in ids[:limit].tolist()]}

    def list_b(self, ids: Ids, limit: int = MAX_TOKENS) -> TokenList:
        return {"count": len(ids), "tokens": [self.of_b(id) for id in ids[:limit].tolist()]}


def _id_or_none(id: np.integer) -> int | None:
    return None if id < 0 else int(id)
