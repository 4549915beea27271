"""What an API server refuses, or what can never work, though the schemas allow it.

After pkg/apis/batch/validation and pkg/apis/core/validation of Kubernetes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from zoneinfo import available_timezones

from tests.manifests.rendering import Document, containers, environment, of_kind, pod_templates

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
CRONJOB_NAME_MAX = 52
"""A Job of a CronJob has its name, and 11 more characters for the time."""
UNITS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")
"""Those of a pod's fields that a variable may have, as far as a Job has use for them."""
CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def broken(documents: Sequence[Document]) -> Iterator[str]:
    """What is wrong with a rendering."""
    yield from _names(documents)
    yield from _references(documents)
    yield from _services(documents)
    for template in pod_templates(documents):
        yield from _pod(template["spec"])
    for job in of_kind(documents, "Job"):
        yield from _job(job["spec"], job["metadata"]["name"])
    for cron in of_kind(documents, "CronJob"):
        yield from _cronjob(cron)


def _names(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        name = document["metadata"]["name"]
        if not re.fullmatch(LABEL, name):
            yield f"{document['kind']} {name}: is no DNS label"
    counts = Counter((document["kind"], document["metadata"]["name"]) for document in documents)
    for (kind, name), count in counts.items():
        if count > 1:
            yield f"{kind} {name}: is there {count} times"


def _references(documents: Sequence[Document]) -> Iterator[str]:
    """Names by which one document means another."""
    present = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for template in pod_templates(documents):
        pod = template["spec"]
        meant = [("ServiceAccount", pod["serviceAccountName"])] if "serviceAccountName" in pod else []
        meant += [("ConfigMap", volume["configMap"]["name"]) for volume in pod["volumes"] if "configMap" in volume]
        if of_kind(documents, "Secret"):  # where there is none, somebody makes it by hand
            meant += [("Secret", name) for container in containers(pod) for name in _secrets(container)]
        for kind, name in meant:
            if (kind, name) not in present:
                yield f"{kind} {name}: is meant, and not there"
    for document in documents:
        namespace = document["metadata"].get("namespace")
        if namespace and ("Namespace", namespace) not in present:
            yield f"Namespace {namespace}: is meant, and not there"


def _services(documents: Sequence[Document]) -> Iterator[str]:
    ports = {
        port["name"] for pod in pod_templates(documents) for c in containers(pod["spec"]) for port in c.get("ports", [])
    }
    labels = [template["metadata"]["labels"].items() for template in pod_templates(documents)]
    for service in of_kind(documents, "Service"):
        if not any(service["spec"]["selector"].items() <= of_pod for of_pod in labels):
            yield f"Service {service['metadata']['name']}: selects no pod"
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {service['metadata']['name']}: no container has a port {port['targetPort']}"


def _secrets(container: Document) -> Iterator[str]:
    """The names of the Secrets that a container has to have."""
    sources = [*container.get("envFrom", []), *(variable.get("valueFrom", {}) for variable in container.get("env", []))]
    for source in sources:
        for reference in (source.get("secretRef"), source.get("secretKeyRef")):
            if reference and not reference.get("optional"):
                yield reference["name"]


def _pod(pod: Document) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    mounts = [mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])]
    for name in set(mounts) ^ set(volumes):
        yield f"volume {name}: is mounted and not there, or there and not mounted"
    for container in containers(pod):
        where = container["name"]
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(set(paths)) < len(paths):
            yield f"{where}: two volumes at one path"
        if any(":" in path for path in paths):
            yield f"{where}: a mountPath has a colon"
        if container.get("terminationMessagePolicy", "File") not in ("File", "FallbackToLogsOnError"):
            yield f"{where}: there is no terminationMessagePolicy {container['terminationMessagePolicy']}"
        yield from _environment(container)
        yield from _resources(container["resources"], where)
    yield from _scratch(pod)


def _environment(container: Document) -> Iterator[str]:
    seen: set[str] = set()
    for variable in container.get("env", []):
        name = variable["name"]
        if name in seen:
            yield f"{container['name']}: {name} is set twice"
        for other in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
            if other not in seen:
                yield f"{container['name']}: {name} means {other}, which is not set before it"
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", FIELDS[0])
        if field.partition("[")[0] not in FIELDS:
            yield f"{container['name']}: {name} means {field}, which no pod has"
        seen.add(name)


def _resources(resources: Document, where: str) -> Iterator[str]:
    requests, limits = resources["requests"], resources["limits"]
    for name, text in [*requests.items(), *limits.items()]:
        if quantity(text) is None:
            yield f"{where}: {name} {text!r} is no quantity"
    for name in requests.keys() & limits.keys():
        asked, allowed = quantity(requests[name]), quantity(limits[name])
        if asked is not None and allowed is not None and asked > allowed:
            yield f"{where}: {name}: more is requested than the limit allows"
    for name in ("memory", "ephemeral-storage"):
        if name not in limits or name not in requests:
            yield f"{where}: {name} has no request or no limit"


