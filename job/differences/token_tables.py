"""How norms, classes and valid ids of the mapped tokens differ."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from job.differences.ids import IdMap
from job.differences.numbers import QUANTILES, compare_norms
from job.differences.published_data import PublishedSurvey, TokenTable, lacking
from job.differences.schema import (
    MAX_NORMS,
    MAX_TOKENS_OF_EVENT,
    ClassesDifference,
    NormsDifference,
    ValidIdsDifference,
)
from job.differences.token_lists import TokenLists


def norms_entry(
    table_a: TokenTable | None, table_b: TokenTable | None, ids: IdMap, lists: TokenLists, untold: list[str]
) -> dict[Literal["norm", "gamma_norm"], NormsDifference] | None:
    if table_a is None or table_b is None:
        names = [name for name, table in (("A", table_a), ("B", table_b)) if table is None]
        untold.append(f"which norms changed: no tokens are published of {' and '.join(names)}")
        return None
    return {
        "norm": _norms_of(table_a.norm, table_b.norm, ids, lists),
        "gamma_norm": _norms_of(table_a.gamma_norm, table_b.gamma_norm, ids, lists),
    }


def _norms_of(
    norms_a: NDArray[np.float32], norms_b: NDArray[np.float32], ids: IdMap, lists: TokenLists
) -> NormsDifference:
    a, b = norms_a[ids.a], norms_b[ids.b]
    found = compare_norms(a, b, MAX_NORMS)
    return {
        "rows": len(a),
        "changed": found.n_changed,
        "not_finite": found.n_not_finite,
        "mean": found.mean,
        "rms": found.rms,
        "quantiles": None
        if found.quantiles is None
        else {f"{share:g}": value for share, value in zip(QUANTILES, found.quantiles, strict=True)},
        "edges": list(found.edges),
        "counts": list(found.counts),
        "most": [
            {
                "token": lists.of_b(int(ids.b[row])),
                "before": float(a[row]),
                "after": float(b[row]),
                "change": float(b[row]) - float(a[row]),
            }
            for row in found.most.tolist()
        ],
    }


def classes_entry(
    table_a: TokenTable | None, table_b: TokenTable | None, ids: IdMap, lists: TokenLists, untold: list[str]
) -> ClassesDifference | None:
    if not (table_a and table_b and table_a.classes and table_b.classes):
        names = [name for name, table in (("A", table_a), ("B", table_b)) if not (table and table.classes)]
        untold.append(f"which classes the tokens have: {' and '.join(names)} publish none")
        return None
    (index_a, names_a), (index_b, names_b) = table_a.classes, table_b.classes
    counts_a, counts_b = (
        dict(zip(names, np.bincount(index, minlength=len(names)).tolist(), strict=True))
        for index, names in (table_a.classes, table_b.classes)
    )
    of_a, of_b = index_a[ids.a], index_b[ids.b]
    pairs = np.unique(np.stack((of_a, of_b)), axis=1).T.tolist()
    moved = [(names_a[i], names_b[j], ids.b[(of_a == i) & (of_b == j)]) for i, j in pairs if names_a[i] != names_b[j]]
    return {
        "counts": [
            {"name": name, "a": counts_a.get(name, 0), "b": counts_b.get(name, 0)}
            for name in dict.fromkeys([*counts_a, *counts_b])
        ],
        "moves": [
            {"a": name_a, "b": name_b, "tokens": lists.list_b(np.sort(moved_ids), MAX_TOKENS_OF_EVENT)}
            for name_a, name_b, moved_ids in sorted(moved, key=lambda move: -len(move[2]))
        ],
    }


def valid_ids_entry(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap, lists: TokenLists, untold: list[str]
) -> ValidIdsDifference | None:
    valid_a, valid_b = a.tensor("valid_ids", "valid_ids"), b.tensor("valid_ids", "valid_ids")
    if valid_a is None or valid_b is None:
        untold.append(f"which ids became valid: {lacking('valid_ids', a, b)}")
        return None
    before, now = valid_a[ids.a].astype(bool), valid_b[ids.b].astype(bool)
    return {
        "counts": [int(valid_a.sum()), int(valid_b.sum())],
        "became_valid": lists.list_b(np.sort(ids.b[now & ~before])),
        "became_invalid": lists.list_b(np.sort(ids.b[before & ~now])),
    }
