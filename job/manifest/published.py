"""Which surveys of a model are published, as far as they concern the survey at hand."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.transport.parallel import map_as_completed
from job.manifest.filing import (
    is_examined,
    is_whole,
    latest_key,
    manifest_key,
    publication_order,
    read_manifest,
    survey_folder,
)
from job.manifest.schema import ArtifactEntry, Manifest
from job.store.artifacts import TOKEN_ARTIFACTS
from job.store.store import ListedObject, Store

logger = logging.getLogger(__name__)

MANIFESTS_AT_ONCE: Final = 8
"""How many manifests are read at once: the next revision of a model with hundreds needs them all."""


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


NewItem = Literal["model", "revision", "tensor"]
"""What a survey is the first one of: its model, its commit of a surveyed model, or its tensor of a surveyed commit."""


@dataclass(frozen=True)
class Published:
    """The folder of a survey, and the published surveys of the same W and of the same model."""

    folder: str
    this_survey: Manifest | None = None
    """The manifest in ``folder``."""
    same_w: Manifest | None = None
    """``this_survey``, or else the newest manifest of another commit or tensor name with the same bytes of W."""
    artifacts: Mapping[str, ArtifactEntry] = field(default_factory=dict)
    """The artifacts of this W by name, whichever surveys published them. Those of tokens, only if they are of the same
    tokenizer."""
    tokens_survey: Manifest | None = None
    """The survey that published those of tokens."""
    other_tokens: ArtifactEntry | None = None
    """A tokens.parquet of this W with the tokens of another tokenizer, if ``artifacts`` has none."""
    previous_survey: Manifest | None = None
    """The newest manifest of another commit whose tensor was chosen in the same way."""
    new_item: NewItem | None = None
    """None if ``this_survey`` exists."""
    last_sequence: int = 0
    """The highest ``sequence`` of the model's manifests."""
    listing: Mapping[str, ListedObject] = field(default_factory=dict, repr=False)
    """What is stored of the model, before the survey."""


def find_settled(
    store: Store,
    listing: Mapping[str, ListedObject],
    folder: str,
    checkpoint: Checkpoint,
    tensor: str | None,
    file: str | None,
    tensors: frozenset[str],
) -> Manifest | None:
    """The manifest in ``folder``, if it is of this commit and has all ``tensors``, so that a look into the checkpoint
    would change nothing; else None. Reads nothing of the checkpoint.

    The files of a commit never change, so this version of the tool would choose the same W again. Files on this machine
    are no such commit: only their bytes tell whether they changed.

    Args:
        listing: of the model's objects in the store.
        tensor, file: those that the list names.
    """
    key = manifest_key(folder)
    manifest = read_manifest(store, key) if key in listing and not checkpoint.local_paths else None
    if manifest is None or not (is_examined(manifest) and is_whole(manifest, listing)):
        return None
    entry = manifest["tensor"]
    is_as_asked = tensor in (None, entry["name"]) and file in (None, entry["file"])
    if not is_as_asked or not tensors <= manifest["artifacts"].keys() or entry["file"] not in checkpoint.files:
        return None
    return manifest if checkpoint.files[entry["file"]].content_id == entry["content_id"] else None


