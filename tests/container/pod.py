"""A pod's template, with the one container it has, as the command line that runs that container as Kubernetes would."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.container.engine import IMAGE, engine, is_podman, pairs
from tests.manifests.rendering import Document
from tests.manifests.rules import quantity

Values = dict[str, str]
"""What a ConfigMap or a Secret holds."""

INDEX: Final = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Pod:
    """One pod of an Indexed Job."""

    template: Document
    job_name: str
    job_uid: str
    index: int
    config_maps: Mapping[str, Values]
    secrets: Mapping[str, Values]
    folder: Path
    """Holds its volumes and its termination message; its name makes the pod's name unique."""

    @property
    def name(self) -> str:
        return f"{self.job_name}-{self.index}-{self.folder.name}"

    @property
    def container(self) -> Document:
        (container,) = self.template["spec"]["containers"]
        only: Document = container
        return only

    @property
    def message(self) -> Path:
        """The file that is mounted for the termination message."""
        return self.folder / "termination-message"

    def command(self) -> list[str]:
        """The engine's command line; the volumes are laid out, and an emptyDir's limit left to the kubelet."""
        self.folder.mkdir(parents=True)
        self.message.touch()
        self.message.chmod(0o666)
        volumes = {volume["name"]: self._volume(volume) for volume in self.template["spec"].get("volumes", [])}
        mounts = [f"{self.message}:{self.container.get('terminationMessagePath', '/dev/termination-log')}"]
        for mount in self.container.get("volumeMounts", []):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            mounts.append(f"{source}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}")
        environment = self.environment()
        # The host's network, because that is where the test servers listen.
        words = [*engine(), "run", "--rm", "--name", self.name, "--network", "host", *self._security(), *self._limits()]
        words += ["--http-proxy=false"] if is_podman() else []
        words += pairs("--env", (f"{name}={value}" for name, value in environment.items())) + pairs("--volume", mounts)
        words += ["--workdir", self.container["workingDir"]] if "workingDir" in self.container else []
        program, arguments = (
            [expanded(word, environment) for word in self.container.get(key, [])] for key in ("command", "args")
        )
        words += ["--entrypoint", program[0]] if program else []
        return [*words, IMAGE, *program[1:], *arguments]

    def environment(self) -> Values:
        """The container's variables, in the order and with the references that Kubernetes resolves."""
        known: Values = {}
        for source in self.container.get("envFrom", []):
            ((kind, reference),) = ((key, value) for key, value in source.items() if key != "prefix")
            objects = self.secrets if kind == "secretRef" else self.config_maps
            values = objects.get(reference["name"], {}) if reference.get("optional") else objects[reference["name"]]
            known |= {source.get("prefix", "") + name: value for name, value in values.items()}
        for variable in self.container.get("env", []):
            value = self._value(variable)
            if value is not None:
                known[variable["name"]] = expanded(value, known)
        # The Job controller adds it behind the others, so that none of those can refer to it.
        known.setdefault("JOB_COMPLETION_INDEX", str(self.index))
        return known

    def _value(self, variable: Document) -> str | None:
        """A variable's value before references in it are resolved; None where it is optional, and not there."""
        if "valueFrom" not in variable:
            return str(variable.get("value", ""))
        ((kind, source),) = variable["valueFrom"].items()
        if kind == "resourceFieldRef":
            section, _, resource = source["resource"].partition(".")
            return str(int(quantity(self.container["resources"][section][resource]) or 0))
        if kind == "fieldRef":
            return self._fields()[source["fieldPath"]]
        objects = {"secretKeyRef": self.secrets, "configMapKeyRef": self.config_maps}[kind]
        value = objects.get(source["name"], {}).get(source["key"])
        if value is None and not source.get("optional"):
            raise KeyError(f"{variable['name']}: {kind} {source['name']}/{source['key']} is not there")
        return value

    def _fields(self) -> Values:
        """The pod's fields by their paths, with the labels that the Job controller gives it."""
        metadata = self.template.get("metadata", {})
        of_job = {"job-name": self.job_name, "controller-uid": self.job_uid}
        labels = metadata.get("labels", {}) | of_job | {f"batch.kubernetes.io/{key}": of_job[key] for key in of_job}
        named = {"labels": labels, "annotations": metadata.get("annotations", {})}
        fields = {"metadata.name": self.name, "metadata.namespace": "default"}
        for kind, values in named.items():
            fields |= {f"metadata.{kind}['{key}']": value for key, value in {**values, INDEX: str(self.index)}.items()}
        return fields

    def _volume(self, volume: Document) -> Path:
        """A volume's folder, filled with what it holds."""
        folder = self.folder / str(volume["name"])
        folder.mkdir()
        folder.chmod(0o777)  # fsGroup lets the pod's own user in; here it is anybody
        content: Values = {}
        if "configMap" in volume:
            content = self.config_maps[volume["configMap"]["name"]]
        elif "secret" in volume:
            content = self.secrets[volume["secret"]["secretName"]]
        elif "emptyDir" not in volume:
            raise KeyError(f"volume {volume['name']}: {volume} was found, configMap, secret or emptyDir was expected")
        for name, text in content.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        return folder

    def _security(self) -> list[str]:
        context = self.template["spec"].get("securityContext", {}) | self.container.get("securityContext", {})
        words: list[str] = []
        if "runAsUser" in context:
            words += ["--user", ":".join(str(context[key]) for key in ("runAsUser", "runAsGroup") if key in context)]
        words += ["--group-add", str(context["fsGroup"])] if "fsGroup" in context else []
        if context.get("readOnlyRootFilesystem"):
            words += ["--read-only", "--read-only-tmpfs=false"] if is_podman() else ["--read-only"]
        capabilities = context.get("capabilities", {})
        words += pairs("--cap-drop", capabilities.get("drop", [])) + pairs("--cap-add", capabilities.get("add", []))
        words += ["--security-opt", "no-new-privileges"] if context.get("allowPrivilegeEscalation") is False else []
        return words

    def _limits(self) -> list[str]:
        memory = quantity(self.container.get("resources", {}).get("limits", {}).get("memory"))
        return [] if memory is None else ["--memory", str(int(memory)), "--memory-swap", str(int(memory))]  # no swap


def expanded(text: str, known: Values) -> str:
    """``$(NAME)`` with what is known so far; as it stands where nothing is; ``$$(NAME)`` stands for ``$(NAME)``."""

    def replaced(match: re.Match[str]) -> str:
        return match[0][1:] if match[1] else known.get(match[2], match[0])

    return re.sub(r"\$(\$?)\(([A-Za-z_][A-Za-z0-9_.-]*)\)", replaced, text)
