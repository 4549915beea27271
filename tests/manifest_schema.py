"""docs/manifest.schema.json, which every manifest that a test makes is held to."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.documentation import ROOT

NAMES = ("manifest.json", "latest.json")


@cache
def _validator() -> Any:
    """The schema, for which a field is wrong too that it does not name: what is written is what is documented."""
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text("utf-8"))
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def errors_in(manifests: Iterable[tuple[str, bytes]]) -> list[str]:
    """What is wrong with manifests, each with where it is: nothing, if all are valid."""
    return [f"{where}: {error}" for where, content in manifests for error in _errors(content)]


@cache  # latest.json is mostly the same as a manifest.json
def _errors(content: bytes) -> list[str]:
    try:
        return [f"{error.json_path}: {error.message:.200}" for error in _validator().iter_errors(json.loads(content))]
    except (ValueError, RecursionError) as error:
        return [f"is not JSON: {error}"]
