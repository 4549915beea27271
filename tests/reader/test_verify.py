"""Damage that ``verify`` finds."""

from pathlib import Path

import pytest

from black_hole_survey import CorruptArtifact, open_surveys
from tests.reader.conftest import Publish

ARTIFACTS = ("W", "mu", "gamma_centered", "black_holes")


def test_a_survey_as_it_was_published_passes(publish: Publish) -> None:
    open_surveys(publish())["local/model"].verify()


@pytest.mark.parametrize("artifact", ARTIFACTS)
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "longer", "missing"])
def test_a_damaged_file_is_named_with_what_was_found_and_expected(publish: Publish, artifact: str, damage: str) -> None:
    folder = publish()
    survey = open_surveys(folder)["local/model"]
    entry = survey.manifest["artifacts"][artifact]
    path = folder / entry["key"]
    content = path.read_bytes()
    expected = damaged(path, content, damage, entry["sha256"])
    with pytest.raises(CorruptArtifact) as refused:
        survey.verify()
    assert str(refused.value).startswith(f"{path}: found ")
    assert all(part in str(refused.value) for part in expected)


def damaged(path: Path, content: bytes, damage: str, sha256: str) -> tuple[str, str]:
    """Damage a file, and return what is found and what is expected of it."""
    size = f"expected {len(content):,} bytes"
    if damage == "missing":
        path.unlink()
        return "found no file", size
    if damage == "flipped bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return "found the SHA-256", f"expected {sha256}"
    path.write_bytes(content[:-1] if damage == "truncated" else content + b"\0")
    return f"found {path.stat().st_size:,} bytes", size
