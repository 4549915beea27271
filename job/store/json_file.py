"""Writes the JSON files that are published. The JSON is valid for all texts and numbers."""

import json
import math
from collections.abc import Mapping


def to_json(value: Mapping[str, object]) -> bytes:
    """The value as indented JSON. NaN and infinity become null, and lone surrogates become escapes."""
    return json.dumps(json_value(value), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def json_value(value: object) -> object:
    """The value as JSON can have it: what ``to_json`` writes, before it is written."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value
