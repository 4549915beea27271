"""The weight files to read in a checkpoint, and where each of their tensors lies."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.formats.weight_index import MAX_INDEX, parse_index
from job.checkpoints.head.adapters import read_adapter
from job.checkpoints.head.headers import read_header
from job.checkpoints.head.weight_sets import WeightSet, choose_weights
from job.errors import UnsupportedCheckpoint, join_limited

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

    @cached_property
    def names(self) -> Collection[str]:
        """The tensors that the checkpoint claims to hold. ``find`` tells whether one is really there."""
        return self.index.keys() if self.index is not None else self._all_headers().keys()

    def find(self, name: str) -> TensorLocation | None:
        """Where a tensor lies, by the header of the shard that holds it; None if no shard holds it.

        Some published indexes name tensors that the shard does not have, so an index only says where to look first.

        Raises:
            CorruptCheckpoint: the shard is missing, or its header contradicts its size.
        """
        if self.index is not None:
            claimed = self.index.get(name)
            if claimed is None:
                return None
            found = self._header(claimed).get(name)
            if found is not None:
                return found
        return self._all_headers().get(name)

    def _all_headers(self) -> dict[str, TensorLocation]:
        return {name: location for shard in self.chosen.files for name, location in self._header(shard).items()}

    def _header(self, shard: str) -> dict[str, TensorLocation]:
        if shard not in self._headers:
            self._headers[shard] = read_header(self.checkpoint, shard)
        return self._headers[shard]


def open_weights(checkpoint: Checkpoint, file: str | None = None) -> Weights:
    """The weights to read: ``file`` if it is given, else the set that ``choose_weights`` chooses.

    Raises:
        UnsupportedCheckpoint: there are no weights, or several sets and nothing says which one to read.
        CorruptCheckpoint: the index is invalid, or shards are missing.
    """
    if file is not None:
        folder, slash, _ = file.rpartition("/")
        requested = WeightSet((file,), None, f"{file} is read because it was asked for", folder=folder + slash)
        return Weights(checkpoint, requested, None)
    chosen = choose_weights(checkpoint.files, checkpoint.source)
    if chosen is None:
        raise UnsupportedCheckpoint(f"{checkpoint.source}: {_describe_other_formats(checkpoint)}")
    if chosen.index is None:
        return Weights(checkpoint, chosen, None)
    text = checkpoint.read(chosen.index, MAX_INDEX)
    claims = parse_index(text, f"{checkpoint.source}: {chosen.index}")
    index = {name: chosen.folder + shard for name, shard in claims.items()}
    shards = tuple(sorted(set(index.values())))
    others = tuple(other for other in chosen.others if chosen.folder + other not in shards)
    return Weights(checkpoint, replace(chosen, files=shards, others=others), index)


def _describe_other_formats(checkpoint: Checkpoint) -> str:
    """The end of a refusal of a checkpoint without weights that can be read."""
    if adapter := read_adapter(checkpoint):
        return adapter.refusal
    others = sorted(file for file in checkpoint.files if file.endswith(OTHER_FORMATS) and file.isprintable())
    found = join_limited(others) if others else "no weights"
    return f"found {found}, expected safetensors, .bin or GGUF; give a checkpoint converted to safetensors"