def find_published(
    store: Store,
    listing: Mapping[str, ListedObject],
    repo_id: str,
    commit: str,
    source: str,
    identity: ContentIdentity,
    requested_tensor: str | None,
    tensor: str,
    tensors: frozenset[str],
    has_same_tokenizer: Callable[[Manifest], bool],
) -> Published:
    """The published surveys of a model, as far as they concern a survey that is to publish ``tensors`` of ``tensor``.

    A model may have hundreds of surveys. They are all read only if neither this survey's manifest nor latest.json has
    all ``tensors`` of this W.

    Args:
        listing: of the model's objects in the store.
        source: where the checkpoint is read from. Checkpoints that are not on the Hub may share a name; what is new is
            told by comparison with those of the same place alone.
        requested_tensor: the tensor that the list names, if it names one; ``tensor`` is what it stands for.
        has_same_tokenizer: whether the tokens of another commit's manifest are those of this commit.
    """
    folder = survey_folder(repo_id, commit, requested_tensor)

    def read(key: str) -> Manifest | None:
        manifest = read_manifest(store, key) if key in listing else None
        return manifest if manifest and is_whole(manifest, listing) else None

    def is_enough(manifest: Manifest) -> bool:
        return identity.matches(manifest) and tensors <= manifest["artifacts"].keys()

    def is_comparable(manifest: Manifest) -> bool:
        return not repo_id.startswith("local/") or manifest.get("source", source) == source

    this_survey = read(manifest_key(folder))
    if this_survey and is_enough(this_survey):
        return Published(folder, this_survey, this_survey, this_survey["artifacts"], listing=listing)
    is_first_of_commit = not any(key.startswith(f"{repo_id}/{commit}/") for key in listing)
    if requested_tensor is None and is_first_of_commit:
        newest = read(latest_key(repo_id))
        if newest and not newest["tensor"]["chosen_by_user"] and is_enough(newest) and is_comparable(newest):
            artifacts, tokens_survey, other_tokens = _reusable([newest], has_same_tokenizer)
            last = newest.get("sequence", 0)
            return Published(folder, None, newest, artifacts, tokens_survey, other_tokens, newest, "revision", last)

    keys = [key for key in listing if key.endswith("/manifest.json")]
    manifests = {key: manifest for key, manifest in map_as_completed(read, keys, MANIFESTS_AT_ONCE) if manifest}
    folder = _free_folder(store, repo_id, commit, identity, requested_tensor, tensor, manifests)
    this_survey = manifests.get(manifest_key(folder))
    of_this_w = sorted(filter(identity.matches, manifests.values()), key=publication_order)
    if this_survey:
        of_this_w.append(this_survey)
    comparable = {key: manifest for key, manifest in manifests.items() if is_comparable(manifest)}
    previous = [
        manifest
        for key, manifest in comparable.items()
        if manifest["commit"] != commit
        and manifest["tensor"]["chosen_by_user"] == (requested_tensor is not None)
        and (
            requested_tensor is None
            or key == manifest_key(survey_folder(repo_id, manifest["commit"], requested_tensor))
        )
    ]
    artifacts, tokens_survey, other_tokens = _reusable(
        of_this_w, lambda manifest: manifest is this_survey or has_same_tokenizer(manifest)
    )
    return Published(
        folder,
        this_survey,
        same_w=of_this_w[-1] if of_this_w else None,
        artifacts=artifacts,
        tokens_survey=tokens_survey,
        other_tokens=other_tokens,
        previous_survey=max(previous, key=publication_order, default=None),
        new_item=None if this_survey else _new_item(comparable.values(), commit),
        last_sequence=max((manifest.get("sequence", 0) for manifest in manifests.values()), default=0),
        listing=listing,
    )


def _reusable(
    of_this_w: Sequence[Manifest], has_same_tokenizer: Callable[[Manifest], bool]
) -> tuple[dict[str, ArtifactEntry], Manifest | None, ArtifactEntry | None]:
    """``artifacts``, ``tokens_survey`` and ``other_tokens`` of Published. ``of_this_w``: the newest comes last."""
    entries = [(manifest, name, entry) for manifest in of_this_w for name, entry in manifest["artifacts"].items()]
    artifacts = {name: entry for _, name, entry in entries if name not in TOKEN_ARTIFACTS}
    with_tokens = [manifest for manifest in reversed(of_this_w) if "tokens" in manifest["artifacts"]]
    same = next(filter(has_same_tokenizer, with_tokens), None)
    if same:
        artifacts |= {name: entry for manifest, name, entry in entries if manifest is same}
        return artifacts, same, None
    return artifacts, None, with_tokens[0]["artifacts"]["tokens"] if with_tokens else None


def _free_folder(
    store: Store,
    repo_id: str,
    commit: str,
    identity: ContentIdentity,
    requested_tensor: str | None,
    tensor: str,
    manifests: Mapping[str, Manifest],
) -> str:
    """A folder for a survey of this W in which no manifest lies that is of another W, and no object that such a
    manifest names: an earlier version chose another tensor, or read a damaged copy. What it published stays."""
    others = {key: manifest for key, manifest in manifests.items() if not identity.matches(manifest)}
    taken = {entry["key"].rpartition("/")[0] for other in others.values() for entry in other["artifacts"].values()}
    taken |= {key.rpartition("/")[0] for key in others}
    for name in (requested_tensor, tensor):
        folder = survey_folder(repo_id, commit, name)
        if folder not in taken:
            return folder
        logger.warning("%s: a survey of another W; it stays, and this one is filed beside it", store.url(folder))
    return survey_folder(repo_id, commit, f"{tensor} {identity}")


def _new_item(manifests: Collection[Manifest], commit: str) -> NewItem:
    if not manifests:
        return "model"
    return "tensor" if any(manifest["commit"] == commit for manifest in manifests) else "revision"
