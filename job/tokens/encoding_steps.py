"""The steps of a tokenizer before its model, as values: each has a type and settings."""

import json
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

Step = Mapping[str, object]
"""A normaliser or pre-tokenizer as the library writes it in JSON."""

SPACE: Final = "▁"
"""The character for a space in SentencePiece's vocabularies."""


def steps(component: "Normalizer | PreTokenizer | None", inner: str) -> list[Step]:
    """The steps of a normaliser or pre-tokenizer, in order. ``inner``: the name of a sequence's list of them."""
    if component is None:
        return []
    # The library gives no other access to the settings of all types; pickle uses the same.
    return _flat(cast("Step", json.loads(component.__getstate__())), inner)


def _flat(step: Step, inner: str) -> list[Step]:
    if step["type"] != "Sequence":
        return [step]
    return [flat for part in cast("list[Step]", step[inner]) for flat in _flat(part, inner)]


def has_type(step: Step, types: Set[str]) -> bool:
    return step["type"] in types


def setting(step: Step, name: str) -> str:
    """A setting as text; empty if the step has none of this name, or it is a regular expression or false."""
    value = step.get(name)
    if isinstance(value, dict):
        value = value.get("String")
    return str(value) if value else ""


def regular_expression(step: Step) -> str:
    """The regular expression that the step looks for; empty if it has none."""
    pattern = step.get("pattern")
    return str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""


def normalizer_of(step: Step) -> "Normalizer":
    from tokenizers import normalizers

    normalizer: Normalizer = normalizers.NFC()
    normalizer.__setstate__(json.dumps(step).encode())
    return normalizer


def pre_tokenizer_of(step: Step) -> "PreTokenizer":
    from tokenizers import pre_tokenizers

    pre_tokenizer: PreTokenizer = pre_tokenizers.BertPreTokenizer()
    pre_tokenizer.__setstate__(json.dumps(step).encode())
    return pre_tokenizer
