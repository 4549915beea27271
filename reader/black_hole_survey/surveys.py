"""All surveys that were published to one place: which there are, and opening one."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from black_hole_survey.errors import InvalidManifest, SurveysError, UnknownSurvey, UnreadableStore
from black_hole_survey.folder import FolderStore
from black_hole_survey.manifest import Manifest, parse_manifest, publication_order
from black_hole_survey.s3 import parse_address
from black_hole_survey.store import Store
from black_hole_survey.survey import Survey
from black_hole_survey.tables import AnyTable, TableLibrary, from_rows
from black_hole_survey.tensors import Framework, default_framework, join_limited

MANIFEST: Final = re.compile(r"(?P<model>.+?)/(?P<id>[^/]+(?:/tensor-[0-9a-f]{8})?)/manifest\.json")
"""The key of a manifest: ``<model>/<commit>/manifest.json``; one folder deeper for a survey of a requested tensor."""
LATEST: Final = re.compile(r"(?P<model>.+)/latest\.json")
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(s3|gs|https?|file):/")
"""The beginning of an address. A Path makes one slash of two. A drive of Windows has one letter."""
READERS: Final = 16
"""How many manifests are read at once."""


class Surveys(Mapping[str, Survey]):
    """Surveys by model: ``surveys["org/name"]`` is the newest, ``surveys["org/name@commit"]`` that of a commit, which
    may be shortened. Iterating lists the models. Nothing is kept: what is published meanwhile is seen."""

    def __init__(self, store: Store, framework: Framework) -> None:
        self._store = store
        self._framework: Framework = framework

    def __repr__(self) -> str:
        return f"open_surveys({self._store.url('').rstrip('/')!r})"

    def __iter__(self) -> Iterator[str]:
        """All models of which there is a survey, sorted. A model of which only requested tensors were surveyed is
        listed as ``org/name@commit/tensor-…``, once for each, because its name alone does not say which."""
        keys = self._store.list_keys()
        matches = [match for key in keys for match in [LATEST.fullmatch(key) or MANIFEST.fullmatch(key)] if match]
        ids = {(match["model"], match.groupdict().get("id", "")) for match in matches}
        models = {model for model, id_ in ids if "/" not in id_}
        return iter(sorted(models | {f"{model}@{id_}" for model, id_ in ids if model not in models}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Survey:
        """Open a survey.

        Raises:
            UnknownSurvey: there is none, or several fit.
            InvalidManifest: its manifest cannot be used.
            UnreadableStore: the place cannot be read.
        """
        if not isinstance(name, str):
            raise UnknownSurvey(
                f"{name!r}: found a {type(name).__name__}, expected the name of a survey, org/name or org/name@commit; "
                "iterate to list the models"
            )
        model, _, commit = name.rpartition("@")
        manifest = self._of_commit(model, commit) if model else self._newest(name)
        if manifest is None and model:
            manifest = self._newest(name)  # a folder's name may hold an @
        if manifest is None:
            raise self._unknown(name, model or name)
        return Survey(self._store, manifest, self._framework)

    def table(self, library: TableLibrary | None = None) -> AnyTable:
        """A row for each survey, those of all commits and requested tensors, sorted by model and publication.

        Args:
            library: ``pandas``, ``polars`` or ``arrow``; None for the first of them that is installed, or a list of
                dicts if none is.
        """
        by_model: dict[str, list[Mapping[str, object]]] = {}
        manifests = self._read_manifests(key for key in self._store.list_keys() if MANIFEST.fullmatch(key))
        for key, manifest in sorted(manifests.items(), key=lambda item: publication_order(item[1])):
            match = MANIFEST.fullmatch(key)
            name = f"{match['model']}@{match['id']}" if match else key
            by_model.setdefault(manifest["model"], []).append(_row(name, manifest))
        return from_rows([row for model in sorted(by_model) for row in by_model[model]], library)

    def _newest(self, model: str) -> Manifest | None:
        """The newest survey of the tensor that the job chose; None if there is none."""
        manifest = self._read(f"{model}/latest.json")
        if manifest is not None:
            return manifest
        # A run may have been killed before it wrote the copy of the manifest.
        found = self._read_manifests(self._keys_of(model, "").values()).values()
        chosen = [manifest for manifest in found if not manifest["tensor"].get("chosen_by_user")]
        return max(chosen, key=publication_order, default=None)

    def _of_commit(self, model: str, commit: str) -> Manifest | None:
        """The survey of a commit, or of the one that begins so; None if there is none.

        Raises:
            UnknownSurvey: several begin so.
        """
        whole = self._read(f"{model}/{commit}/manifest.json") if COMMIT.fullmatch(commit) else None
        if whole is not None:
            return whole
        found = self._keys_of(model, commit)
        of_commit = [each for each in found if "/" not in each]
        fitting = [commit] if commit in found else of_commit or list(found)
        if len(fitting) > 1:
            raise UnknownSurvey(
                f"{model}@{commit}: found {join_limited(f'{model}@{each}' for each in fitting)}, expected one that "
                "begins so; write more of it"
            )
        return self._read(found[fitting[0]]) if fitting else None

    def _keys_of(self, model: str, begin: str) -> dict[str, str]:
        """The keys of a model's manifests whose commit begins so, by commit (and tensor)."""
        keys = self._store.list_keys(f"{model}/{begin}") if _is_name(model) and _is_name(begin or "-") else []
        matches = [match for key in keys if (match := MANIFEST.fullmatch(key)) and match["model"] == model]
        return {match["id"]: match.string for match in matches}

    def _read(self, key: str) -> Manifest | None:
        content = self._store.read(key) if _is_name(key) else None
        return None if content is None else parse_manifest(content, self._store.url(key))

    def _read_manifests(self, keys: Iterable[str]) -> dict[str, Manifest]:
        """Manifests by key, without those that cannot be used, of which a warning tells."""

        def read(key: str) -> Manifest | InvalidManifest | None:
            try:
                return self._read(key)
            except InvalidManifest as error:
                return error

        from concurrent.futures import ThreadPoolExecutor  # here, because it imports much

        listed = list(keys)
        with ThreadPoolExecutor(READERS) as pool:
            found = dict(zip(listed, pool.map(read, listed), strict=True))
        for manifest in found.values():
            if isinstance(manifest, InvalidManifest):
                warnings.warn(f"left out: {manifest}", stacklevel=3)
        return {key: manifest for key, manifest in found.items() if isinstance(manifest, dict)}

    def _unknown(self, name: str, model: str) -> SurveysError:
        """What to say of a name that stands for no survey: those of its model, or the models, most similar first."""
        from difflib import SequenceMatcher

        surveys = [f"{model}@{each}" for each in self._keys_of(model, "")]
        models = [] if surveys else list(self)
        there = surveys or sorted(models, key=lambda each: -SequenceMatcher(None, each.lower(), name.lower()).ratio())
        return UnknownSurvey(
            f"{name}: found no such survey in {self._store.url('')}, expected one of {join_limited(there)}; correct "
            "the name, or survey the model"
        )


