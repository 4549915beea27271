"""What is installed: the lock files, and that they are what pyproject.toml pins."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("run", "examples", "dev", "browser")
"""What is installed together. The mirror has an environment of its own."""


def locked(name: str) -> dict[str, str]:
    """A lock file's requirements, by normalised name; a name with a version for each Python has its last one."""
    pins = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE)
    return dict(pins)


def pinned(requirements: list[str]) -> dict[str, str]:
    pairs = (re.sub(r"\[.*\]", "", requirement).split("==") for requirement in requirements)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_every_pin_of_the_project_is_the_one_in_its_lock_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    run = pinned(project["project"]["dependencies"])
    assert run.pop("torch") == "2.13.0"
    assert run.items() <= locked("run").items()
    assert pinned(groups["examples"]).items() <= locked("examples").items()
    assert pinned(groups["browser"]).items() <= locked("browser").items()
    assert pinned(groups["dev"]).items() <= locked("dev").items()
    assert pinned(groups["mirror"]).items() <= locked("mirror").items()


def test_no_package_is_locked_at_two_versions() -> None:
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, version in locked(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", [*LOCKS, "mirror", "torch"])
def test_every_locked_package_has_a_hash_and_none_an_address(name: str) -> None:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    content = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==.* \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in content)
    assert all(after.startswith("    --hash") for line, after in itertools.pairwise(content) if line[0] != " ")


def test_torch_is_a_cpu_build_on_linux_and_no_lock_file_names_a_cuda_package() -> None:
    requirements = re.findall(r"^torch==.*;.*'(\w+)'", (REQUIREMENTS / "torch.txt").read_text(), re.MULTILINE)
    assert requirements == ["linux", "darwin"]
    assert "torch==2.13.0+cpu ; sys_platform == 'linux'" in (REQUIREMENTS / "torch.txt").read_text()
    names = {package for name in LOCKS for package in locked(name)}
    assert not [package for package in names if re.match("torch|nvidia|cuda|triton", package)]
