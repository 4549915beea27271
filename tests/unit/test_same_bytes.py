"""What the comparison of two versions calls the same, worded otherwise, and different."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.same_bytes import Difference, compare, fields_of

FOLDER = "org/model/abc"
Files = dict[str, bytes]


def safetensors(name: str, numbers: list[float], metadata: dict[str, str]) -> bytes:
    """A file of one tensor. (The library writes metadata in an order that changes from call to call.)"""
    data = np.array(numbers, np.float32).tobytes()
    tensor = {"dtype": "F32", "shape": [len(numbers)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": metadata, name: tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


def published(
    *,
    mu: float = 1.0,
    w_metadata: dict[str, str] | None = None,
    mu_metadata: dict[str, str] | None = None,
    warnings: tuple[str, ...] = ("too large",),
    change: Callable[[dict[str, Any]], object] = dict,
    page: str = "| surveyed | today |\n| rows | 3 |",
) -> Files:
    """The files of a survey, whose manifest states their sizes and digests."""
    origin = {"model": "org/model", "version": "1", "w_sha256": "e3b0"}
    files = {
        f"{FOLDER}/W.safetensors": safetensors("W", [1.0, 2.0], w_metadata or origin),
        f"{FOLDER}/mu.safetensors": safetensors("mu", [mu, 1.0], mu_metadata or origin),
        f"{FOLDER}/report.md": page.encode(),
    }
    artifacts = {
        key: {"key": key, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for key, content in files.items()
    }
    manifest: dict[str, Any] = {"published_at": "today", "seconds": {"find": 1.5}, "warnings": list(warnings)}
    manifest |= {"statistics": {"mu": {"norm": 1.25}, "rows": 3}, "artifacts": artifacts}
    change(manifest)
    return {**files, f"{FOLDER}/manifest.json": json.dumps(manifest).encode()}


def differences(after: Files) -> list[Difference]:
    before = published()
    facts = [{("model", key): fields_of(key, files) for key in files} for files in (before, after)]
    return list(compare(*facts))


ALLOWED = {
    "times": published(change=lambda manifest: manifest.update(published_at="now", seconds={"locate": 2.0})),
    "how JSON is written": {
        key: json.dumps(json.loads(content), indent=3, sort_keys=True).encode() if key.endswith("json") else content
        for key, content in published().items()
    },
    "the day on the page": published(page="| surveyed | tomorrow |\n| rows | 3 |"),
    "the tool's version": published(mu_metadata={"model": "org/model", "version": "1.10", "w_sha256": "e3b0"}),
    "no digest of W in its own file": published(w_metadata={"model": "org/model", "version": "1"}),
}


@pytest.mark.parametrize("after", ALLOWED.values(), ids=ALLOWED)
def test_what_may_differ_is_allowed(after: Files) -> None:
    assert {difference.verdict for difference in differences(after)} <= {"allowed"}


def test_another_text_of_a_warning_is_no_more_than_that() -> None:
    (found,) = differences(published(warnings=("too long",)))
    assert (found.verdict, found.field, found.after) == ("reworded", "warnings.0", '"too long"')


def _with_blanks(content: bytes) -> bytes:
    """A safetensors file with eight blanks more at the end of its header."""
    length = int.from_bytes(content[:8], "little")
    return (length + 8).to_bytes(8, "little") + content[8 : 8 + length] + b" " * 8 + content[8 + length :]


DIFFERENT = {
    "a number": (published(mu=1.0000001), "tensor mu: 1 of 8 bytes differ"),
    "a statistic": (published(change=lambda manifest: manifest["statistics"].update(rows=3.0)), "statistics.rows"),
    "a new field": (published(change=lambda manifest: manifest.update(extra=None)), "extra: absent → 'null'"),
    "one more warning": (published(warnings=("too large", "odd")), "warnings.1: absent"),
    "no warning": (published(warnings=()), "warnings.0: '\"too large\"' → absent"),
    "a digest that is not the file's": (
        published(change=lambda manifest: manifest["artifacts"][f"{FOLDER}/report.md"].update(sha256="0")),
        "report.md.sha256: '\"true\"' → '\"0\"'",
    ),
    "no digest of W elsewhere": (published(mu_metadata={"model": "org/model", "version": "1"}), "metadata w_sha256"),
    "other metadata": (published(w_metadata={"model": "org/other"}), "metadata model"),
    "a missing file": (
        {key: content for key, content in published().items() if "mu." not in key},
        f"{FOLDER}/mu.safetensors: file: 'sha-256",
    ),
    "a header of the same content, written otherwise": (
        {key: _with_blanks(content) if "mu." in key else content for key, content in published().items()},
        "mu.safetensors: file: 'sha-256",
    ),
}


@pytest.mark.parametrize(("after", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_anything_else_is_different(after: Files, message: str) -> None:
    told = [str(difference) for difference in differences(after) if difference.verdict == "different"]
    assert any(message in line for line in told), told
