"""Where a survey is filed, what is published of a model already, and how a manifest is published and found again."""

import hashlib
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from job.manifest.schema import SCHEMA_VERSION, Manifest, checked_manifest
from job.store.json_file import to_json
from job.store.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContentIdentity:
    """What W is, known before its bytes are read: the file they lie in, by an id which changes only when its bytes do,
    the range within it, and how the range is to be read."""

    content_id: str
    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None

    def is_of(self, manifest: Manifest) -> bool:
        """Whether a manifest is of the same W."""
        tensor = manifest["tensor"]
        stated = {field: tensor.get(field) for field in vars(self)}
        return stated == {
            field: list(value) if isinstance(value, tuple) else value for field, value in vars(self).items()
        }


def survey_folder(repo_id: str, commit: str, tensor: str | None) -> str:
    """Where the survey of a commit is filed; that of a tensor somebody asked for has a place of its own."""
    if tensor is None:
        return f"{repo_id}/{commit}"
    return f"{repo_id}/{commit}/tensor-{hashlib.sha256(tensor.encode(errors='surrogatepass')).hexdigest()[:8]}"


def manifest_key(folder: str) -> str:
    return f"{folder}/manifest.json"


def latest_key(repo_id: str) -> str:
    return f"{repo_id}/latest.json"


Novelty = Literal["model", "revision", "tensor"]
"""What a survey is the first of: its model, a commit of a surveyed model, a tensor of a surveyed commit."""


@dataclass(frozen=True)
class Published:
    """Where a survey is filed, and what is published already of the same W and of the same model."""

    folder: str
    own: Manifest | None
    """The manifest in that very folder."""
    same_w: Manifest | None
    """That one, or else one of another commit or tensor name whose W is the same bytes."""
    previous: Manifest | None
    """The newest of another commit, where the tensor was chosen in the same way."""
    novelty: Novelty | None
    """None where its own manifest is there."""


def find_published(
    store: Store, repo_id: str, commit: str, identity: ContentIdentity, asked: str | None, found: str
) -> Published:
    """What is already published of W. ``asked``: the tensor that was asked for, if one was; ``found``: W's name."""
    manifests = published_manifests(store, repo_id)
    folder = survey_folder(repo_id, commit, asked)
    own = manifests.get(manifest_key(folder))
    if own and not identity.is_of(own):
        # An earlier version chose another tensor. Its artifacts stay: manifests of other commits may point at them.
        folder = survey_folder(repo_id, commit, found)
        own = manifests.get(manifest_key(folder))
    same = (manifest for manifest in manifests.values() if identity.is_of(manifest))
    tail = folder.removeprefix(f"{repo_id}/{commit}")
    others = [
        manifest
        for key, manifest in manifests.items()
        if manifest["commit"] != commit and key == manifest_key(f"{repo_id}/{manifest['commit']}{tail}")
    ]
    return Published(
        folder,
        own,
        same_w=own or next(same, None),
        previous=max(others, key=lambda manifest: manifest["published_at"], default=None),
        novelty=None if own else _novelty(manifests.values(), commit),
    )


def _novelty(manifests: Collection[Manifest], commit: str) -> Novelty:
    if not manifests:
        return "model"
    return "tensor" if any(manifest["commit"] == commit for manifest in manifests) else "revision"


def published_manifests(store: Store, repo_id: str) -> dict[str, Manifest]:
    """The manifests of a model's surveys by their keys. One counts only if everything that it names is there, whole."""
    sizes = store.sizes(f"{repo_id}/")
    found = {key: _parse(store.read(key), store.url(key)) for key in sizes if key.endswith("/manifest.json")}
    return {
        key: manifest
        for key, manifest in found.items()
        if manifest and all(sizes.get(entry["key"]) == entry["size"] for entry in manifest["artifacts"].values())
    }


def _parse(content: bytes | None, url: str) -> Manifest | None:
    """The manifest that is stored at an address. Anything else that stands there is logged and ignored."""
    try:
        return checked_manifest(json.loads(content or b""))
    except (ValueError, RecursionError):
        logger.warning("%s: not a manifest of schema %d; ignored", url, SCHEMA_VERSION)
        return None


def publish_manifest(store: Store, folder: str, manifest: Manifest) -> None:
    """Write a manifest, and then the copy that is the model's latest."""
    content = to_json(manifest)
    store.write(manifest_key(folder), content)
    store.write(latest_key(manifest["model"]), content)


def repair_latest(store: Store, manifest: Manifest) -> None:
    """Write the model's latest.json where a run was killed between the manifest and its copy."""
    key = latest_key(manifest["model"])
    content = store.read(key)
    latest = None if content is None else _parse(content, store.url(key))
    if latest is None or latest["published_at"] < manifest["published_at"]:
        store.write(key, to_json(manifest))
