"""What kubectl makes of a kustomization, and where in it the pods are."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
"""A part of a manifest, as YAML gives it."""

MANIFESTS = Path(__file__).parents[2] / "k8s"
BASE = MANIFESTS / "base"
OVERLAYS = sorted(file.parent for file in MANIFESTS.glob("overlays/*/kustomization.yaml"))
OLDEST, NEWEST = "1.32", "1.37"
"""Of the versions of Kubernetes that the manifests are for."""
APPLIED = [BASE, *OVERLAYS]
"""What ``kubectl apply -k`` is given."""


@cache
def rendered(folder: Path) -> str:
    """What would be applied, as text.

    Raises:
        subprocess.CalledProcessError: kustomize refuses it.
    """
    kubectl = Path(sys.executable).with_name("kubectl")
    return subprocess.run(
        [str(kubectl), "kustomize", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def render(folder: Path) -> list[Document]:
    """What would be applied; each caller's own, to be changed."""
    return list(yaml.safe_load_all(rendered(folder)))


def of_kind(documents: Sequence[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def job_spec(documents: Sequence[Document]) -> Document:
    """The spec of the one survey Job, or that which a CronJob makes Jobs of."""
    specs = [job["spec"] for job in of_kind(documents, "Job")]
    (spec,) = specs + [cron["spec"]["jobTemplate"]["spec"] for cron in of_kind(documents, "CronJob")]
    return dict(spec)


def survey_container(documents: Sequence[Document]) -> Document:
    (container,) = (c for c in job_spec(documents)["template"]["spec"]["containers"] if c["name"] == "survey")
    return dict(container)


def environment(container: Document) -> dict[str, str]:
    """The variables of a container that have their value in the manifest itself."""
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def pod_templates(documents: Sequence[Document]) -> Iterator[Document]:
    """Every pod template: of Jobs, Deployments and what CronJobs make."""
    for document in documents:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", []), *pod["containers"]]
