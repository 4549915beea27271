"""The rules of these tests find what they are there to find: each is shown a manifest that breaks it."""

from functools import reduce
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.manifests.pod_security import violations
from tests.manifests.rendering import BASE, MANIFESTS, NEWEST, OVERLAYS, Document, of_kind, pod_templates, render
from tests.manifests.rules import broken, is_cron_line, quantity

POD = "spec.template.spec"
SURVEY = f"{POD}.containers.0"
RULES = "spec.podFailurePolicy.rules"
LOCAL, SCHEDULED = MANIFESTS / "overlays/local", MANIFESTS / "overlays/scheduled"


def follow(node: Any, step: str) -> Any:
    return node[int(step) if isinstance(node, list) else step]


def put(document: Document, path: str, value: object) -> None:
    """Set the field at a path such as ``spec.containers.0.name``; no value: take it away."""
    *steps, last = path.split(".")
    parent = reduce(follow, steps, document)
    if value is None:
        del parent[last]
    else:
        parent[int(last) if isinstance(parent, list) else last] = value


def changed(folder: Path, kind: str, path: str, value: object) -> list[Document]:
    """A rendering with one field changed in the document of that kind."""
    documents = render(folder)
    (document,) = of_kind(documents, kind)
    put(document, path, value)
    return documents


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param(f"{POD}.restartPolicy", "Always", "restartPolicy", id="restarted in place"),
        pytest.param(f"{POD}.volumes.0.name", "other", "volume models", id="a mount of no volume"),
        pytest.param(f"{SURVEY}.volumeMounts.0.mountPath", "/tmp", "two volumes", id="two mounts at one path"),  # noqa: S108
        pytest.param(f"{SURVEY}.resources.limits.memory", "512Mib", "no quantity", id="an unknown unit"),
        pytest.param(f"{SURVEY}.resources.limits.memory", "512Mi", "more is requested", id="a request above its limit"),
        pytest.param(f"{SURVEY}.resources.limits.memory", None, "memory has no", id="no memory limit"),
        pytest.param(
            f"{POD}.volumes.1.emptyDir", {"sizeLimit": "7Gi"}, "leave nothing", id="scratch above all storage"
        ),
        pytest.param("spec.completionMode", "NonIndexed", "without Indexed", id="backoff per index of no index"),
        pytest.param("spec.backoffLimitPerIndex", None, "FailIndex", id="FailIndex without a backoff per index"),
        pytest.param("spec.podReplacementPolicy", "TerminatingOrFailed", "podReplacementPolicy", id="replaced early"),
        pytest.param("spec.completions", 5, "JOB_COMPLETIONS", id="workers that are not told their number"),
        pytest.param("spec.parallelism", 5, "more workers", id="more at once than there are"),
        pytest.param("metadata.name", "survey_job", "DNS label", id="a name with an underscore"),
        pytest.param("metadata.name", "s" * 62, "host name", id="a name too long for its pods' hosts"),
        pytest.param(f"{POD}.serviceAccountName", "other", "ServiceAccount other", id="an account that is not there"),
        pytest.param(f"{POD}.volumes.0.configMap.name", "survey-models", "ConfigMap survey-models", id="no such list"),
        pytest.param(f"{SURVEY}.env.0.name", "OUTPUT", "OUTPUT is set twice", id="a variable twice"),
        pytest.param(f"{SURVEY}.env.5.name", "JOB", "means JOB_NAME", id="a variable that is not set"),
        pytest.param(f"{RULES}.0.onPodConditions", None, "both or neither", id="a rule without a requirement"),
        pytest.param(f"{RULES}.0.onExitCodes", {"operator": "In", "values": [1]}, "both or neither", id="one with two"),
        pytest.param(f"{RULES}.0.onPodConditions.0.status", True, "status as text", id="a status that is no text"),
        pytest.param(f"{RULES}.1.onExitCodes.containerName", "other", "no container other", id="no such container"),
        pytest.param(f"{RULES}.1.onExitCodes.values", [78, 65], "sorted", id="statuses out of order"),
        pytest.param(f"{RULES}.1.onExitCodes.values", [78, 78], "unique", id="a status twice"),
        pytest.param(f"{RULES}.1.onExitCodes.values", [0, 78], "0 is no failure", id="success as a failure"),
        pytest.param(f"{RULES}.1.action", "Fail", "no action", id="an unknown action"),
        pytest.param(RULES, [{"action": "Count", "onPodConditions": []}] * 21, "than 20 rules", id="too many rules"),
        pytest.param("spec.backoffLimitPerIndex", -1, "less than 0", id="fewer attempts than none"),
        pytest.param("spec.ttlSecondsAfterFinished", -1, "less than 0", id="removed before its end"),
        pytest.param(f"{SURVEY}.volumeMounts.0.mountPath", "/etc/a:b", "colon", id="a colon in a path"),
        pytest.param(f"{SURVEY}.terminationMessagePolicy", "Logs", "no terminationMessagePolicy", id="no such policy"),
        pytest.param(f"{SURVEY}.env.6.valueFrom.fieldRef.fieldPath", "metadata.nope", "no pod has", id="no such field"),
        pytest.param("metadata.namespace", "other", "Namespace other", id="a namespace that is not there"),
    ],
)
def test_a_job_that_breaks_a_rule_is_found(path: str, value: object, expected: str) -> None:
    assert any(expected in found for found in broken(changed(BASE, "Job", path, value)))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("metadata.name", "s" * 53, "longer than 52", id="a name that leaves no room for the time"),
        pytest.param("spec.schedule", "60 4 * * *", "no cron line", id="minute 60"),
        pytest.param("spec.timeZone", "Europe/Atlantis", "timeZone", id="no such zone"),
        pytest.param("spec.jobTemplate.spec.selector", {"matchLabels": {"a": "b"}}, "selector", id="a selector"),
        pytest.param("spec.jobTemplate.spec.completions", 7, "JOB_COMPLETIONS", id="the Job's rules as well"),
    ],
)
def test_a_cronjob_that_breaks_a_rule_is_found(path: str, value: object, expected: str) -> None:
    assert any(expected in found for found in broken(changed(SCHEDULED, "CronJob", path, value)))


