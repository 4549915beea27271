"""The commands of the runbook, as a shell and the real kubectl run them, print what tells the endings apart."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.documentation import DOCS, section
from tests.manifests.loopback_api import NAMESPACE, loopback_api
from tests.manifests.rendering import BASE, MANIFESTS, Document, job_spec, of_kind, render, survey_container

NAME = "black-hole-survey"
SUMMARY = "1 failed\norg/name: NoUnembedding"
OUTGROWN = 'Usage of EmptyDir volume "scratch" exceeds the limit "6Gi". '
LOW = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. "
NO_ROOM = "0/3 nodes are available: 3 Insufficient memory."
NO_SECRET = 'secret "survey-credentials" not found'
QUOTA = 'Error creating: pods "black-hole-survey-3-x" is forbidden: exceeded quota: team, requested: memory=1Gi'
LATE = "Job was active longer than specified deadline"


def pod(index: int, phase: str, *, state: Document | None = None, **status: object) -> Document:
    """A pod of a worker, as the API has it; no state: its container was never made."""
    labels = {"batch.kubernetes.io/job-name": NAME, "batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": f"{NAME}-{index}-{uuid4().hex[:5]}", "namespace": NAMESPACE, "labels": labels}
    statuses = [{"name": "survey", "state": state}] if state else []
    spec = {"containers": [{"name": "survey"}]}
    known = {"phase": phase, **({"containerStatuses": statuses} if statuses else {}), **status}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": known}


def ended(status: int, reason: str = "Error", **more: str) -> Document:
    return {"terminated": {"exitCode": status, "reason": reason, **more}}


def condition(kind: str, reason: str, message: str, status: str = "True") -> Document:
    return {"type": kind, "status": status, "reason": reason, "message": message}


UNREADY = condition("Ready", "ContainersNotReady", "containers with unready status: [survey]", "False")
PODS = {
    "Succeeded Completed": pod(0, "Succeeded", state=ended(0, "Completed", message="1 surveyed")),
    "Failed 65 Error": pod(1, "Failed", state=ended(65, message=SUMMARY), conditions=[UNREADY]),
    "Failed Evicted 137 Error": pod(2, "Failed", state=ended(137), reason="Evicted", message=OUTGROWN),
    "Failed Evicted 137 ContainerStatusUnknown": pod(
        3,
        "Failed",
        state=ended(137, "ContainerStatusUnknown"),
        reason="Evicted",
        message=LOW,
        conditions=[condition("DisruptionTarget", "TerminationByKubelet", LOW)],
    ),
    "Failed 137 OOMKilled": pod(2, "Failed", state=ended(137, "OOMKilled")),
    "Pending CreateContainerConfigError": pod(
        3, "Pending", state={"waiting": {"reason": "CreateContainerConfigError", "message": NO_SECRET}}
    ),
    "Pending": pod(0, "Pending", conditions=[condition("PodScheduled", "Unschedulable", NO_ROOM, "False")]),
    "Running": pod(2, "Running", state={"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
}
"""By what the runbook says of them behind the name."""


def job(**status: object) -> Document:
    """The Job of the base, as the API has it later."""
    (document,) = of_kind(render(BASE), "Job")
    document["metadata"] |= {"namespace": NAMESPACE, "uid": "5bd6ac24"}
    document["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/job-name": NAME}}
    return {**document, "status": status}


REFUSED_POD: Document = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "event", "namespace": NAMESPACE},
    "involvedObject": {"kind": "Job", "name": NAME, "namespace": NAMESPACE, "uid": "5bd6ac24"},
    "type": "Warning",
    "reason": "FailedCreate",
    "message": QUOTA,
}
CONDITIONS = [condition("FailureTarget", "DeadlineExceeded", LATE), condition("Failed", "DeadlineExceeded", LATE)]


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    objects = [job(conditions=CONDITIONS, completedIndexes="0,2", failed=5), REFUSED_POD, *PODS.values()]
    (schedule,) = of_kind(render(MANIFESTS / "overlays/scheduled"), "CronJob")
    schedule["metadata"] |= {"namespace": NAMESPACE, "uid": "c"}
    logs = {pod["metadata"]["name"]: f"log: {line}\n" for line, pod in PODS.items() if "Evicted" not in line}
    with loopback_api([*objects, schedule], logs, tmp_path) as path:
        yield path


def blocks(heading: str = "Runbook") -> list[str]:
    return re.findall(r"^```\n(.*?)^```", section(DOCS["kubernetes"], heading), re.MULTILINE | re.DOTALL)


def run(commands: str, kubeconfig: Path, **variables: str) -> str:
    """What a shell prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables |= {"PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)}
    shell = shutil.which("sh") or ""
    result = subprocess.run(
        [shell, "-eu"], input=commands, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_the_commands_print_how_the_job_and_each_attempt_ended_and_why(kubeconfig: Path) -> None:
    printed = run("".join(blocks()[:3]), kubeconfig)
    assert f"Failed DeadlineExceeded: {LATE}\nsucceeded: 0,2\nfailed: none\n" in printed
    assert re.search(rf"FailedCreate .*{re.escape(QUOTA)}", printed)

    paragraphs = {
        text.splitlines()[0]: text.splitlines()[1:] for text in printed.split("\n\n") if text.startswith(NAME)
    }
    first_lines = {line.partition(" ")[2]: rest for line, rest in paragraphs.items()}
    assert first_lines == {
        "Succeeded Completed": ["1 surveyed"],
        "Failed 65 Error": SUMMARY.splitlines(),
        "Failed Evicted 137 Error": [OUTGROWN],
        "Failed Evicted 137 ContainerStatusUnknown": [LOW, f"DisruptionTarget TerminationByKubelet: {LOW}"],
        "Failed 137 OOMKilled": [],
        "Pending CreateContainerConfigError": [NO_SECRET],
        "Pending": [f"PodScheduled Unschedulable: {NO_ROOM}"],
        "Running": [],
    }


def test_the_logs_of_a_workers_attempts_are_printed_though_one_has_none(kubeconfig: Path) -> None:
    printed = run(blocks()[0] + blocks()[3], kubeconfig)
    assert set(re.findall("^log: (.*)", printed, re.MULTILINE)) == {"Failed 137 OOMKilled", "Running"}


def test_a_run_that_is_started_by_hand_is_what_the_schedule_starts(kubeconfig: Path) -> None:
    started = json.loads(run(f"{blocks()[-1].strip()} --dry-run=client -o json", kubeconfig))
    assert started["spec"] == job_spec(render(MANIFESTS / "overlays/scheduled"))


def test_the_secret_takes_its_values_from_the_environment(kubeconfig: Path) -> None:
    command = blocks("On a cluster")[0].partition("kubectl apply")[0].strip()
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "a b=c"}
    secret = json.loads(run(f"{command} --dry-run=client -o json", kubeconfig, **keys))
    (source,) = survey_container(render(BASE))["envFrom"]
    assert secret["metadata"]["name"] == source["secretRef"]["name"]
    assert {name: base64.b64decode(value).decode() for name, value in secret["data"].items()} == keys