def _scratch(pod: Document) -> Iterator[str]:
    """What lies in emptyDirs counts towards the containers' ephemeral storage, which bounds those without a limit."""
    sizes = [size for volume in pod["volumes"] if (size := volume.get("emptyDir", {}).get("sizeLimit"))]
    limits = [container["resources"]["limits"].get("ephemeral-storage") for container in pod["containers"]]
    numbers = [quantity(text) for text in (*sizes, *limits)]
    if None in numbers:
        yield "an emptyDir has no limit that is a quantity"
    elif sum(n for n in numbers[: len(sizes)] if n) >= sum(n for n in numbers[len(sizes) :] if n):
        yield "the emptyDirs' limits leave nothing of the ephemeral storage"


def quantity(text: str | None) -> Decimal | None:
    """The number that a quantity is, None where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i|)", text or "")
    if not match:
        return None
    number, unit = Decimal(match[1]), match[2]
    if unit == "m":
        return number / 1000
    return number * Decimal(2 if unit.endswith("i") else 10) ** UNITS[unit]


def _job(spec: Document, name: str) -> Iterator[str]:
    pod = spec["template"]["spec"]
    if pod.get("restartPolicy") != "Never":
        yield "restartPolicy is not Never, which podFailurePolicy demands"
    if spec.get("completionMode") != "Indexed" or not spec.get("completions"):
        yield "backoffLimitPerIndex without Indexed and completions"
    if "backoffLimitPerIndex" not in spec:
        yield "FailIndex without backoffLimitPerIndex"
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "podReplacementPolicy is not Failed, which podFailurePolicy demands"
    if spec["parallelism"] > spec["completions"]:
        yield "more workers at once than there are"
    host = f"{name}-{spec['completions'] - 1}"
    if not re.fullmatch(LABEL, host):
        yield f"{host}: is no DNS label, and the last pod's host name"
    for container in pod["containers"]:
        if environment(container).get("JOB_COMPLETIONS") != str(spec["completions"]):
            yield "JOB_COMPLETIONS is not completions"
    names = {container["name"] for container in containers(pod)}
    for rule in spec["podFailurePolicy"]["rules"]:
        yield from _failure_rule(rule, names)
    yield from _numbers(spec)


def _numbers(spec: Document) -> Iterator[str]:
    for field in ("backoffLimitPerIndex", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "parallelism"):
        if spec.get(field, 0) < 0:
            yield f"{field} is less than 0"
    if len(spec["podFailurePolicy"]["rules"]) > 20:
        yield "podFailurePolicy: more than 20 rules"


def _failure_rule(rule: Document, names: set[str]) -> Iterator[str]:
    if rule["action"] not in ("FailJob", "FailIndex", "Ignore", "Count"):
        yield f"podFailurePolicy: there is no action {rule['action']}"
    if ("onExitCodes" in rule) == bool(rule.get("onPodConditions")):
        yield "podFailurePolicy: a rule has both or neither of onExitCodes and onPodConditions"
    for condition in rule.get("onPodConditions", []):
        if condition.get("status") not in ("True", "False", "Unknown"):
            yield "podFailurePolicy: a condition has no status as text"
    codes = rule.get("onExitCodes")
    if codes is None:
        return
    if codes.get("containerName") not in names:
        yield f"podFailurePolicy: there is no container {codes.get('containerName')}"
    if codes["operator"] not in ("In", "NotIn"):
        yield f"podFailurePolicy: there is no operator {codes['operator']}"
    values = codes["values"]
    if not values or values != sorted(set(values)) or len(values) > 255:
        yield "podFailurePolicy: values are not sorted, not unique, or none"
    if codes["operator"] == "In" and 0 in values:
        yield "podFailurePolicy: 0 is no failure"


def _cronjob(cron: Document) -> Iterator[str]:
    name, spec = cron["metadata"]["name"], cron["spec"]
    if len(name) > CRONJOB_NAME_MAX:
        yield f"CronJob {name}: its name is longer than {CRONJOB_NAME_MAX} characters"
    if not is_cron_line(spec["schedule"]):
        yield f"schedule {spec['schedule']!r} is no cron line"
    if spec.get("timeZone") not in available_timezones():
        yield f"timeZone {spec.get('timeZone')} is none"
    if "selector" in spec["jobTemplate"]["spec"]:
        yield "a Job's template has a selector"
    yield from _job(spec["jobTemplate"]["spec"], f"{name}-{29_000_000}")


def is_cron_line(line: str) -> bool:
    """Whether it has the five fields of cron's standard form, in numbers: ``*``, lists, ranges, steps."""
    fields = line.split()
    return len(fields) == len(CRON_RANGES) and all(
        _is_cron_part(part, low, high)
        for field, (low, high) in zip(fields, CRON_RANGES, strict=True)
        for part in field.split(",")
    )


def _is_cron_part(part: str, low: int, high: int) -> bool:
    match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
    if not match:
        return False
    first, last, step = int(match[1] or low), int(match[2] or match[1] or high), int(match[3] or 1)
    return low <= first <= last <= high and step > 0