def open_surveys(place: str | Path, framework: Framework | None = None) -> Surveys:
    """The surveys published to a folder or to ``s3://bucket/prefix``. Nothing is read yet.

    Args:
        framework: ``torch`` or ``numpy``, what tensors are; None for torch where it is installed.

    Raises:
        UnreadableStore: the place is an address of another kind.
    """
    if framework not in (None, "torch", "numpy"):
        raise ValueError(f"framework: found {framework!r}, expected 'torch' or 'numpy'")
    is_s3 = isinstance(place, str) and place.startswith("s3://")
    if not is_s3 and (address := ADDRESS.match(str(place))):
        raise _unsupported(address[1] or address[2])
    store: Store = parse_address(str(place)) if is_s3 else FolderStore(Path(place).expanduser())
    return Surveys(store, framework or default_framework())


def _unsupported(scheme: str) -> UnreadableStore:
    """What to say of an address that is no folder. What follows its scheme may hold a password, so it is left out."""
    advice = "mount it, copy it to a folder, or use its S3 interface with AWS_ENDPOINT_URL"
    if scheme.lower() == "s3":
        advice = "write it as a text that begins with s3://, not as a Path"
    return UnreadableStore(
        f"{scheme}://…: found an address that cannot be read as it is, expected a folder or s3://bucket/prefix; "
        f"{advice}"
    )


def _is_name(key: str) -> bool:
    """Whether a text that somebody typed can be a key or its beginning at all."""
    return "\0" not in key and not any(segment in ("", ".", "..") for segment in key.split("/"))


def _row(name: str, manifest: Manifest) -> dict[str, object]:
    """A survey's row in the table of all."""
    tensor, statistics = manifest["tensor"], manifest["statistics"]
    mu = statistics.get("mu")
    return {
        "survey": name,
        "model": manifest["model"],
        "commit": manifest["commit"],
        "revision": manifest.get("revision"),
        "published_at": manifest["published_at"],
        "tensor": tensor.get("name"),
        "chosen_by_user": tensor.get("chosen_by_user", False),
        "tied": tensor.get("tied"),
        "dtype": tensor["dtype"],
        "n_rows": tensor["shape"][0],
        "hidden_size": tensor["shape"][1],
        "n_tokens": manifest.get("tokenizer", {}).get("n_tokens"),
        "unique_rows": statistics.get("unique_rows"),
        "duplicate_rows": statistics.get("duplicate_rows"),
        "black_holes": statistics.get("black_holes"),
        "black_hole_tokens": statistics.get("black_hole_tokens"),
        "largest": statistics.get("largest"),
        "share_of_rows": statistics.get("share_of_rows"),
        "mu_norm": mu.get("norm") if mu else None,
        "n_warnings": len(manifest.get("warnings", [])),
        "w_sha256": manifest.get("w_sha256"),
    }
