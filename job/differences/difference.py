"""Compares two published surveys: reads both, and says how they differ."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from job.differences.holes import FATES, HoleEvent, Holes, compare_holes
from job.differences.ids import IdMap, Ids, map_by_token, map_same_ids
from job.differences.numbers import QUANTILES, compare_centroids, compare_norms
from job.differences.published_data import PublishedSurvey, TokenTable, read_table
from job.differences.schema import (
    DIFFERENCE_VERSION,
    MAX_EVENTS,
    MAX_NORMS,
    MAX_TOKENS,
    MAX_TOKENS_OF_EVENT,
    CentroidDifference,
    ClassesDifference,
    DifferentToken,
    HoleEventEntry,
    HolesDifference,
    IdsDifference,
    NormsDifference,
    SurveyDifference,
    SurveyName,
    TokenizerDifference,
    TokenList,
    ValidIdsDifference,
    WDifference,
)
from job.differences.statistics import side_by_side
from job.manifest.schema import TokenizerEntry

RowsOfW = Literal["compare rows", "skip rows"]
"""Whether the rows of W are compared one by one, for which both are read, if the two are not the same."""

SKIPPED_ROWS = (
    "which rows of W are the same is not told here, because both W would be read; the command compare tells it"
)


@dataclass
class _Texts:
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


class _Naming:
    """Makes lists of tokens, given as ids of A or of B."""

    def __init__(self, ids: IdMap, n_rows_a: int, n_rows_b: int, texts: _Texts) -> None:
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


def compare_surveys(a: PublishedSurvey, b: PublishedSurvey, rows_of_w: RowsOfW) -> SurveyDifference:
    """How survey B differs from survey A.

    Raises:
        TransientError: what is published is damaged, or the store fails.
        ConfigError: the store refuses to be read.
    """
    untold: list[str] = []
    tables = read_table(a), read_table(b)
    tokenizer, ids = _compare_tokenizers(a, b, *tables, untold)
    w = _compare_w(a, b, ids, rows_of_w, untold)
    centroid = _compare_centroids(a, b, untold)
    difference: SurveyDifference = {
        "schema_version": DIFFERENCE_VERSION,
        "changed": False,
        "a": _name(a),
        "b": _name(b),
        "cannot_be_told": untold,
        "statistics": side_by_side(a.manifest, b.manifest),
        "w": w,
        "tokenizer": tokenizer,
        "ids": None,
        "holes": None,
        "centroid": centroid,
        "norms": None,
        "classes": None,
        "valid_ids": None,
    }
    if ids is not None:
        texts = _Texts()
        naming = _Naming(ids, a.n_rows, b.n_rows, texts)
        difference["ids"] = _ids_entry(ids, naming)
        difference["holes"] = _compare_holes(a, b, ids, naming, untold)
        difference["norms"] = _compare_norms(*tables, ids, naming, untold)
        difference["classes"] = _compare_classes(*tables, ids, naming, untold)
        difference["valid_ids"] = _compare_valid_ids(a, b, ids, naming, untold)
        texts.fill(*tables)
    difference["changed"] = _is_changed(difference)
    return difference


def _name(survey: PublishedSurvey) -> SurveyName:
    manifest = survey.manifest
    return {
        "model": manifest["model"],
        "commit": manifest["commit"],
        "revision": manifest.get("revision"),
        "published_at": manifest["published_at"],
        "folder": survey.folder,
        "tensor": manifest["tensor"]["name"],
    }


def _is_changed(difference: SurveyDifference) -> bool:
    """Whether anything differs. All that follows from W alone is the same if W is."""
    w, tokenizer, classes = difference["w"], difference["tokenizer"], difference["classes"]
    valid = difference["valid_ids"]
    return (
        not w["same"]
        or tokenizer["same"] is False
        or (tokenizer["same"] is None and not tokenizer["same_files"])
        or (classes is not None and any(count["a"] != count["b"] for count in classes["counts"]))
        or (classes is not None and bool(classes["moves"]))
        or (valid is not None and bool(valid["became_valid"]["count"] or valid["became_invalid"]["count"]))
    )


def _compare_tokenizers(
    a: PublishedSurvey,
    b: PublishedSurvey,
    table_a: TokenTable | None,
    table_b: TokenTable | None,
    untold: list[str],
) -> tuple[TokenizerDifference, IdMap | None]:
    """Whether the tokens are the same, and how ids map; None if that cannot be told."""
    entry_a, entry_b = a.manifest["tokenizer"], b.manifest["tokenizer"]
    same_files = entry_a["files"] == entry_b["files"]
    by_id = map_same_ids(a.n_rows, b.n_rows)
    found: TokenizerDifference = {
        "same": None,
        "evidence": "",
        "same_files": same_files,
        "kind": [entry_a.get("kind"), entry_b.get("kind")],
        "n_tokens": [entry_a.get("n_tokens"), entry_b.get("n_tokens")],
    }
    if not entry_a["files"] and not entry_b["files"] and not _has_tokens(entry_a) and not _has_tokens(entry_b):
        found["evidence"] = "neither has a tokenizer, so rows are compared by their index"
        return found, by_id
    if same_files and entry_a["files"]:
        return {**found, "same": True, "evidence": "the files of the tokenizer are the same"}, by_id
    if _has_tokens(entry_a) != _has_tokens(entry_b):
        found |= {"same": False, "evidence": f"only {'A' if _has_tokens(entry_a) else 'B'} names its tokens"}
        untold.append("how ids map: " + found["evidence"])
        return found, None
    if not (table_a and table_b and table_a.names_tokens and table_b.names_tokens):
        found["evidence"] = "the files of the tokenizer differ, and not both surveys publish their tokens"
        untold.append(f"how ids map: {found['evidence']} (TENSORS with tokens does)")
        return found, None
    spellings_a, spellings_b = table_a.spellings(), table_b.spellings()
    n_both = min(a.n_rows, b.n_rows)
    rest = [*spellings_a.pieces[n_both:], *spellings_b.pieces[n_both:]]
    if (
        spellings_a.pieces[:n_both] == spellings_b.pieces[:n_both]
        and spellings_a.token_bytes[:n_both] == spellings_b.token_bytes[:n_both]
        and not any(piece is not None for piece in rest)
    ):
        evidence = "the files of the tokenizer differ, but each id has the same piece and bytes"
        return {**found, "same": True, "evidence": evidence}, by_id
    return {**found, "same": False, "evidence": "ids have other tokens"}, map_by_token(spellings_a, spellings_b)


def _has_tokens(entry: TokenizerEntry) -> bool:
    return "kind" in entry


def _compare_w(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap | None, rows_of_w: RowsOfW, untold: list[str]
) -> WDifference:
    sha256 = [a.manifest["w_sha256"], b.manifest["w_sha256"]]
    tensors = a.manifest["tensor"], b.manifest["tensor"]
    is_same = sha256[0] == sha256[1] and tensors[0]["shape"] == tensors[1]["shape"]
    is_same = is_same and tensors[0]["dtype"] == tensors[1]["dtype"]
    found: WDifference = {"same": is_same, "sha256": sha256, "same_rows": None, "compared_rows": None}
    if ids is None:
        return found
    if is_same and ids.by == "id":
        return {**found, "same_rows": len(ids.a), "compared_rows": len(ids.a)}
    reason = _why_no_rows(a, b, rows_of_w)
    if reason:
        untold.append(reason)
        return found
    digests_a, digests_b = a.row_digests(), b.row_digests()
    same_rows = int((digests_a[ids.a] == digests_b[ids.b]).sum())
    return {**found, "same_rows": same_rows, "compared_rows": len(ids.a)}


def _why_no_rows(a: PublishedSurvey, b: PublishedSurvey, rows_of_w: RowsOfW) -> str | None:
    """Why rows of W are not compared one by one; None if they can be."""
    dtypes, shapes = ([survey.manifest["tensor"][name] for survey in (a, b)] for name in ("dtype", "shape"))
    if dtypes[0] != dtypes[1]:
        return f"which rows of W are the same: A has {dtypes[0]}, B has {dtypes[1]}"
    if shapes[0][1:] != shapes[1][1:]:
        return f"which rows of W are the same: A has rows of {shapes[0][1]:,} columns, B of {shapes[1][1]:,}"
    if lacking := _lacking("W", a, b):
        return f"which rows of W are the same: {lacking}"
    return SKIPPED_ROWS if rows_of_w == "skip rows" else None


def _lacking(artifact: str, a: PublishedSurvey, b: PublishedSurvey) -> str:
    """Which survey does not publish an artifact; empty if both do."""
    names = [name for name, survey in (("A", a), ("B", b)) if not survey.has(artifact)]
    verb = "do not publish" if len(names) > 1 else "does not publish"
    return f"{' and '.join(names)} {verb} {artifact}" if names else ""


def _compare_centroids(a: PublishedSurvey, b: PublishedSurvey, untold: list[str]) -> CentroidDifference | None:
    columns = [survey.manifest["tensor"]["shape"][1] for survey in (a, b)]
    if columns[0] != columns[1]:
        untold.append(f"how far the centroid moved: the hidden sizes are {columns[0]:,} and {columns[1]:,}")
        return None
    mu_a, mu_b = a.tensor("mu", "mu"), b.tensor("mu", "mu")
    if mu_a is None or mu_b is None:
        untold.append(f"how far the centroid moved: {_lacking('mu', a, b)}")
        return None
    found = compare_centroids(mu_a.astype(np.float32), mu_b.astype(np.float32))
    return {
        "shift": _finite(found.shift),
        "angle_degrees": _finite(found.angle_degrees),
        "norms": [_finite(found.norm_a), _finite(found.norm_b)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ids_entry(ids: IdMap, naming: _Naming) -> IdsDifference:
    return {
        "by": ids.by,
        "mapped": len(ids.a),
        "moved": ids.n_moved,
        "only_a": naming.list_a(ids.only_a),
        "only_b": naming.list_b(ids.only_b),
        "ambiguous": [len(ids.ambiguous_a), len(ids.ambiguous_b)],
        "without_token": [len(ids.without_token_a), len(ids.without_token_b)],
    }


def _compare_holes(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap, naming: _Naming, untold: list[str]
) -> HolesDifference | None:
    holes_a, holes_b = a.holes(), b.holes()
    if holes_a is None or holes_b is None:
        untold.append(
            f"what became of the black holes: {_lacking('black_holes', a, b)}, and the manifest lists not all"
        )
        return None
    changes = compare_holes(holes_a, holes_b, ids)
    changed_first = sorted(changes.events, key=lambda event: event.fate == "kept")
    return {
        "fates": {fate: sum(event.fate == fate for event in changes.events) for fate in FATES},
        "events": _events(changed_first[:MAX_EVENTS], holes_a, holes_b, naming),
        "entered": naming.list_b(changes.entered),
        "left": naming.list_a(changes.left),
        "unmapped_a": naming.list_a(changes.unmapped_a),
        "unmapped_b": naming.list_b(changes.unmapped_b),
    }


def _events(events: Sequence[HoleEvent], holes_a: Holes, holes_b: Holes, naming: _Naming) -> list[HoleEventEntry]:
    first_a, first_b = _first_members(holes_a), _first_members(holes_b)

    def examples(event: HoleEvent) -> list[DifferentToken]:
        """The lowest numbers are those of the largest holes."""
        if event.b:
            return [naming.of_b(id) for id in first_b[event.b[0]]]
        return [naming.of_a(id) for id in first_a[event.a[0]]]

    return [
        {
            "fate": event.fate,
            "a": list(event.a),
            "b": list(event.b),
            "rows": [event.n_a, event.n_b],
            "entered": naming.list_b(event.entered, MAX_TOKENS_OF_EVENT),
            "left": naming.list_a(event.left, MAX_TOKENS_OF_EVENT),
            "examples": examples(event),
        }
        for event in events
    ]


def _first_members(holes: Holes, n_members: int = 8) -> list[list[int]]:
    """The first rows of each hole, by its number; of 0, none."""
    in_holes = np.flatnonzero(holes)
    order = in_holes[np.argsort(holes[in_holes], kind="stable")]
    ends = np.cumsum(np.bincount(holes[order], minlength=int(holes.max(initial=0)) + 1))
    return [[], *(order[begin:end][:n_members].tolist() for begin, end in pairwise(ends))]


def _compare_norms(
    table_a: TokenTable | None, table_b: TokenTable | None, ids: IdMap, naming: _Naming, untold: list[str]
) -> dict[Literal["norm", "gamma_norm"], NormsDifference] | None:
    if table_a is None or table_b is None:
        names = [name for name, table in (("A", table_a), ("B", table_b)) if table is None]
        untold.append(f"which norms changed: no tokens are published of {' and '.join(names)}")
        return None
    return {
        "norm": _norms_entry(table_a.norm, table_b.norm, ids, naming),
        "gamma_norm": _norms_entry(table_a.gamma_norm, table_b.gamma_norm, ids, naming),
    }


def _norms_entry(
    norms_a: NDArray[np.float32], norms_b: NDArray[np.float32], ids: IdMap, naming: _Naming
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
                "token": naming.of_b(int(ids.b[row])),
                "before": float(a[row]),
                "after": float(b[row]),
                "change": float(b[row]) - float(a[row]),
            }
            for row in found.most.tolist()
        ],
    }


def _compare_classes(
    table_a: TokenTable | None, table_b: TokenTable | None, ids: IdMap, naming: _Naming, untold: list[str]
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
            {"a": name_a, "b": name_b, "tokens": naming.list_b(np.sort(moved_ids), MAX_TOKENS_OF_EVENT)}
            for name_a, name_b, moved_ids in sorted(moved, key=lambda move: -len(move[2]))
        ],
    }


def _compare_valid_ids(
    a: PublishedSurvey, b: PublishedSurvey, ids: IdMap, naming: _Naming, untold: list[str]
) -> ValidIdsDifference | None:
    valid_a, valid_b = a.tensor("valid_ids", "valid_ids"), b.tensor("valid_ids", "valid_ids")
    if valid_a is None or valid_b is None:
        untold.append(f"which ids became valid: {_lacking('valid_ids', a, b)}")
        return None
    before, now = valid_a[ids.a].astype(bool), valid_b[ids.b].astype(bool)
    return {
        "counts": [int(valid_a.sum()), int(valid_b.sum())],
        "became_valid": naming.list_b(np.sort(ids.b[now & ~before])),
        "became_invalid": naming.list_b(np.sort(ids.b[before & ~now])),
    }


def is_surely_unchanged(a: Mapping[str, object], b: Mapping[str, object]) -> bool:
    """Whether two manifests alone show that nothing changed: the same W, and the same files of the tokenizer."""
    fields: Iterable[str] = ("w_sha256", "tokenizer", "token_counts")
    return all(a.get(name) == b.get(name) for name in fields)
