"""The manifest of a survey, ``manifest.json``: where it is filed, what it promises, how it is found again.

It is written last: where it exists, everything that it names is whole.
"""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from job.store.store import Store

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1

Manifest = dict[str, Any]
"""A manifest as JSON gives it; its fields are described in the README."""


_FIELDS: Final[dict[str, type]] = {
    "model": str,
    "commit": str,
    "tensor": dict,
    "w_sha256": str,
    "statistics": dict,
    "black_holes": list,
    "artifacts": dict,
    "tokenizer": dict,
    "checkpoint": dict,
    "warnings": list,
    "published_at": str,
}
"""What every manifest of this schema has, as far as a later run relies on it."""


@dataclass(frozen=True)
class ContentIdentity:
    """What W is, known before its bytes are read: the object they lie in, which changes only when its bytes do, the
    range within it, and how the range is to be read."""

    content_id: str
    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None

    def is_of(self, manifest: Manifest) -> bool:
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
    """Where a survey is filed, and what is there already of the same W and of the same model."""

    folder: str
    own: Manifest | None
    """The manifest in that very folder."""
    known: Manifest | None
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
        known=own or next(same, None),
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
    """A manifest of today's schema; anything else that stands in its place is told of and counts as nothing."""
    try:
        manifest = json.loads(content or b"")
    except (ValueError, RecursionError):
        manifest = None
    sound = (
        isinstance(manifest, dict)
        and manifest.get("schema_version") == SCHEMA_VERSION
        and all(isinstance(manifest.get(field), kind) for field, kind in _FIELDS.items())
        and all(isinstance(entry, dict) and {"key", "size"} <= entry.keys() for entry in manifest["artifacts"].values())
        and all(isinstance(hole, dict) and isinstance(hole.get("tokens"), list) for hole in manifest["black_holes"])
        and all(
            isinstance(token, dict) and isinstance(token.get("id"), int)
            for hole in manifest["black_holes"]
            for token in hole["tokens"]
        )
    )
    if not sound:
        logger.warning("%s: is no manifest of schema %d; it is left out of account", url, SCHEMA_VERSION)
        return None
    return cast("Manifest", manifest)


def publish_manifest(store: Store, folder: str, manifest: Manifest) -> None:
    """Write a manifest, and then the copy that is the model's latest."""
    content = to_json(manifest)
    store.write(manifest_key(folder), content)
    store.write(latest_key(manifest["model"]), content)


def repair_latest(store: Store, manifest: Manifest) -> None:
    """Write the model's latest.json where a run was killed between the manifest and its copy."""
    key = latest_key(manifest["model"])
    content = store.read(key)
    latest = _parse(content, store.url(key)) if content is not None else None
    if latest is None or latest["published_at"] < manifest["published_at"]:
        store.write(key, to_json(manifest))


def to_json(value: Mapping[str, object]) -> bytes:
    """JSON for people and machines. Numbers that JSON cannot say (NaN, infinity) null; half surrogates escapes."""
    return json.dumps(_sayable(value), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _sayable(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value
