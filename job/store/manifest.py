"""The manifest of a survey, ``manifest.json``: where it is filed, what it promises, how it is found again.

It is written last: where it exists, everything that it names is whole.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from job.store.store import Store

SCHEMA_VERSION: Final = 1

Manifest = dict[str, Any]
"""A manifest as JSON gives it; its fields are described in the README."""


@dataclass(frozen=True)
class ContentIdentity:
    """What W's bytes are, known before they are read: the object they lie in, which changes only when its bytes do,
    and the range within it."""

    content_id: str
    begin: int
    end: int

    def is_of(self, manifest: Manifest) -> bool:
        tensor = manifest["tensor"]
        return self == ContentIdentity(tensor["content_id"], tensor["begin"], tensor["end"])


@dataclass(frozen=True)
class Published:
    """What the store holds of a model."""

    same_commit: Manifest | None
    """The manifest of the commit asked for, whatever tensor it took for W."""
    same_content: Manifest | None
    """A manifest, of this or another commit, whose W is the same bytes."""


def manifest_key(repo_id: str, commit: str) -> str:
    return f"{repo_id}/{commit}/manifest.json"


def find_published(store: Store, repo_id: str, commit: str, identity: ContentIdentity) -> Published:
    """What is already published of a model. A manifest counts only if everything that it names is there."""
    keys = set(store.keys(f"{repo_id}/"))
    own = manifest_key(repo_id, commit)
    same_commit = _read_whole(store, own, keys)
    if same_commit and identity.is_of(same_commit):
        return Published(same_commit, same_commit)
    for key in sorted(keys - {own}):
        if key.endswith("/manifest.json") and (manifest := _read_whole(store, key, keys)) and identity.is_of(manifest):
            return Published(same_commit, manifest)
    return Published(same_commit, None)


def _read_whole(store: Store, key: str, keys: set[str]) -> Manifest | None:
    """A manifest of today's schema whose artifacts are all among ``keys``."""
    content = store.read(key) if key in keys else None
    if content is None:
        return None
    manifest: Manifest = json.loads(content)
    if manifest["schema_version"] != SCHEMA_VERSION:
        return None
    return manifest if keys.issuperset(artifact["key"] for artifact in manifest["artifacts"].values()) else None


def publish_manifest(store: Store, manifest: Manifest) -> None:
    """Write a manifest, and then the copy that is the model's latest."""
    content = to_json(manifest)
    store.write(manifest_key(manifest["model"], manifest["commit"]), content)
    store.write(latest_key(manifest["model"]), content)


def latest_key(repo_id: str) -> str:
    return f"{repo_id}/latest.json"


def mend_latest(store: Store, manifest: Manifest) -> None:
    """Write the model's latest.json where a run was killed between the manifest and its copy."""
    latest = store.read(latest_key(manifest["model"]))
    if latest is None or json.loads(latest)["published_at"] < manifest["published_at"]:
        store.write(latest_key(manifest["model"]), to_json(manifest))


def to_json(value: Mapping[str, object]) -> bytes:
    """JSON for people and machines; numbers that JSON cannot say (NaN, infinity) become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
