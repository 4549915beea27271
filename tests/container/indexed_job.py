"""One container for each index of a rendered Indexed Job, started as its pods would be, and again as its policy says.

This shows what the *container* does for each index, with the environment, the volumes and the limits that the manifest
gives it. It does not show what the Job controller does: of that, only what the manifest's own rules make of exit
statuses is played through here, without back-off, eviction, or a kubelet that watches the volumes' sizes.
"""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Literal

from tests.container.engine import SECONDS
from tests.container.pod import Pod, Values
from tests.manifests.rendering import Document

Action = Literal["Count", "FailIndex", "FailJob", "Ignore"]


@dataclass(frozen=True)
class Attempt:
    """A pod that has ended."""

    index: int
    status: int
    message: str
    """What it left as its termination message."""
    log: str = field(repr=False)


@dataclass(frozen=True)
class Ended:
    """What became of the Job."""

    condition: str
    """``Complete``, or ``Failed`` and the reason that Kubernetes gives in such a case."""
    attempts: list[Attempt]

    def statuses(self, index: int) -> list[int]:
        """How each of an index's pods ended, in their order."""
        return [attempt.status for attempt in self.attempts if attempt.index == index]


class IndexedJob:
    """A Job as ``kubectl kustomize`` renders it, or one tick of a CronJob, and what its pods refer to.

    ConfigMaps and Secrets are taken from the rendered objects; Secrets that are only referred to have to be given.
    """

    def __init__(self, rendered: Iterable[Document], folder: Path, secrets: Mapping[str, Values]) -> None:
        by_kind: dict[str, dict[str, Document]] = {}
        for thing in rendered:
            by_kind.setdefault(thing["kind"], {})[thing["metadata"]["name"]] = thing
        self.uid = str(uuid.uuid4())
        self.attempts: list[Attempt] = []
        """Those that have ended so far."""
        self._folder = folder
        self._failed = Event()
        self._config_maps = {name: thing["data"] for name, thing in by_kind.get("ConfigMap", {}).items()}
        self._secrets = {name: _decoded(thing) for name, thing in by_kind.get("Secret", {}).items()} | dict(secrets)
        if "CronJob" in by_kind:
            ((name, cron),) = by_kind["CronJob"].items()
            self.name, self.spec = f"{name}-{self.uid[:8]}", cron["spec"]["jobTemplate"]["spec"]
        else:
            ((self.name, job),) = by_kind["Job"].items()
            self.spec = job["spec"]

    def run(self) -> Ended:
        """Run every index to its end, as many at once as the Job's parallelism; the lowest first."""
        if self.spec["completionMode"] != "Indexed":
            raise ValueError(f"completionMode: found {self.spec['completionMode']!r}, expected 'Indexed'")
        with ThreadPoolExecutor(self.spec["parallelism"]) as pool:
            succeeded = list(pool.map(self._run_index, range(self.spec["completions"])))
        if self._failed.is_set():
            return Ended("Failed: PodFailurePolicy", self.attempts)
        return Ended("Complete" if all(succeeded) else "Failed: FailedIndexes", self.attempts)

    def _run_index(self, index: int) -> bool:
        counted = 0
        while not self._failed.is_set():
            attempt = run_pod(self.pod(index))
            self.attempts.append(attempt)
            if attempt.status == 0:
                return True
            action = self.action(attempt.status)
            if action == "FailJob":
                self._failed.set()
            counted += action == "Count"
            if action == "FailIndex" or counted > self.spec["backoffLimitPerIndex"]:
                return False
        return False

    def action(self, status: int) -> Action:
        """What the Job's podFailurePolicy does about a container that exits by itself with a status other than 0."""
        for rule in self.spec.get("podFailurePolicy", {}).get("rules", []):
            codes = rule.get("onExitCodes")
            if codes and (status in codes["values"]) == (codes["operator"] == "In"):
                action: Action = rule["action"]
                return action
        return "Count"

    def pod(self, index: int) -> Pod:
        """A new pod of an index."""
        folder = self._folder / uuid.uuid4().hex[:10]
        template = self.spec["template"]
        return Pod(template, self.name, self.uid, index, self._config_maps, self._secrets, folder)


def run_pod(pod: Pod) -> Attempt:
    """Run a pod to its end; nothing of its volumes is left."""
    ended = subprocess.run(
        pod.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False
    )
    message = pod.message.read_text()
    shutil.rmtree(pod.folder)
    if ended.returncode and pod.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        message = message or ended.stdout[-2048:]
    return Attempt(pod.index, ended.returncode, message, ended.stdout)


def _decoded(secret: Document) -> Values:
    values: Values = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
    values |= secret.get("stringData", {})
    return values
