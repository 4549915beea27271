"""Where a survey is filed, which surveys of a model are published, and how a manifest is published."""

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
    """What identifies W before it is measured: its file, its byte range in the file, and how to read the range. If W is
    on this machine, its own bytes."""

    content_id: str
    """An id of the file that changes only if the file's bytes change."""
    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    w_sha256: str | None = None
    """The sha-256 of W's bytes; None if it is not known yet."""

    def matches(self, manifest: Manifest) -> bool:
        """Whether a manifest describes the same W."""
        tensor = manifest["tensor"]
        if (tensor["dtype"], tensor["shape"]) != (self.dtype, list(self.shape)):
            return False
        if self.w_sha256:
            return manifest["w_sha256"] == self.w_sha256
        if manifest.get("source", "").startswith("/") and "content_id_from" not in tensor:
            return False  # an earlier version took the id from a name in the Hub's cache, and did not check it
        strides = list(self.strides) if self.strides else None
        range_and_strides = (tensor["content_id"], tensor["begin"], tensor["end"], tensor.get("strides"))
        return range_and_strides == (self.content_id, self.begin, self.end, strides)


def survey_folder(repo_id: str, commit: str, requested_tensor: str | None) -> str:
    """The folder of a survey. A survey of a requested tensor has a folder of its own below the commit's."""
    if requested_tensor is None:
        return f"{repo_id}/{commit}"
    digest = hashlib.sha256(requested_tensor.encode(errors="surrogatepass")).hexdigest()
    return f"{repo_id}/{commit}/tensor-{digest[:8]}"


def manifest_key(folder: str) -> str:
    return f"{folder}/manifest.json"


def latest_key(repo_id: str) -> str:
    return f"{repo_id}/latest.json"


NewItem = Literal["model", "revision", "tensor"]
"""What a survey is the first one of: its model, its commit of a surveyed model, or its tensor of a surveyed commit."""


@dataclass(frozen=True)
class Published:
    """The folder of a survey, and the published surveys of the same W and of the same model."""

    folder: str
    this_survey: Manifest | None
    """The manifest in ``folder``."""
    same_w: Manifest | None
    """``this_survey``, or else a manifest of another commit or tensor name with the same bytes of W."""
    previous_survey: Manifest | None
    """The newest manifest of another commit whose tensor was chosen in the same way."""
    new_item: NewItem | None
    """None if ``this_survey`` exists."""


def find_published(
    store: Store,
    repo_id: str,
    commit: str,
    source: str,
    identity: ContentIdentity,
    requested_tensor: str | None,
    tensor: str,
) -> Published:
    """The published surveys of a model, as far as they concern a survey of ``tensor``.

    ``source``: where the checkpoint is read from. Checkpoints that are not on the Hub may share a name; what is new is
    told by comparison with those of the same place alone. ``requested_tensor``: the tensor that the list names, if it
    names one; ``tensor`` is what it stands for.
    """
    manifests = published_manifests(store, repo_id)
    folder = survey_folder(repo_id, commit, requested_tensor)
    this_survey = manifests.get(manifest_key(folder))
    if this_survey and not identity.matches(this_survey):
        # An earlier version chose another tensor, or read a damaged copy. Its artifacts stay: manifests of other
        # commits may point at them.
        earlier, folder = folder, survey_folder(repo_id, commit, tensor)
        logger.warning("%s: a survey of another W; it stays, and this one is filed in %s", store.url(earlier), folder)
        this_survey = manifests.get(manifest_key(folder))
    same_w = (manifest for manifest in manifests.values() if identity.matches(manifest))
    subfolder = folder.removeprefix(f"{repo_id}/{commit}")
    comparable = {
        key: manifest
        for key, manifest in manifests.items()
        if not repo_id.startswith("local/") or manifest.get("source", source) == source
    }
    of_other_commits = [
        manifest
        for key, manifest in comparable.items()
        if manifest["commit"] != commit and key == manifest_key(f"{repo_id}/{manifest['commit']}{subfolder}")
    ]
    return Published(
        folder,
        this_survey,
        same_w=this_survey or next(same_w, None),
        previous_survey=max(of_other_commits, key=lambda manifest: manifest["published_at"], default=None),
        new_item=None if this_survey else _new_item(comparable.values(), commit),
    )


def _new_item(manifests: Collection[Manifest], commit: str) -> NewItem:
    if not manifests:
        return "model"
    return "tensor" if any(manifest["commit"] == commit for manifest in manifests) else "revision"


def published_manifests(store: Store, repo_id: str) -> dict[str, Manifest]:
    """The manifests of a model by key. A manifest counts only if all its artifacts exist with the right size."""
    sizes = store.sizes(f"{repo_id}/")
    manifests = {
        key: _parse_manifest(store.read(key), store.url(key)) for key in sizes if key.endswith("/manifest.json")
    }
    return {
        key: manifest
        for key, manifest in manifests.items()
        if manifest and all(sizes.get(entry["key"]) == entry["size"] for entry in manifest["artifacts"].values())
    }


def _parse_manifest(content: bytes | None, url: str) -> Manifest | None:
    """The manifest that is stored at an address. Anything else is logged and ignored."""
    try:
        return checked_manifest(json.loads(content or b""))
    except (ValueError, RecursionError):
        logger.warning("%s: not a manifest of schema %d; ignored", url, SCHEMA_VERSION)
        return None


def publish_manifest(store: Store, folder: str, manifest: Manifest) -> None:
    """Write a manifest, and then its copy, the model's latest.json."""
    content = to_json(manifest)
    store.write(manifest_key(folder), content)
    store.write(latest_key(manifest["model"]), content)


def repair_latest(store: Store, manifest: Manifest) -> None:
    """Write the model's latest.json if a run was killed between writing the manifest and writing its copy."""
    key = latest_key(manifest["model"])
    content = store.read(key)
    latest = None if content is None else _parse_manifest(content, store.url(key))
    if latest is None or latest["published_at"] < manifest["published_at"]:
        store.write(key, to_json(manifest))
