"""Whether the tokens of two surveys are the same, and how ids map."""

from job.differences.ids import IdMap, map_by_token, map_same_ids
from job.differences.published_data import PublishedSurvey, TokenTable
from job.differences.schema import IdsDifference, TokenizerDifference
from job.differences.token_lists import TokenLists
from job.manifest.schema import TokenizerEntry


def compare_tokenizers(
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
    if spellings_a.agrees_with(spellings_b):
        evidence = "the files of the tokenizer differ, but each id has the same piece and bytes"
        return {**found, "same": True, "evidence": evidence}, by_id
    return {**found, "same": False, "evidence": "some ids stand for other tokens"}, map_by_token(
        spellings_a, spellings_b
    )


def _has_tokens(entry: TokenizerEntry) -> bool:
    return "kind" in entry


def ids_entry(ids: IdMap, lists: TokenLists) -> IdsDifference:
    return {
        "by": ids.by,
        "mapped": len(ids.a),
        "moved": ids.n_moved,
        "only_a": lists.list_a(ids.only_a),
        "only_b": lists.list_b(ids.only_b),
        "ambiguous": [len(ids.ambiguous_a), len(ids.ambiguous_b)],
        "without_token": [len(ids.without_token_a), len(ids.without_token_b)],
    }
