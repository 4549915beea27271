"""The first act of a survey, and all of a plan: pin the model, find W, see what is published. Headers only; it writes
nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.adapters import follow_base
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.open import Access, open_checkpoint
from job.manifest.filing import ContentIdentity, Published, find_published
from job.models.references import ModelRef
from job.outcome import Status
from job.store.store import Store


@dataclass(frozen=True)
class Located:
    """A pinned model whose W has been found, and what the store holds of it."""

    checkpoint: Checkpoint
    unembedding: Unembedding
    published: Published
    missing: frozenset[str]
    """The tensors that were asked for and are not published for these bytes."""
    bytes_fetched: Callable[[], int]
    """How many bytes were fetched from the checkpoint so far."""

    @property
    def status(self) -> Status:
        """How its survey ends."""
        if self.missing:
            return "surveyed"
        return "already published" if self.published.own else "same content"


def locate(ref: ModelRef, access: Access, store: Store, tensors: frozenset[str]) -> Located:
    """Pin the model, find W, and see which of these ``tensors`` are published of it.

    Raises:
        SurveyError: the model cannot be surveyed, or the store cannot be read.
    """
    pinned = open_checkpoint(ref, access)
    if ref.follow_base:
        pinned = follow_base(pinned, lambda base: open_checkpoint(base, access))
    checkpoint, bytes_fetched = _counting(pinned)
    unembedding = find_unembedding(checkpoint, ref.tensor, ref.file)
    identity = content_identity(checkpoint, unembedding)
    asked, found = ref.tensor, unembedding.name
    if ref.file is not None:
        asked, found = (f"{name} in {ref.file}" for name in (asked, found))
    published = find_published(store, checkpoint.repo_id, checkpoint.commit, identity, asked, found)
    missing = tensors.difference(published.same_w["artifacts"] if published.same_w else ())
    return Located(checkpoint, unembedding, published, missing, bytes_fetched)


def content_identity(checkpoint: Checkpoint, unembedding: Unembedding) -> ContentIdentity:
    """What W is, known before its bytes are read."""
    location = unembedding.location
    content_id = checkpoint.files[location.file].content_id
    return ContentIdentity(content_id, location.begin, location.end, location.dtype, location.shape, location.strides)


def _counting(checkpoint: Checkpoint) -> tuple[Checkpoint, Callable[[], int]]:
    """The same checkpoint, and a function that tells how many bytes were fetched from it so far."""
    lock, total = Lock(), 0

    def fetch(file: str, begin: int, end: int) -> bytes:
        nonlocal total
        content = checkpoint.fetch(file, begin, end)
        with lock:
            total += len(content)
        return content

    return replace(checkpoint, fetch=fetch), lambda: total
