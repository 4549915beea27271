"""Which published survey a name stands for: ``org/name``, or ``org/name@revision-or-commit``."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from job.differences.published_data import PublishedSurvey, folder_of
from job.errors import ConfigError, join_limited
from job.manifest.filing import latest_key, manifest_key, publication_order, read_manifest
from job.store.store import Store

_MANIFEST: Final = re.compile(r"(?P<model>.+?)/(?P<id>[^/]+(?:/tensor-[0-9a-f]{8})?)/manifest\.json", re.DOTALL)
"""The key of a manifest; one folder deeper for a survey of a requested tensor."""
_MAX_NAMES: Final = 8
_EXPECTED: Final = "org/name, or org/name@revision-or-commit"


def find_survey(store: Store, name: str) -> PublishedSurvey:
    """The survey of this name: the newest of a model, that of a commit, which may be shortened, or the newest that was
    asked for as a revision.

    Raises:
        ConfigError: no survey has this name, or several have.
        TransientError: the store fails.
    """
    model, _, version = name.rpartition("@")
    survey = _newest(store, name)  # a folder's name may hold an @
    if survey is None and model:
        survey = _of_version(store, model, version)
    if survey is None:
        raise _unknown(store, name, model or name)
    return survey


def find_predecessor(survey: PublishedSurvey) -> PublishedSurvey:
    """The survey that a survey was compared with when it was made: the newest earlier one of another commit. If that
    is gone, the newest that is older.

    Raises:
        ConfigError: there is none.
        TransientError: the store fails.
    """
    store, manifest = survey.store, survey.manifest
    tensor_folder = survey.folder.removeprefix(f"{manifest['model']}/{manifest['commit']}")
    if previous := manifest.get("previous"):
        found = _read(store, f"{manifest['model']}/{previous['commit']}{tensor_folder}")
        if found:
            return found
    older = [
        other
        for other in _all_of(store, manifest["model"])
        if other.manifest["commit"] != manifest["commit"]
        and other.manifest["tensor"]["chosen_by_user"] == manifest["tensor"]["chosen_by_user"]
        and (other.folder.endswith(tensor_folder) or not manifest["tensor"]["chosen_by_user"])
        and publication_order(other.manifest) < publication_order(manifest)
    ]
    if not older:
        raise ConfigError(
            f"compare: {shown(survey)} has no survey before it, expected one to compare with; name the other survey too"
        )
    return max(older, key=_order)


def shown(survey: PublishedSurvey) -> str:
    """A survey's name, as it can be typed."""
    return f"{survey.manifest['model']}@{survey.manifest['commit']}"


def _newest(store: Store, model: str) -> PublishedSurvey | None:
    """The newest survey of the tensor that the job chose."""
    if not _is_name(model):
        return None
    latest = read_manifest(store, latest_key(model))
    if latest is not None and latest["model"] == model:
        return PublishedSurvey(store, folder_of(latest), latest)
    # A run may have been killed before it wrote the copy of the manifest.
    chosen = [found for found in _all_of(store, model) if not found.manifest["tensor"]["chosen_by_user"]]
    return max(chosen, key=_order, default=None)


def _of_version(store: Store, model: str, version: str) -> PublishedSurvey | None:
    ids = _ids(store, model)
    of_commit = [id for id in ids if "/" not in id]
    fitting = [id for id in of_commit if id.startswith(version)] or [id for id in ids if id.startswith(version)]
    if version in ids or (version and len(fitting) == 1):
        return _read(store, f"{model}/{version if version in ids else fitting[0]}")
    of_revision = [found for found in _all_of(store, model) if found.manifest.get("revision") == version]
    if of_revision:
        return max(of_revision, key=_order)
    if version and fitting:
        names = join_limited([f"{model}@{id}" for id in fitting], _MAX_NAMES)
        raise ConfigError(
            f"compare: {model}@{version} was found, which begins {names}, expected one survey; write more of the commit"
        )
    return None


def _all_of(store: Store, model: str) -> list[PublishedSurvey]:
    return [found for id in _ids(store, model) if (found := _read(store, f"{model}/{id}"))]


def _read(store: Store, folder: str) -> PublishedSurvey | None:
    manifest = read_manifest(store, manifest_key(folder))
    return PublishedSurvey(store, folder, manifest) if manifest else None


def _ids(store: Store, model: str) -> list[str]:
    """The commits of a model's surveys, with ``/tensor-…`` for those of requested tensors."""
    keys = store.sizes(f"{model}/") if _is_name(model) else ()
    return [match["id"] for match in _matches(keys) if match["model"] == model]


def _matches(keys: Iterable[str]) -> list[re.Match[str]]:
    return [match for key in keys if (match := _MANIFEST.fullmatch(key))]


def _order(survey: PublishedSurvey) -> tuple[int, str, str]:
    return publication_order(survey.manifest)


def _is_name(model: str) -> bool:
    """Whether a text that somebody typed can be the begin of a key at all."""
    is_text = "\0" not in model and not any("\ud800" <= char <= "\udfff" for char in model)
    return is_text and not any(segment in ("", ".", "..") for segment in model.split("/"))


def _unknown(store: Store, name: str, model: str) -> ConfigError:
    """What to say of a name that stands for no survey: what there is of its model, or the models most like it."""
    ids = _ids(store, model)
    if ids:
        there = join_limited([f"{model}@{id}" for id in ids], _MAX_NAMES)
    else:
        models = _models(store)
        if not models:
            return ConfigError(f"compare: {name!r} was found, but OUTPUT has no survey at all, expected {_EXPECTED}")
        like = get_close_matches(name, models, n=_MAX_NAMES, cutoff=0.3) or list(models)
        there = join_limited([*like, *(one for one in models if one not in like)], _MAX_NAMES)
    return ConfigError(
        f"compare: {name!r} was found, but OUTPUT has no such survey, expected {_EXPECTED}, such as {there}; correct "
        "the name, or survey the model"
    )


def _models(store: Store) -> Mapping[str, None]:
    return dict.fromkeys(sorted(match["model"] for match in _matches(store.sizes(""))))
