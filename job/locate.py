"""The first act of a survey, and all of a plan: pin the model, find W, see what is published. Headers only; it writes
nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.adapters import follow_base
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.checkpoints.sources.http import open_http
from job.checkpoints.sources.hub import PUBLIC_HUB, open_hub
from job.checkpoints.sources.hub_cache import is_in_hub_cache, open_hub_cache
from job.checkpoints.sources.s3 import open_s3
from job.checkpoints.transport.retries import Cooldown
from job.errors import ConfigError
from job.manifest.filing import ContentIdentity, Published, find_published
from job.models.queries import Entry
from job.models.references import ModelRef
from job.outcome import Status
from job.settings import Settings
from job.store.folder import FolderStore
from job.store.s3 import open_s3_store
from job.store.store import Store


class Cooldowns:
    """The pause that each server demanded, shared by all who ask it during a run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cooldowns: dict[str, Cooldown] = {}

    def of(self, url: str) -> Cooldown:
        """The pause of the server that an address is on."""
        with self._lock:
            return self._cooldowns.setdefault(urlsplit(url).netloc, Cooldown())


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
    pinned = _pin(ref, settings, cooldowns)
    if ref.follow_base:
        pinned = follow_base(pinned, lambda base: _pin(base, settings, cooldowns))
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


def _pin(ref: ModelRef, settings: Settings, cooldowns: Cooldowns) -> Checkpoint:
    """Pin the checkpoint that a reference stands for."""
    timeout = settings.read_timeout
    match ref.source:
        case "folder":
            if ref.revision or is_in_hub_cache(ref.path):
                return open_hub_cache(ref.path, ref.revision)
            return open_folder(ref.path)
        case "s3":
            return open_s3(ref.location, read_timeout=timeout)
        case "mirror":
            return open_http(
                ref.location,
                read_timeout=timeout,
                also=(ref.file,) if ref.file else (),
                cooldown=cooldowns.of(ref.location),
            )
        case "hub":
            pinned = open_hub(
                ref.location,
                ref.commit or ref.revision,
                endpoint=settings.hf_endpoint,
                token=settings.hf_token,
                read_timeout=timeout,
                cooldown=cooldowns.of(settings.hf_endpoint or PUBLIC_HUB),
            )
            return replace(pinned, revision=ref.revision)


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
