"""The script that installs packages, with real interpreters, a real pip, and small packages of our own making."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements" / "install.sh"
PYTHON = str(sys._base_executable)  # type: ignore[attr-defined]  # not this environment's own
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
N_FILES = 5000
"""So many that pip is at work on them for a second."""
NBYTES = 3_000_000
MAX_NBYTES = 1_000_000
"""A file of a package, and the size at which the system is made to refuse files."""
Result = subprocess.CompletedProcess[str]


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """A package; its line in a lock file. What says that it is installed comes first in it, as wheels may have it."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    described = {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    listed = "".join(f"{member},,\n" for member in (*described, *files, record)).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**described, **files, record: listed}.items():
            archive.writestr(member, content)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside lock files of small packages, and the packages."""
    folder = tmp_path_factory.mktemp("packages")
    contents = {
        "torch": {"torch.py": b""},
        "run": {"small.py": b""},
        "dev": {f"many/f{number}.py": b"" for number in range(N_FILES)},
        "examples": {"large/zeros": bytes(NBYTES), "large/__init__.py": b""},
    }
    for name, files in contents.items():
        (folder / f"{name}.txt").write_text(write_wheel(folder, f"{name}-package".replace("-", "_"), files))
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture(scope="module")
def whole_venv(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the set `run`, to be copied."""
    venv = tmp_path_factory.mktemp("venvs") / "whole"
    assert install(packages, venv, "run", PYTHON=PYTHON).returncode == 0
    return venv


@pytest.fixture
def venv(whole_venv: Path, tmp_path: Path) -> Path:
    """An environment of the test's own with the set `run`."""
    return Path(shutil.copytree(whole_venv, tmp_path / "venv", symlinks=True))


def command(packages: Path, venv: Path, *sets: str) -> list[str]:
    return ["sh", str(packages / "install.sh"), str(venv), *sets]


def environment(packages: Path, **variables: str) -> dict[str, str]:
    """No index: the packages alone, torch too."""
    given = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "HOME": str(packages)}
    return {**given, "PIP_NO_CACHE_DIR": "1", "TORCH_INDEX_URL": packages.as_uri(), **variables}


