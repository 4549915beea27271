"""Loads ``tekken.json``, Mistral's tokenizer file.

The format: https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/tokens/tokenizers/tekken.py
"""

import binascii
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from job.tokens.ranked_bytes import AddedNames, Splitting, from_ranks
from job.tokens.tokenizer import Tokenizer, TokenizerUnusable, number_of_ids

_FIRST_NAMES: Final = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
"""The special tokens of a file that lists none, which only those up to version 7 may do."""
_LAST_VERSION_WITHOUT_NAMES: Final = 7


def load_tekken(path: Path) -> Tokenizer:
    """The tokenizer of tekken.json: special tokens first, then ranked bytes.

    Raises:
        TokenizerUnusable: the file is not as Mistral's library reads it.
    """
    parsed = json.loads(path.read_text("utf-8"))
    config = parsed.get("config") if isinstance(parsed, dict) else None
    if not isinstance(config, dict) or not isinstance(parsed.get("vocab"), list):
        raise _unexpected("no config and vocab")
    pattern, vocab_size, n_special = (
        config.get(name) for name in ("pattern", "default_vocab_size", "default_num_special_tokens")
    )
    if not isinstance(pattern, str) or type(vocab_size) is not int or type(n_special) is not int:
        raise _unexpected("a config without pattern, default_vocab_size or default_num_special_tokens")
    n_ranked = vocab_size - n_special
    if n_special < 0 or not 0 < n_ranked <= len(parsed["vocab"]):
        raise _unexpected(f"{n_special:,} special tokens of {vocab_size:,}, and {len(parsed['vocab']):,} others")
    number_of_ids([vocab_size - 1])
    tokens = {n_special + rank: token for rank, token in enumerate(_tokens(parsed["vocab"][:n_ranked]))}
    added = _special_tokens(parsed.get("special_tokens"), str(config.get("version")), n_special)
    return from_ranks("tekken", tokens, added, Splitting(pattern))


def _tokens(vocab: list[object]) -> list[bytes]:
    """The bytes of the tokens by rank."""
    tokens = []
    for rank, entry in enumerate(vocab):
        found = entry if isinstance(entry, dict) else {}
        try:
            token = binascii.a2b_base64(found.get("token_bytes", ""), strict_mode=True)
        except (ValueError, TypeError):
            token = b""
        if found.get("rank") != rank or not token:
            raise _unexpected(f"{entry!r:.80} for rank {rank:,}")
        tokens.append(token)
    if len(set(tokens)) < len(tokens):
        raise _unexpected("a token twice")
    return tokens


def _special_tokens(listed: object, version: str, n_special: int) -> AddedNames:
    """The names of the first ids. Those that have none are called by their number."""
    if listed is None:
        number = re.match(r"v(\d+)", version)
        if not number or int(number[1]) > _LAST_VERSION_WITHOUT_NAMES:
            raise _unexpected(f"version {version[:80]} without special_tokens")
        named = dict(enumerate(_FIRST_NAMES))
        control = frozenset(named)
    else:
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        named = {id: entry.get("token_str", "") for id, entry in enumerate(entries) if entry.get("rank") == id}
        if not isinstance(listed, list) or len(named) < len(listed) or not all(map(_is_name, named.values())):
            raise _unexpected("special_tokens that are not all a name and the next rank")
        control = frozenset(id for id, entry in enumerate(entries) if entry.get("is_control") is not False)
    if len(named) > n_special or len(set(named.values())) < len(named):
        raise _unexpected(f"{len(named):,} special tokens, {len(set(named.values())):,} of them different")
    unused = frozenset(range(len(named), n_special))
    names = cast("Mapping[int, str]", named | {id: f"<SPECIAL_{id}>" for id in sorted(unused)})
    return AddedNames(names, control | unused, unused)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


def _unexpected(found: str) -> TokenizerUnusable:
    return TokenizerUnusable(
        f"tekken.json: found {found}, expected what Mistral's library writes; get the file again, or a tokenizer.json"
    )
