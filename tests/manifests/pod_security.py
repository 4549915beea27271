"""The profile "restricted" of Kubernetes' Pod Security Standards, field by field.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, for Linux; "restricted" includes "baseline".
"""

from collections.abc import Iterator

from tests.manifests.rendering import Document, containers

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SECCOMP_TYPES = ("RuntimeDefault", "Localhost")
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
}


def violations(pod: Document) -> Iterator[str]:
    """What in a pod's spec the profile forbids."""
    of_pod = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is true"
    for volume in pod.get("volumes", []):
        if not volume.keys() - {"name"} <= VOLUMES:
            yield f"volume {volume['name']} is none of {sorted(VOLUMES)}"
    for sysctl in of_pod.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is set"
    if of_pod.get("runAsNonRoot") is False:
        yield "pod: runAsNonRoot is false"
    if of_pod.get("seccompProfile", {}).get("type", "RuntimeDefault") not in SECCOMP_TYPES:
        yield "pod: seccompProfile is neither RuntimeDefault nor Localhost"
    yield from _of_any_context(of_pod, "pod")
    for container in containers(pod):
        yield from _of_container(container, of_pod)


def _of_any_context(context: Document, where: str) -> Iterator[str]:
    """The fields that pods and containers have in common."""
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where}: hostProcess is true"
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser is 0"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{where}: appArmorProfile is Unconfined"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: seLinuxOptions are {selinux}"


def _of_container(container: Document, of_pod: Document) -> Iterator[str]:
    where, context = container["name"], container.get("securityContext", {})
    yield from _of_any_context(context, where)
    if context.get("privileged"):
        yield f"{where}: privileged is true"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: allowPrivilegeEscalation is not false"
    if context.get("procMount", "Default") != "Default":
        yield f"{where}: procMount is {context['procMount']}"
    yield from _of_ports_and_probes(container)
    # What a container says wins over what its pod says.
    if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield f"{where}: runAsNonRoot is not true"
    seccomp = context.get("seccompProfile", of_pod.get("seccompProfile", {}))
    if seccomp.get("type") not in SECCOMP_TYPES:
        yield f"{where}: seccompProfile is neither RuntimeDefault nor Localhost"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{where}: not all capabilities are dropped"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield f"{where}: capabilities are added"


def _of_ports_and_probes(container: Document) -> Iterator[str]:
    where = container["name"]
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{where}: hostPort is {port['hostPort']}"
    actions = [container.get(f"{kind}Probe", {}) for kind in ("liveness", "readiness", "startup")]
    for action in (*actions, *container.get("lifecycle", {}).values()):
        if any(action.get(way, {}).get("host") for way in ("httpGet", "tcpSocket")):
            yield f"{where}: a probe or hook names a host"
