"""An API server on loopback, as far as kubectl needs one to show Jobs, pods and what happened to them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.manifests.rendering import Document
from tests.servers.serving import serving

KINDS = {"v1": {"pods": "Pod", "events": "Event"}, "batch/v1": {"jobs": "Job", "cronjobs": "CronJob"}}
NAMESPACE = "default"


class _Handler(BaseHTTPRequestHandler):
    objects: ClassVar[list[Document]]
    logs: ClassVar[Mapping[str, str]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path.strip("/").split("/"):
            case ["api"]:
                self.answer({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                version = {"groupVersion": "batch/v1", "version": "v1"}
                group = {"name": "batch", "versions": [version], "preferredVersion": version}
                self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
            case ["api", "v1"]:
                self.answer(resources("v1"))
            case ["apis", "batch", "v1"]:
                self.answer(resources("batch/v1"))
            case [*_, "namespaces", str(), "pods", str(pod), "log"]:
                self.answer(self.logs.get(pod) or not_found("logs", pod))
            case [*_, "namespaces", str(), str(plural)]:
                selector = parse_qs(url.query).get("labelSelector", [""])[0]
                items = [each for each in self.of_kind(plural) if has_labels(each, selector)]
                self.answer({"kind": f"{kind_of(plural)}List", "apiVersion": version_of(plural), "items": items})
            case [*_, "namespaces", str(), str(plural), str(name)]:
                found = (each for each in self.of_kind(plural) if each["metadata"]["name"] == name)
                self.answer(next(found, not_found(plural, name)))
            case _:
                self.answer(not_found("paths", self.path))

    def of_kind(self, plural: str) -> list[Document]:
        return [each for each in self.objects if each["kind"] == kind_of(plural)]

    def answer(self, body: Document | str) -> None:
        status = body.get("code", HTTPStatus.OK) if isinstance(body, dict) else HTTPStatus.OK
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep silent."""


def kind_of(plural: str) -> str | None:
    return next((kinds[plural] for kinds in KINDS.values() if plural in kinds), None)


def version_of(plural: str) -> str | None:
    return next((version for version, kinds in KINDS.items() if plural in kinds), None)


def resources(version: str) -> Document:
    verbs = ["get", "list"]
    listed = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
        for plural, kind in KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def not_found(plural: str, name: str) -> Document:
    message = f"{plural} {name} not found"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "message": message,
        "code": 404,
    }


def has_labels(document: Document, selector: str) -> bool:
    wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
    return bool(wanted.items() <= document["metadata"].get("labels", {}).items())


@contextmanager
def loopback_api(objects: Sequence[Document], logs: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Serve the objects, and the pods' logs by name; the path of a kubeconfig for it, in that folder."""
    handler = type("Handler", (_Handler,), {"objects": list(objects), "logs": logs})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "", "namespace": NAMESPACE}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "current-context": "c",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    with serving(server):
        yield folder / "kubeconfig"
