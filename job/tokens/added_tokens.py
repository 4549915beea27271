"""What a tokenizer's JSON files state of added and special tokens."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_ADDED_TOKENS: Final = re.compile(r'"added_tokens"\s*:\s*\[')
_LARGE_FILE: Final = 1_000_000
_NAMED: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Settings of tokenizer_config.json and special_tokens_map.json that name a special token."""


def stated_ids(path: Path) -> dict[str, int]:
    """The ids that tokenizer.json, tokenizer_config.json or added_tokens.json gives to added tokens."""
    parsed = read_object(path)
    if path.name == "tokenizer.json":
        listed = parsed.get("added_tokens")
        items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        return _valid_ids((item.get("content"), item.get("id")) for item in items)
    if path.name == "tokenizer_config.json":
        return _valid_ids((entry.get("content"), id) for id, entry in _decoder_entries(parsed))
    return _valid_ids(parsed.items())


def ids_stated_beside(folder: Path) -> dict[str, int]:
    """The ids that the files beside a vocabulary give to added tokens. transformers prefers tokenizer_config.json."""
    return stated_ids(folder / "added_tokens.json") | stated_ids(folder / "tokenizer_config.json")


def flags_stated_beside(folder: Path) -> dict[str, bool]:
    """Whether tokenizer_config.json calls a token special, by the token."""
    entries = [entry for _, entry in _decoder_entries(read_object(folder / "tokenizer_config.json"))]
    return {str(entry.get("content")): entry.get("special") is True for entry in entries}


def names_of_special_tokens(folder: Path) -> frozenset[str]:
    """The tokens that the files beside a vocabulary name for a special purpose: the end of a text, padding, …"""
    named: set[str] = set()
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        parsed = read_object(folder / file)
        more = parsed.get("additional_special_tokens")
        for value in [*(parsed.get(name) for name in _NAMED), *(more if isinstance(more, list) else ())]:
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                named.add(content)
    return frozenset(named)


def disputed_ids(stated: Mapping[str, int], loaded: Mapping[str, int]) -> set[int]:
    """The ids of added tokens that the library gives another id than the file does: it gives them the next free ids.
    Nothing says which of both the model was trained with."""
    differing = {token for token, id in stated.items() if loaded.get(token) not in (None, id)}
    return {stated[token] for token in differing} | {loaded[token] for token in differing}


def read_object(path: Path) -> dict[str, object]:
    """A JSON file with an object; empty if there is no such file, or it holds something else. Of a large one with a
    list of added tokens only that list: all of it takes 20 times its size."""
    if not path.exists():
        return {}
    text = path.read_text("utf-8")
    lists = list(_ADDED_TOKENS.finditer(text))
    if len(lists) == 1 and len(text) >= _LARGE_FILE:
        # The quote before the colon ends a string, because one within a string has a backslash before it.
        return {"added_tokens": json.JSONDecoder().raw_decode(text, lists[0].end() - 1)[0]}
    parsed = json.loads(text)
    return parsed if isinstance(parsed, dict) else {}


def _decoder_entries(config: Mapping[str, object]) -> list[tuple[int, dict[str, object]]]:
    """The entries of ``added_tokens_decoder`` in tokenizer_config.json, with their ids."""
    decoder = config.get("added_tokens_decoder")
    items = decoder.items() if isinstance(decoder, dict) else ()
    return [(int(id), entry) for id, entry in items if isinstance(entry, dict) and id.isascii() and id.isdigit()]


def _valid_ids(pairs: Iterable[tuple[object, object]]) -> dict[str, int]:
    return {
        token: id
        for token, id in pairs
        if isinstance(token, str) and token and isinstance(id, int) and type(id) is int and 0 <= id < 1 << 32
    }
