"""The container engine that `make image` found or set up, and the image that it built."""

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("IMAGE") or "black-hole-survey"
SCRATCH = "/tmp"  # noqa: S108 - the image's
SECONDS = 240
"""For one container; the slowest takes a fifth of it on a machine with nothing else to do."""


def engine() -> tuple[str, ...]:
    """How the engine is called."""
    command = ROOT / ".image" / "engine"
    if not command.exists():
        raise FileNotFoundError(f"{command}: found nothing, expected how to call docker or podman; run `make image`")
    return tuple(shlex.split(command.read_text()))


def is_podman() -> bool:
    return Path(engine()[-1]).name == "podman"


@dataclass(frozen=True)
class Container:
    """The image, to be run with nothing but what is given: a read-only root, no capability, no privilege to gain."""

    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Folders and files of this machine by their place in the container, where ``:ro`` may follow."""
    user: str | None = None
    """None: the image's own."""
    memory: str = "1g"
    network: str = "host"
    """The host's: there the test servers listen."""
    options: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"survey-{uuid.uuid4().hex[:12]}")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The engine's command line."""
        lines = [*engine(), "run", "--rm", "--name", self.name, "--network", self.network, *hardened(), *self.options]
        lines += ["--memory", self.memory, "--memory-swap", self.memory, "--pids-limit", "256"]
        lines += ["--user", self.user] if self.user else []
        lines += pairs("--env", (f"{name}={value}" for name, value in self.environment.items()))
        for target, source in self.mounts.items():
            place, _, mode = target.partition(":")
            lines += ["--volume", f"{source}:{place}:{mode or 'rw'}"]
        return [*lines, IMAGE, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        command = self.command(arguments)
        # Not in the checkout: where a container outgrows its memory, podman leaves a file named oom in the folder.
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=gettempdir(), check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def tell_engine(*arguments: str) -> str:
    """What the engine answers to a command such as ``kill``."""
    return subprocess.run([*engine(), *arguments], capture_output=True, text=True, timeout=60, check=True).stdout


def hardened() -> list[str]:
    """What Kubernetes' "restricted" and a read-only root come to, with nothing of the host's environment passed on."""
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    # Unless told otherwise, podman makes /tmp and a few more places writable under a read-only root.
    return [*options, "--read-only-tmpfs=false", "--http-proxy=false"] if is_podman() else options


def pairs(option: str, values: Iterable[str]) -> list[str]:
    """The option before each value."""
    return [word for value in values for word in (option, value)]


def writable(folder: Path) -> Path:
    """A new folder that any user may write to."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return folder