def install(packages: Path, venv: Path, *sets: str, **variables: str) -> Result:
    return subprocess.run(
        command(packages, venv, *sets),
        env=environment(packages, **variables),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def kill_when(packages: Path, venv: Path, *sets: str, seen: Callable[[], bool]) -> None:
    """Install, and kill it with all its children as soon as something is seen."""
    with subprocess.Popen(
        command(packages, venv, *sets),
        env=environment(packages, PYTHON=PYTHON),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not seen():
            assert process.poll() is None
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)


def site_packages(venv: Path) -> Path:
    return venv / "lib" / VERSION / "site-packages"


def has_all_files(venv: Path) -> bool:
    return len(list(site_packages(venv).glob("many/*.py"))) == N_FILES


def base_prefix(venv: Path) -> str:
    asked = [str(venv / "bin" / "python"), "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def pretended(folder: Path, script: str) -> Path:
    """A Python that is none."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Another Python than that of the tests: a copy of it in another place."""
    place = tmp_path / "other"
    (place / "bin").mkdir(parents=True)
    (place / "lib").mkdir()
    shutil.copy(Path(PYTHON).resolve(), place / "bin" / "python3")
    (place / "lib" / VERSION).symlink_to(sysconfig.get_path("stdlib"))
    return place / "bin" / "python3"


OLD = 'case "$1" in --version) echo Python 3.9.18 ;; *) exit 1 ;; esac'


def test_a_python_too_old_is_refused_with_what_was_found_and_what_to_do(packages: Path, tmp_path: Path) -> None:
    python = pretended(tmp_path, OLD)
    result = install(packages, tmp_path / "venv", "run", PYTHON=str(python))
    assert result.returncode == 1
    assert f"{python}: found Python 3.9.18, expected Python 3.11 to 3.14" in result.stderr
    assert "make PYTHON=" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_refused_with_what_to_install(packages: Path, tmp_path: Path) -> None:
    python = pretended(tmp_path, 'case "$2" in *ensurepip*) exit 1 ;; esac')
    result = install(packages, tmp_path / "venv", "run", PYTHON=str(python))
    assert result.returncode == 1
    assert "apt install python3-venv" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_set_is_not_installed_again_until_its_lock_file_changes(packages: Path, venv: Path, tmp_path: Path) -> None:
    assert (site_packages(venv) / "small.py").exists()
    (tmp_path / "venv.lock").mkdir()  # nothing can be written there, as in a read-only folder
    again = install(packages, venv, "run")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (tmp_path / "venv.lock").rmdir()
    changed = Path(shutil.copytree(packages, tmp_path / "changed"))
    with (changed / "run.txt").open("a") as file:
        file.write("# another lock file\n")
    result = install(changed, venv, "run")
    assert result.stdout.startswith("  run: 1 packages …"), result.stderr
    assert result.stdout.count("\n") == 1


def test_an_environment_of_another_python_than_the_one_named_is_made_anew(
    packages: Path, venv: Path, other_python: Path
) -> None:
    result = install(packages, venv, "run", PYTHON=str(other_python))
    assert result.returncode == 0, result.stderr
    assert f"{venv}: it was made with another Python than {other_python}; making it anew" in result.stdout
    assert base_prefix(venv) == str(other_python.parents[1])
    assert (site_packages(venv) / "small.py").exists()
    for same in ({"PYTHON": str(other_python)}, {"PYTHON": str(venv / "bin" / "python")}, {}):
        assert install(packages, venv, "run", **same).stdout == ""


def test_a_python_that_is_refused_costs_no_environment(packages: Path, venv: Path, tmp_path: Path) -> None:
    result = install(packages, venv, "run", PYTHON=str(pretended(tmp_path, OLD)))
    assert (result.returncode, result.stdout) == (1, "")
    assert install(packages, venv, "run").stdout == ""


def test_an_environment_whose_python_was_replaced_is_made_anew(packages: Path, venv: Path, other_python: Path) -> None:
    (venv / "pyvenv.cfg").write_text(f"home = {other_python.parent}\n")
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(other_python)
    result = install(packages, venv, "run", PATH=f"{Path(PYTHON).parent}:/usr/bin:/bin")
    assert result.returncode == 0, result.stderr
    assert "its Python has changed; making it anew" in result.stdout
    assert base_prefix(venv) != str(other_python.parents[1])


def test_an_environment_is_made_anew_after_a_kill_while_it_was_made(packages: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    kill_when(packages, venv, "run", seen=(venv / "bin" / "python").exists)
    result = install(packages, venv, "run", PYTHON=PYTHON)
    assert result.returncode == 0, result.stderr + result.stdout
    assert (site_packages(venv) / "small.py").exists()


def test_no_half_of_a_package_passes_for_installed_after_a_kill(packages: Path, venv: Path) -> None:
    kill_when(packages, venv, "dev", seen=(site_packages(venv) / "many" / "f9.py").exists)
    assert not has_all_files(venv)
    result = install(packages, venv, "dev", PYTHON=PYTHON)
    assert result.returncode == 0, result.stderr
    assert "an installation into it was not finished; making it anew" in result.stdout
    assert has_all_files(venv)


def test_no_half_of_a_package_passes_for_installed_after_a_full_disk(packages: Path, venv: Path) -> None:
    failed = subprocess.run(
        command(packages, venv, "examples"),
        env=environment(packages, PYTHON=PYTHON),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_NBYTES, MAX_NBYTES)),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert failed.returncode == 1
    assert "File too large" in failed.stderr
    assert install(packages, venv, "examples", PYTHON=PYTHON).returncode == 0
    assert (site_packages(venv) / "large" / "zeros").stat().st_size == NBYTES


def test_an_index_that_fails_costs_nothing_that_is_installed(packages: Path, venv: Path, tmp_path: Path) -> None:
    failed = install(packages, venv, "dev", PIP_FIND_LINKS=str(tmp_path))
    assert failed.returncode == 1
    assert "dev: pip could not install" in failed.stderr
    result = install(packages, venv, "run", "dev")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("  dev: 1 packages …")
    assert has_all_files(venv)


def test_two_at_once_install_one_after_the_other(packages: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    both = [
        subprocess.Popen(
            command(packages, venv, "run", "dev"),
            env=environment(packages, PYTHON=PYTHON),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(output.count("a virtual environment with") for output in outputs) == 1
    assert sum("waiting for another process that installs into it" in output for output in outputs) == 1
    assert has_all_files(venv)
