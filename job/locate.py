"""The first act of a survey, and all of a plan: pin the model, find W, see what is published. Headers only; it writes
nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.hub_queries import find_models
from job.checkpoints.sources.open import Access, open_checkpoint
from job.checkpoints.transport.retries import Cooldowns as Cooldowns
from job.errors import ConfigError
from job.following import follow_base
from job.manifest.filing import ContentIdentity, Published, find_published
from job.models.queries import Entry
from job.models.references import ModelRef
from job.models.resolve import resolve
from job.outcome import Status
from job.settings import Settings
from job.store.folder import FolderStore
from job.store.s3 import open_s3_store
from job.store.store import Store


@dataclass(frozen=True)
class Located:
    """A pinned model whose W has been found, and what the store holds of it."""

    ref: ModelRef
    checkpoint: Checkpoint
    unembedding: Unembedding
    published: Published
    bytes_fetched: Callable[[], int]
    """How many bytes were fetched from the checkpoint so far."""

    missing: frozenset[str]
    """Those of TENSORS that are not published for these bytes."""

    @property
    def status(self) -> Status:
        """How its survey ends."""
        if self.missing:
            return "surveyed"
        return "already published" if self.published.own else "same content"


def find(ref: ModelRef, settings: Settings, store: Store, cooldowns: Cooldowns) -> Located:
    """Pin the model, find W, and see what is published of it.

    Raises:
        SurveyError: the model cannot be surveyed, or the store cannot be read.
    """
    access = _access(settings, cooldowns)
    pinned = open_checkpoint(ref, access)
    if ref.follow_base:
        pinned = follow_base(pinned, lambda base: open_checkpoint(base, access))
    checkpoint, fetched = _metered(pinned)
    unembedding = find_unembedding(checkpoint, ref.tensor, ref.file)
    identity = identity_of(checkpoint, unembedding)
    asked, found = ref.tensor, unembedding.name
    if ref.file is not None:
        asked, found = (f"{name} in {ref.file}" for name in (asked, found))
    published = find_published(store, checkpoint.repo_id, checkpoint.commit, identity, asked, found)
    missing = settings.tensors.difference(published.known["artifacts"] if published.known else ())
    return Located(ref, checkpoint, unembedding, published, fetched, missing)


def identity_of(checkpoint: Checkpoint, unembedding: Unembedding) -> ContentIdentity:
    """What W is, known before its bytes are read."""
    location = unembedding.location
    content_id = checkpoint.files[location.file].content_id
    return ContentIdentity(content_id, location.begin, location.end, location.dtype, location.shape, location.strides)


def open_store(settings: Settings) -> Store:
    """The store that OUTPUT names. Nothing is asked of it yet.

    Raises:
        ConfigError: the address cannot be one, or the folder lies in a checkpoint that is to be surveyed.
    """
    if settings.output.startswith("s3://"):
        return open_s3_store(settings.output)
    store = FolderStore(Path(settings.output))
    refuse_nested(settings.models, store.root)
    return store


def refuse_nested(entries: Sequence[Entry], output: Path) -> None:
    """Make sure that no survey is published into a checkpoint that it is of, which would be another one afterwards.

    Raises:
        ConfigError: one would be.
    """
    for ref in entries:  # a query finds no folders
        if isinstance(ref, ModelRef) and ref.source == "folder" and output.resolve().is_relative_to(ref.path.resolve()):
            raise ConfigError(f"OUTPUT: {output} lies in the checkpoint {ref}; choose a folder outside of it")


def resolve_today(settings: Settings, cooldowns: Cooldowns) -> list[ModelRef]:
    """The models that the run's list stands for today; raises what ``find_models`` does."""
    access, today = _access(settings, cooldowns), datetime.now(UTC).date()
    return resolve(settings.models, lambda query: find_models(query, access, today))


def _access(settings: Settings, cooldowns: Cooldowns) -> Access:
    return Access(settings.hf_endpoint, settings.hf_token, settings.read_timeout, cooldowns)


def _metered(checkpoint: Checkpoint) -> tuple[Checkpoint, Callable[[], int]]:
    """The same checkpoint, and a function that tells how many bytes were fetched from it so far."""
    lock, total = Lock(), 0

    def fetch(file: str, begin: int, end: int) -> bytes:
        nonlocal total
        content = checkpoint.fetch(file, begin, end)
        with lock:
            total += len(content)
        return content

    return replace(checkpoint, fetch=fetch), lambda: total
