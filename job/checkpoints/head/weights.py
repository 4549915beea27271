"""The weight files to read in a checkpoint, and where each of their tensors lies."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from job.checkpoints.checkpoint import CHUNK_NBYTES, Checkpoint, TensorLocation
from job.checkpoints.formats.weight_index import MAX_INDEX, numbered_set, parse_index, shard_file
from job.checkpoints.head.adapters import read_adapter
from job.checkpoints.head.headers import read_header
from job.checkpoints.head.names import heads_among
from job.checkpoints.head.needed_files import MARKER, names_of, refuse_unreadable
from job.checkpoints.head.weight_sets import WEIGHTS, WeightSet, choose_weights
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint, join_limited

PIECE = re.compile(r".+\.(gguf|safetensors|bin)[.-]?(part|split|\d|[a-z]{1,2}$)[\w.-]*", re.IGNORECASE)
"""Names of pieces that a file was cut into: ``x.gguf.part1of2``, ``x.gguf-split-a``, ``x.safetensors.001``."""

OTHER_FORMATS = (".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".npz", ".ckpt", ".nemo", ".safetensors")


@dataclass
class Weights:
    """The weight files to read in a checkpoint. Each header is read once, when it is first needed."""

    checkpoint: Checkpoint
    chosen: WeightSet
    """All its files are known, whether or not an index names them."""
    index: dict[str, str] | None
    """The shard of each tensor, as the index claims; None if there is no index."""
    _headers: dict[str, dict[str, TensorLocation]] = field(default_factory=dict)

    @property
    def names(self) -> Collection[str]:
        """The tensors that the checkpoint claims to hold, by its index and the headers that were read. ``find`` tells
        whether one is really there.

        Some published indexes do not name all that the shards hold. Where a head is found as the index says, that is
        enough; else no head is taken to be missing before all headers were read.

        Raises:
            CorruptCheckpoint, UnsupportedCheckpoint: a header that has to be read is invalid, or a shard is missing.
        """
        if self.index is None or not self._index_finds_a_head:
            self._read_all_headers()
        names = dict.fromkeys(self.index or ())
        for header in self._headers.values():
            names |= dict.fromkeys(header)
        return names.keys()

    def find(self, name: str) -> TensorLocation | None:
        """Where a tensor lies, by the header of the shard that holds it; None if no shard holds it.

        Some published indexes name tensors that the shard does not have, so an index only says where to look first.

        Raises:
            CorruptCheckpoint: a shard is missing, its header contradicts its size, or several shards hold the tensor
                and disagree.
        """
        claimed = self.index.get(name) if self.index is not None else None
        if claimed is not None and len(self._headers) < len(self.chosen.files):
            found = self._header(claimed).get(name)
            if found is not None:
                return found
        return self.find_in_all(name)

    def find_in_all(self, name: str) -> TensorLocation | None:
        """As ``find``, after a look into every shard, so that a tensor in several of them does not pass for whole."""
        self._read_all_headers()
        found = [header[name] for header in self._headers.values() if name in header]
        if len(found) > 1:
            self._check_all_equal(name, found)
        return found[0] if found else None

    def refuse_unequal_copies(self, name: str) -> None:
        """Make sure that no other shard holds the tensor with different content, as far as headers were read or lie on
        this machine's disk. Which shard a loader takes then depends on the loader, whatever the index says.

        Raises:
            CorruptCheckpoint: one does.
        """
        for shard in self.chosen.files:
            if shard in self.checkpoint.local_paths:
                with suppress(CorruptCheckpoint, UnsupportedCheckpoint):  # what W needs was read
                    self._header(shard)
        found = [header[name] for header in self._headers.values() if name in header]
        if len(found) > 1:
            self._check_all_equal(name, found)

    def _check_all_equal(self, name: str, found: Sequence[TensorLocation]) -> None:
        """Make sure that a tensor which several shards hold is the same in all.

        Raises:
            CorruptCheckpoint: it is not: each shard may hold a slice.
        """
        first, *others = found
        layouts = [f"{tensor.dtype} {list(tensor.shape)}" for tensor in found]
        for other in others:
            is_alike = (other.dtype, other.shape, other.strides, other.nbytes) == (
                first.dtype, first.shape, first.strides, first.nbytes,
            )  # fmt: skip
            if not is_alike or not self._is_equal(first, other):
                raise CorruptCheckpoint(
                    f"{self.checkpoint.source}: found {name} in {len(found):,} shards ({join_limited(layouts)}), with"
                    " different content, expected it in one; if each shard holds a slice, merge them and save the model"
                    " again"
                )

    def _is_equal(self, one: TensorLocation, other: TensorLocation) -> bool:
        fetch = self.checkpoint.fetch
        for offset in range(0, one.nbytes, CHUNK_NBYTES):
            end = min(offset + CHUNK_NBYTES, one.nbytes)
            stored = (fetch(place.file, place.begin + offset, place.begin + end) for place in (one, other))
            if next(stored) != next(stored):
                return False
        return True

    @cached_property
    def _index_finds_a_head(self) -> bool:
        """Whether an output head lies where the index says. Where its shard cannot be read, ``find`` says why."""
        for head in heads_among(self.index or ()):
            try:
                if head in self._header((self.index or {})[head]):
                    return True
            except CorruptCheckpoint:
                return True
        return False

    def _read_all_headers(self) -> None:
        for shard in self.chosen.files:
            self._header(shard)

    def _header(self, shard: str) -> dict[str, TensorLocation]:
        if shard not in self._headers:
            self._headers[shard] = read_header(self.checkpoint, shard)
        return self._headers[shard]


def open_weights(checkpoint: Checkpoint, file: str | None = None) -> Weights:
    """The weights to read: ``file`` if it is given, else the set that ``choose_weights`` chooses.

    Raises:
        UnsupportedCheckpoint: there are no weights, or several sets and nothing says which one to read.
        CorruptCheckpoint: the index is invalid or set aside, or shards are missing.
    """
    if file is not None:
        folder, slash, _ = file.rpartition("/")
        requested = WeightSet((file,), None, f"{file} is read because it was asked for", folder=folder + slash)
        return Weights(checkpoint, requested, None)
    names = names_of(checkpoint)
    chosen = choose_weights(names, checkpoint.source)
    if chosen is None:
        raise UnsupportedCheckpoint(f"{checkpoint.source}: {_describe_other_formats(checkpoint)}")
    if chosen.index is None:
        return Weights(checkpoint, chosen, None)
    refuse_unreadable(checkpoint, chosen.index)
    text = checkpoint.read(chosen.index, MAX_INDEX)
    claims = parse_index(text, f"{checkpoint.source}: {chosen.index}")
    files = {shard: shard_file(chosen.folder, shard) for shard in set(claims.values())}
    index = {name: files[shard] for name, shard in claims.items()}
    listed = set(files.values())
    # A shard beside them that the index does not list belongs to the model all the same.
    shards = tuple(sorted(listed | (numbered_set(listed) & names)))
    others = tuple(other for other in chosen.others if chosen.folder + other not in shards)
    return Weights(checkpoint, replace(chosen, files=shards, others=others), index)


def _describe_other_formats(checkpoint: Checkpoint) -> str:
    """The end of a refusal of a checkpoint without weights that can be read."""
    if adapter := read_adapter(checkpoint):
        return adapter.refusal
    names = sorted(file for file in names_of(checkpoint) if file.isprintable())
    if unfinished := [file for file in names if is_marked_weight(file)]:
        return f"found {join_limited(unfinished)}, an unfinished download, expected whole weights; finish the download"
    if pieces := [file for file in names if PIECE.fullmatch(file)]:
        return (
            f"found pieces of a file ({join_limited(pieces)}), expected it whole; join them in their order, for"
            " instance with `cat`"
        )
    others = [file for file in names if file.endswith(OTHER_FORMATS)]
    found = join_limited(others) if others else "no weights"
    # What lies on this disk may be a copy of which a part was left out.
    missing = "download them, for instance with `hf download`, or " if checkpoint.local_paths and not others else ""
    return f"found {found}, expected safetensors, .bin or GGUF; {missing}give a checkpoint converted to safetensors"


def is_marked_weight(file: str) -> bool:
    """Whether a name is that of weights with what a downloader adds to it."""
    marker = re.search(rf"{MARKER.pattern}$", file)
    return marker is not None and WEIGHTS.fullmatch(file[: marker.start()].rpartition("/")[2]) is not None
