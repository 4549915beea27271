"""Lists of models that are made to cost much time or memory."""

from pathlib import Path

import pytest

from job.errors import ConfigError
from job.models.lists import read_list


def test_a_list_that_is_nested_thousands_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.yml"
    path.write_text("[" * 3000)
    with pytest.raises(ConfigError, match="not YAML"):
        read_list(path)
