"""What a survey published of its rows, as arrays. Files are checked against the SHA-256 in their manifest."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from job.differences.ids import Spellings, spell
from job.errors import TransientError
from job.manifest.schema import ArtifactEntry, Manifest
from job.store.store import Store
from job.tokens.tokenizer import Token

if TYPE_CHECKING:
    from arro3.core import RecordBatch

_BATCH_ROWS: Final = 16_384
_READ_NBYTES: Final = 8 << 20
_DTYPES: Final = {"U8": np.uint8, "I32": np.int32, "F32": np.float32, "BOOL": np.bool_}


@dataclass(frozen=True)
class PublishedSurvey:
    """A survey in a store. ``folder`` is its key without ``manifest.json``."""

    store: Store
    folder: str
    manifest: Manifest

    @property
    def n_rows(self) -> int:
        return self.manifest["tensor"]["shape"][0]

    def has(self, artifact: str) -> bool:
        return artifact in self.manifest["artifacts"]

    def read(self, artifact: str) -> bytes | None:
        """The whole content of an artifact that was published, or None.

        Raises:
            TransientError: it is not there as the manifest has it, or the store fails.
        """
        entry = self.manifest["artifacts"].get(artifact)
        if entry is None:
            return None
        content = self.store.read(entry["key"])
        if content is None:
            raise self.removed(entry)
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise self.damaged(entry, entry["sha256"])
        return content

    def tensor(self, artifact: str, name: str) -> NDArray[np.generic] | None:
        """A tensor of a small artifact, if it was published."""
        import safetensors

        content = self.read(artifact)
        if content is None:
            return None
        stored = dict(safetensors.deserialize(content))[name]  # type: ignore[no-untyped-call]  # it ships no types
        return np.frombuffer(stored["data"], _DTYPES[stored["dtype"]])

    def removed(self, entry: ArtifactEntry) -> TransientError:
        return TransientError(
            f"{self.store.url(entry['key'])}: not there, expected {entry['size']:,} bytes; look who removes files, and "
            "survey the model again, which publishes it anew"
        )

    def damaged(self, entry: ArtifactEntry, sha256: str) -> TransientError:
        return TransientError(
            f"{self.store.url(entry['key'])}: found other bytes than were published, expected the SHA-256 {sha256}; "
            "check the store, and remove the file if it is damaged, so that the next survey writes it again"
        )

    def holes(self) -> NDArray[np.int32] | None:
        """(n_rows,) int32: the number of each row's hole; None if that is not published."""
        holes, counted = np.zeros(self.n_rows, np.int32), 0
        for hole in self.manifest["black_holes"]:
            holes[[token["id"] for token in hole["tokens"]]] = hole["id"]
            counted += len(hole["tokens"])
        if counted == self.manifest["statistics"]["black_hole_tokens"]:
            return holes
        ids = self.tensor("black_holes", "black_hole_id")
        return None if ids is None else ids.astype(np.int32)

    def row_digests(self) -> NDArray[np.void]:
        """(n_rows,): the SHA-256 of each row of W. Reads all of W, a few MiB at a time.

        Raises:
            TransientError: W is not there as the manifest has it.
        """
        entry, n_rows = self.manifest["artifacts"]["W"], self.n_rows
        length = self.store.read_range(entry["key"], 0, 8)
        if not length:
            raise self.removed(entry)
        begin = 8 + int.from_bytes(length, "little")
        row_nbytes, rest = divmod(max(0, entry["size"] - begin), max(1, n_rows))
        whole, digests = hashlib.sha256(), bytearray()
        if rest or not row_nbytes:
            raise self.damaged(entry, entry["sha256"])
        step = max(1, _READ_NBYTES // row_nbytes) * row_nbytes
        for offset in range(begin, entry["size"], step):
            block = memoryview(self.store.read_range(entry["key"], offset, min(offset + step, entry["size"])))
            whole.update(block)
            for row in range(0, len(block), row_nbytes):
                digests += hashlib.sha256(block[row : row + row_nbytes]).digest()
        if whole.hexdigest() != self.manifest["w_sha256"]:
            raise self.damaged(entry, entry["sha256"])
        return np.frombuffer(digests, np.dtype("V32"))


def folder_of(manifest: Manifest) -> str:
    """The folder of a survey, which its pages lie in; if it names none, that of its commit."""
    pages = manifest.get("pages", {}).values()
    return next((key.rpartition("/")[0] for key in pages), f"{manifest['model']}/{manifest['commit']}")


def lacking(artifact: str, a: PublishedSurvey, b: PublishedSurvey) -> str:
    """Which survey does not publish an artifact; empty if both do."""
    names = [name for name, survey in (("A", a), ("B", b)) if not survey.has(artifact)]
    verb = "do not publish" if len(names) > 1 else "does not publish"
    return f"{' and '.join(names)} {verb} {artifact}" if names else ""


@dataclass(frozen=True)
class TokenTable:
    """A survey's tokens.parquet."""

    content: bytes
    norm: NDArray[np.float32]
    """(n_rows,) float32."""
    gamma_norm: NDArray[np.float32]
    classes: tuple[NDArray[np.int16], tuple[str, ...]] | None
    """(n_rows,) int16, an index into the names beside it. None if the table names no tokens."""

    @property
    def names_tokens(self) -> bool:
        return self.classes is not None

    def spellings(self) -> Spellings:
        """How each token is spelled; only if the table names tokens."""
        return spell(
            pair
            for batch in _batches(self.content)
            for pair in zip(batch["piece"].to_pylist(), batch["bytes"].to_pylist(), strict=True)
        )

    def tokens(self, ids: Collection[int]) -> dict[int, Token]:
        """The tokens of these ids, by id; empty if the table names none."""
        from arro3.core import Array

        found: dict[int, Token] = {}
        wanted, begin = np.array(sorted(set(ids)), np.int64), 0
        for batch in _batches(self.content) if self.names_tokens and len(wanted) else ():
            here = wanted[(wanted >= begin) & (wanted < begin + batch.num_rows)]
            if len(here):
                some = batch.select(["piece", "text"]).take(Array.from_numpy((here - begin).astype(np.uint64)))
                pieces, texts = some["piece"].to_pylist(), some["text"].to_pylist()
                found |= {id: Token(id, *both) for id, *both in zip(here.tolist(), pieces, texts, strict=True)}
            begin += batch.num_rows
        return found


def read_table(survey: PublishedSurvey) -> TokenTable | None:
    """A survey's table of tokens, if it was published."""
    content = survey.read("tokens")
    if content is None:
        return None
    norm: list[NDArray[np.float32]] = []
    gamma_norm: list[NDArray[np.float32]] = []
    classes: list[NDArray[np.int16]] = []
    index: dict[str, int] = {}
    for batch in _batches(content):
        norm.append(batch["norm"].to_numpy())
        gamma_norm.append(batch["gamma_norm"].to_numpy())
        if "class" in batch.schema.names:
            names = _texts(batch, "class")
            classes.append(np.array([index.setdefault(name, len(index)) for name in names], np.int16))
    return TokenTable(
        content,
        np.concatenate(norm),
        np.concatenate(gamma_norm),
        (np.concatenate(classes), tuple(index)) if classes else None,
    )


def _batches(table: bytes) -> Iterator["RecordBatch"]:
    from arro3.io import read_parquet

    yield from read_parquet(table, batch_size=_BATCH_ROWS)


def _texts(batch: "RecordBatch", column: str) -> Sequence[str]:
    from arro3.core import DataType

    return list(batch[column].cast(DataType.utf8()).to_pylist())
