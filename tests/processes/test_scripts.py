"""What make heeds, and the script that builds the image, as far as they need no network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from job.command_line.options import environment_of
from job.settings import Settings

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
Result = subprocess.CompletedProcess[str]


def make(*arguments: str, **environment: str) -> Result:
    """What make would do; it does nothing."""
    command = ["make", "-n", *arguments]
    environment |= {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


UNHEEDED = {
    "MODEL=x": "MODEL: found a variable that nothing heeds, expected MODELS or",
    "models=a/b": "models: .* expected MODELS or",
    "MODELFILE=list.txt": "MODELFILE: .* expected MODELS_FILE or",
    "OUT=s3://bucket/x": "OUT: .* expected OUTPUT or",
    "TENSOR=W": "TENSOR: .* expected TENSORS or",
    "MODELS=": "MODELS: found no model in it, expected one or more",
    "MODELS= ": "MODELS: found no model in it",
    "MODELS_FILE=": "MODELS_FILE: found no model in it",
}


@pytest.mark.parametrize(("argument", "message"), UNHEEDED.items(), ids=UNHEEDED)
def test_make_does_not_survey_the_examples_for_a_variable_that_is_misspelt_or_empty(
    argument: str, message: str
) -> None:
    result = make("run", argument)
    assert result.returncode == 2
    assert re.search(message, result.stderr)
    assert "install.sh" not in result.stdout


@pytest.mark.parametrize("name", ["MODELS", "MODELS_FILE", "MODEL", "MODELFILE"])
def test_make_heeds_an_empty_or_misspelt_list_of_the_environment_too(name: str) -> None:
    result = make("run", **{name: "" if name.startswith("MODELS") else "a/b"})
    assert (result.returncode, name in result.stderr, result.stdout) == (2, True, "")
    assert make("unit", **{name: ""}).returncode == 0


def test_make_takes_every_setting() -> None:
    assert make("run", *(f"{name}=1" for name in sorted(environment_of(Settings)))).returncode == 0
    for arguments in (
        ["MODELS=/x/run#3"],
        ["ARGS=plan a/b"],
        ["AWS_ENDPOINT_URL=http://x"],
        ["MODELS_FILE=x", "MODELS="],
    ):
        result = make("run", *arguments)
        assert (result.returncode, "entrypoint.py" in result.stdout) == (0, True), result.stderr
    assert "examples/models.yaml" in make("run").stdout


def build_image(folder: Path, script: str, engine: str = "docker", **environment: str) -> Result:
    """The script in a copy of what it works on, with an engine of our own making, not the other one, and no root."""
    shutil.copy(ROOT / "Dockerfile", folder)
    shutil.copytree(REQUIREMENTS, folder / "requirements")
    shutil.copytree(ROOT / "k8s", folder / "k8s")
    (folder / "bin").mkdir()
    for name, text in {"docker": "exit 1", "podman": "exit 1", "id": "echo 1000", engine: script}.items():
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    environment |= {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}
    command = ["sh", str(folder / "requirements" / "build-image.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


RECORD = f'echo "$@" >>"$0.calls"; case "$3$4" in *--format*) echo {10**9} 10001 ;; esac'


def test_with_docker_the_image_is_built_from_the_base_image_and_the_indexes_that_were_named(tmp_path: Path) -> None:
    secret = "https://user:password@index.example/simple"
    result = build_image(tmp_path, RECORD, BASE_IMAGE="registry.example/python:3.11", PIP_INDEX_URL=secret)
    assert result.returncode == 0, result.stderr
    calls = (tmp_path / "bin" / "docker.calls").read_text()
    (build,) = (call for call in calls.splitlines() if call.startswith("build "))
    assert build.startswith("build -t black-hole-survey ")
    assert "--build-arg BASE_IMAGE=registry.example/python:3.11" in build
    assert "--build-arg PIP_INDEX_URL " in build
    assert "TORCH_INDEX_URL" not in build
    assert "password" not in calls + result.stderr
    assert (tmp_path / ".image" / "engine").read_text() == "docker\n"


def test_where_no_engine_has_the_base_image_and_none_can_be_set_up_it_says_what_would_help(tmp_path: Path) -> None:
    result = build_image(tmp_path, 'case "$1" in pull | image) echo "no such host" >&2; exit 1 ;; esac')
    assert result.returncode == 1
    assert "no such host" in result.stderr
    assert "docker.io/library/python:3.11-slim: found no engine that has it or can pull it" in result.stderr
    assert "make image BASE_IMAGE=" in result.stderr


COMPLETED = {
    "black-hole-survey": "docker.io/library/black-hole-survey:latest",
    "black-hole-survey:1.2": "docker.io/library/black-hole-survey:1.2",
    "team/survey": "docker.io/team/survey:latest",
    "docker.io/survey": "docker.io/library/survey:latest",
    "registry.example/survey:1.2": "registry.example/survey:1.2",
    "registry:5000/survey": "registry:5000/survey:latest",
    "localhost/survey:1.2": "localhost/survey:1.2",
}
"""Names of images, as Kubernetes completes them."""


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize(("image", "completed"), COMPLETED.items(), ids=COMPLETED)
def test_the_image_has_the_name_that_pods_ask_for_and_it_is_said_how_a_cluster_gets_it(
    tmp_path: Path, image: str, completed: str, engine: str
) -> None:
    result = build_image(tmp_path, RECORD, engine, IMAGE=image)
    assert result.returncode == 0, result.stderr
    calls = (tmp_path / "bin" / f"{engine}.calls").read_text()
    assert f"build -t {image} -t {completed} " in calls
    lines = [line.strip() for line in result.stderr.splitlines()]
    assert f"{engine} save {completed} >.image/image.tar" in lines
    assert {"kind load image-archive .image/image.tar", "minikube image load .image/image.tar"} <= set(lines)
    assert any(line.startswith("sudo ctr -n k8s.io images import .image/image.tar") for line in lines)
    name, _, tag = completed.rpartition(":")
    needed = f'newName: {name}, newTag: "{tag}"'
    assert (needed in result.stderr) == (image != "black-hole-survey")
