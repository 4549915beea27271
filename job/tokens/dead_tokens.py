"""dead_tokens.json and valid_ids: the rows that nobody should sample, and those that are free for other uses. Pure."""

import json
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.tokens.classes import CLASSES
from job.tokens.table import RowNumbers, TokenFlags

DEAD_TOKENS_VERSION: Final = 1
"""The ``schema_version`` of dead_tokens.json."""
_BEYOND: Final = CLASSES.index("beyond_tokenizer")

DEFINITIONS: Final[Mapping[str, str]] = {
    "in_black_hole": "The row of W is bit-for-bit identical to at least one other row.",
    "unreachable": "No text encodes to a sequence that holds this id. Ids of which this cannot be told are not listed; "
    "null if it can be told of none.",
    "not_round_tripping": "The text of this id, encoded, does not give this one id back. Ids of which this cannot be "
    "told are not listed; null if it can be told of none.",
    "beyond_tokenizer": "The tokenizer has no token with this id. Null if there is no tokenizer that can be read.",
    "reserved": "The token is kept for later use, by its name or as the tokenizer marks it. Null if there is no "
    "tokenizer that can be read.",
    "reserved_in_black_hole": "The token is reserved, and its row is in a black hole. Null if there is no tokenizer "
    "that can be read.",
}
"""What each list of dead_tokens.json holds."""

Ids = NDArray[np.int64]
"""(n,) int64: ids of tokens, ascending."""


def dead_tokens(numbers: RowNumbers, flags: TokenFlags | None) -> dict[str, Ids | None]:
    """The lists of dead_tokens.json by name; None if nothing tells what a list would hold."""
    in_hole = numbers.hole > 0
    lists: dict[str, NDArray[np.bool_] | None] = dict.fromkeys(DEFINITIONS)
    lists["in_black_hole"] = in_hole
    if flags:
        lists |= {
            "unreachable": _known_false(flags.reachable),
            "not_round_tripping": _known_false(flags.round_trips),
            "beyond_tokenizer": flags.classes == _BEYOND,
            "reserved": flags.is_reserved,
            "reserved_in_black_hole": flags.is_reserved & in_hole,
        }
    return {name: None if rows is None else np.flatnonzero(rows) for name, rows in lists.items()}


def _known_false(values: NDArray[np.int8]) -> NDArray[np.bool_] | None:
    """(n_rows,) bool: where it is false; None if it cannot be told of any row."""
    return values == 0 if (values >= 0).any() else None


def valid_ids(flags: TokenFlags) -> NDArray[np.bool_]:
    """(n_rows,) bool: the rows within the tokenizer that are neither reserved nor known to be unreachable."""
    valid: NDArray[np.bool_] = (flags.classes != _BEYOND) & ~flags.is_reserved & (flags.reachable != 0)
    return valid


def dead_tokens_json(lists: Mapping[str, Ids | None], provenance: Mapping[str, str | int | None]) -> bytes:
    """The content of dead_tokens.json: each list on a line of its own. ``provenance``: model, commit, n_rows, n_tokens,
    w_sha256."""
    ids = {name: None if rows is None else rows.tolist() for name, rows in lists.items()}
    fields = {"schema_version": DEAD_TOKENS_VERSION, **provenance, "ids": ids, "definitions": dict(DEFINITIONS)}
    lines = []
    for name, value in fields.items():
        text = json.dumps(value)
        if isinstance(value, dict):
            items = ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
            text = f"{{\n{items}\n }}"
        lines.append(f" {json.dumps(name)}: {text}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def class_counts(flags: TokenFlags) -> dict[str, int]:
    """The number of rows of each class."""
    counts = np.bincount(flags.classes, minlength=len(CLASSES)).tolist()
    return dict(zip(CLASSES, counts, strict=True))
