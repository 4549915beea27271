"""The first step of a survey, and the only one of a plan: pin the model, find W, and see what is published already.

Reads only headers, and the W of a checkpoint on this machine, and writes nothing. Of a commit that is published as
asked, it reads nothing but the manifest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.head.adapters import follow_base
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.identity import FirstReading, pin_w
from job.checkpoints.sources.access import Access
from job.checkpoints.sources.open import open_checkpoint
from job.limits.memory import claims_of_one_model
from job.manifest.filing import is_whole, manifest_key, read_manifest, survey_folder
from job.manifest.published import ContentIdentity, Published, find_published, find_settled
from job.manifest.schema import Manifest
from job.models.references import ModelRef
from job.outcome import Status
from job.store.store import Store
from job.tokens.files import tokenizer_file_names


@dataclass(frozen=True)
class Located:
    """A pinned model, its W, and what is published of it."""

    checkpoint: Checkpoint
    unembedding: Unembedding
    published: Published
    tensors: frozenset[str]
    """The requested tensors."""
    first_reading: FirstReading | None
    """What W's bytes were when they were read to identify them, if they were."""
    bytes_fetched: Callable[[], int]
    """The number of bytes fetched from the checkpoint so far."""
    output_is_local: bool
    """Whether the surveys are published on this machine."""

    @property
    def tensors_to_publish(self) -> frozenset[str]:
        """The requested tensors that are not published for this W yet, so that W must be read. ``tokens`` is not among
        them if it is published with another tokenizer: then what was measured of each row is taken from there."""
        has_other_tokens = self.published.other_tokens is not None
        return self.tensors - self.published.artifacts.keys() - ({"tokens"} if has_other_tokens else set())

    @property
    def publishes_tokens(self) -> bool:
        """Whether tokens.parquet and what belongs to it are asked for, and not published for this W and tokenizer."""
        return "tokens" in self.tensors - self.published.artifacts.keys()

    @property
    def status(self) -> Status:
        """The status of the model after its survey."""
        if self.tensors_to_publish:
            return "surveyed"
        this_survey = self.published.this_survey
        has_all = this_survey is not None and self.tensors <= this_survey["artifacts"].keys()
        return "already published" if has_all else "same content"


def locate(ref: ModelRef, access: Access, store: Store, tensors: frozenset[str]) -> Located:
    """Pin the model, find W, and see which of the requested ``tensors`` are published.

    Raises:
        SurveyError: the model cannot be surveyed, or the store cannot be read.
    """
    with claims_of_one_model():
        return _locate(ref, access, store, tensors)


def _locate(ref: ModelRef, access: Access, store: Store, tensors: frozenset[str]) -> Located:
    pinned = open_checkpoint(ref, access)
    if ref.follow_base:
        pinned = follow_base(pinned, lambda base: open_checkpoint(base, access))
    checkpoint, bytes_fetched = _count_fetched(pinned)
    listing, output_is_local = store.listing(f"{pinned.repo_id}/"), store.path(pinned.repo_id) is not None
    requested_tensor = ref.tensor if ref.file is None else f"{ref.tensor} in {ref.file}"
    folder = survey_folder(pinned.repo_id, pinned.commit, requested_tensor)
    if settled := find_settled(store, listing, folder, pinned, ref.tensor, ref.file, tensors):
        published = Published(folder, settled, settled, settled["artifacts"], listing=listing)
        return Located(
            pinned, _published_unembedding(settled), published, tensors, None, bytes_fetched, output_is_local
        )
    unembedding = find_unembedding(checkpoint, ref.tensor, ref.file)
    pinned_w = pin_w(pinned, unembedding.location)
    checkpoint = replace(pinned_w.checkpoint, fill=checkpoint.fill)
    unembedding = replace(unembedding, warnings=(*unembedding.warnings, *pinned_w.warnings))
    identity = content_identity(checkpoint, unembedding, pinned_w.first_reading)
    published = find_published(
        store,
        listing,
        checkpoint.repo_id,
        checkpoint.commit,
        checkpoint.source,
        identity,
        requested_tensor,
        unembedding.name if ref.file is None else f"{unembedding.name} in {ref.file}",
        tensors,
        partial(has_same_tokenizer, checkpoint, unembedding),
    )
    return Located(
        checkpoint,
        unembedding,
        published,
        tensors,
        pinned_w.first_reading,
        bytes_fetched,
        output_is_local,
    )


def published_meanwhile(located: Located, store: Store) -> Manifest | None:
    """The whole manifest of this survey, of the same W, that is published by now: another run may have published it
    since the model was located. It may lack requested tensors. Reads only the store.

    Raises:
        SurveyError: the store cannot be read.
    """
    checkpoint = located.checkpoint
    manifest = read_manifest(store, manifest_key(located.published.folder))
    identity = content_identity(checkpoint, located.unembedding, located.first_reading)
    if manifest is None or not identity.matches(manifest):
        return None
    return manifest if is_whole(manifest, store.listing(f"{checkpoint.repo_id}/")) else None


def content_identity(
    checkpoint: Checkpoint, unembedding: Unembedding, first_reading: FirstReading | None
) -> ContentIdentity:
    """What identifies W before it is measured."""
    location = unembedding.location
    content_id = checkpoint.files[location.file].content_id
    return ContentIdentity(
        content_id,
        location.begin,
        location.end,
        location.dtype,
        location.shape,
        location.strides,
        first_reading.sha256 if first_reading else None,
    )


def has_same_tokenizer(checkpoint: Checkpoint, unembedding: Unembedding, manifest: Manifest) -> bool:
    """Whether a manifest of the same W names its tokens by the same files as this checkpoint would.

    No, if its tokenizer could not be read: there may have been too little memory for it.
    """
    vocabulary, file = unembedding.vocabulary, unembedding.location.file
    _, names = tokenizer_file_names(checkpoint, file, vocabulary)
    content_ids = {name: checkpoint.files[name].content_id for name in names}
    if vocabulary:
        # The file itself says what its rows are, and another one beside it is used only if it agrees.
        content_id = checkpoint.files[vocabulary.file].content_id
        if manifest["tensor"]["content_id"] != content_id:
            return False
        content_ids = content_ids or {vocabulary.file: content_id}
    tokenizer = manifest["tokenizer"]
    return tokenizer["files"] == content_ids and ("kind" in tokenizer or not content_ids)


def _published_unembedding(manifest: Manifest) -> Unembedding:
    """W as a published survey describes it."""
    tensor = manifest["tensor"]
    return Unembedding(
        tensor["name"],
        TensorLocation(
            tensor["file"],
            tensor["begin"],
            tensor["end"],
            tensor["dtype"],
            tuple(tensor["shape"]),
            tuple(strides) if (strides := tensor.get("strides")) else None,
        ),
        tensor["reason"],
        tensor.get("tie", "tied" if tensor["tied"] else "untied"),
        tensor.get("tie_evidence", ""),
        warnings=tuple(manifest["warnings"]),
    )


def _count_fetched(checkpoint: Checkpoint) -> tuple[Checkpoint, Callable[[], int]]:
    """The same checkpoint, and a function that returns the number of bytes fetched from it so far."""
    lock, total = Lock(), 0

    def fill(file: str, begin: int, buffer: memoryview) -> None:
        nonlocal total
        checkpoint.fill(file, begin, buffer)
        with lock:
            total += len(buffer)

    return replace(checkpoint, fill=fill), lambda: total