def test_a_secret_that_is_made_under_another_name_is_found() -> None:
    documents = changed(LOCAL, "Secret", "metadata.name", "other")
    assert any(found.startswith("Secret survey-credentials") for found in broken(documents))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("spec.selector", {"app.kubernetes.io/name": "other"}, "selects no pod", id="no pod"),
        pytest.param("spec.ports.0.targetPort", "other", "no container has a port", id="no port"),
    ],
)
def test_a_service_that_leads_nowhere_is_found(path: str, value: object, expected: str) -> None:
    assert any(expected in found for found in broken(changed(LOCAL, "Service", path, value)))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("hostNetwork", True, "hostNetwork", id="the host's network"),
        pytest.param("hostPID", True, "hostPID", id="the host's processes"),
        pytest.param("hostIPC", True, "hostIPC", id="the host's memory"),
        pytest.param("volumes.0", {"name": "models", "hostPath": {"path": "/"}}, "volume models", id="the host's disk"),
        pytest.param("volumes.0", {"name": "models", "nfs": {"path": "/"}}, "volume models", id="a network's disk"),
        pytest.param("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl", id="a sysctl"),
        pytest.param("securityContext.runAsUser", 0, "runAsUser", id="root for all"),
        pytest.param("securityContext.runAsNonRoot", None, "runAsNonRoot", id="perhaps root"),
        pytest.param("securityContext.runAsNonRoot", False, "pod: runAsNonRoot", id="root, as the pod says"),
        pytest.param("securityContext.seccompProfile.type", "Unconfined", "pod: seccomp", id="a pod without seccomp"),
        pytest.param("securityContext.seccompProfile", None, "seccompProfile", id="no seccomp"),
        pytest.param("securityContext.seLinuxOptions", {"type": "spc_t"}, "seLinuxOptions", id="a SELinux type"),
        pytest.param("securityContext.seLinuxOptions", {"user": "u"}, "seLinuxOptions", id="a SELinux user"),
        pytest.param("securityContext.appArmorProfile", {"type": "Unconfined"}, "appArmor", id="no AppArmor"),
        pytest.param("securityContext.windowsOptions", {"hostProcess": True}, "hostProcess", id="a host process"),
        pytest.param("containers.0.securityContext.privileged", True, "privileged", id="privileged"),
        pytest.param("containers.0.securityContext.allowPrivilegeEscalation", None, "Escalation", id="may escalate"),
        pytest.param("containers.0.securityContext.runAsNonRoot", False, "runAsNonRoot", id="root again"),
        pytest.param("containers.0.securityContext.runAsUser", 0, "runAsUser", id="root for one"),
        pytest.param("containers.0.securityContext.procMount", "Unmasked", "procMount", id="all of /proc"),
        pytest.param("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}, "seccomp", id="unconfined"),
        pytest.param("containers.0.securityContext.capabilities.drop", ["CHOWN"], "dropped", id="most capabilities"),
        pytest.param("containers.0.securityContext.capabilities.add", ["SYS_ADMIN"], "added", id="one capability"),
        pytest.param("containers.0.securityContext", None, "dropped", id="no security context"),
        pytest.param("containers.0.ports", [{"containerPort": 1, "hostPort": 1}], "hostPort", id="the host's port"),
        pytest.param("containers.0.livenessProbe", {"tcpSocket": {"host": "h"}}, "names a host", id="another host"),
        pytest.param("initContainers", [{"name": "first"}], "first: not all", id="an init container"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(path: str, value: object, expected: str) -> None:
    (template,) = pod_templates(render(BASE))
    assert list(violations(template["spec"])) == []
    put(template["spec"], path, value)
    assert any(expected in found for found in violations(template["spec"]))


def test_the_schemas_know_every_field() -> None:
    (job,) = of_kind(changed(BASE, "Job", f"{SURVEY}.enviroment", []), "Job")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, NEWEST, strict=True)


@pytest.mark.parametrize("line", ["17 4 * * *", "*/15 0-6,22 1 1-12/3 7", "0 0 31 12 0"])
def test_a_cron_line_is_told(line: str) -> None:
    assert is_cron_line(line)


@pytest.mark.parametrize(
    "line",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "a * * * *"],
)
def test_what_is_no_cron_line_is_told(line: str) -> None:
    assert not is_cron_line(line)


def test_quantities_are_numbers() -> None:
    assert [quantity(text) for text in ("250m", "1", "1k", "1Mi", "1.5Gi")] == [0.25, 1, 1000, 2**20, 1.5 * 2**30]
    assert [quantity(text) for text in ("512Mib", "1 Gi", "Gi", "", None)] == [None] * 5


def test_every_overlay_is_rendered() -> None:
    assert {folder.name for folder in OVERLAYS} >= {"cloud", "local", "scheduled"}
