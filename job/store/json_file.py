"""JSON as it is published: for people and machines, and sound whatever texts and numbers it is made of."""

import json
import math
from collections.abc import Mapping


def to_json(value: Mapping[str, object]) -> bytes:
    """The value as indented JSON. What JSON cannot say is null (NaN, infinity) or an escape (half surrogates)."""
    return json.dumps(_expressible(value), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _expressible(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: _expressible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_expressible(item) for item in value]
    return value
