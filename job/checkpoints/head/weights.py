"""The weight files that count in a checkpoint, and where each of their tensors lies."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.formats.weight_index import MAX_INDEX, parse_index
from job.checkpoints.head.adapters import read_adapter
from job.checkpoints.head.headers import read_header
from job.checkpoints.head.weight_sets import choose_weights
from job.errors import UnsupportedCheckpoint, join_limited

OTHER_FORMATS = (".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".npz", ".ckpt", ".nemo", ".safetensors")


@dataclass
class Weights:
    """The weight files chosen in a checkpoint. Their headers are read when first needed, each once."""

    checkpoint: Checkpoint
    shards: tuple[str, ...]
    index: dict[str, str] | None
    """Which shard holds which tensor, as the index claims; None without an index."""
    reason: str
    """Half a sentence: why it is these files."""
    folder: str = ""
    """The folder of the checkpoint that they lie in, with a slash at its end."""
    others: tuple[str, ...] = ()
    """Other weights that are there too, and are not read."""
    _headers: dict[str, dict[str, TensorLocation]] = field(default_factory=dict)

    @cached_property
    def names(self) -> Collection[str]:
        """The tensors the checkpoint claims to hold. ``find`` tells whether one is really there."""
        return self.index.keys() if self.index is not None else self._all_headers().keys()

    def find(self, name: str) -> TensorLocation | None:
        """Where a tensor lies according to the header of the shard that holds it; None where no shard does.

        Published indexes name tensors that their shard lacks, so an index only says where to look first.

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
        return {name: location for shard in self.shards for name, location in self._header(shard).items()}

    def _header(self, shard: str) -> dict[str, TensorLocation]:
        if shard not in self._headers:
            self._headers[shard] = read_header(self.checkpoint, shard)
        return self._headers[shard]


def open_weights(checkpoint: Checkpoint, file: str | None = None) -> Weights:
    """The weights that count where a repository holds several sets: those of ``file`` where it is given.

    Raises:
        UnsupportedCheckpoint: there are none, or several of which nothing says which one counts.
        CorruptCheckpoint: the index is not sound, or shards are missing.
    """
    if file is not None:
        return Weights(
            checkpoint,
            (file,),
            None,
            f"{file} is read because it was asked for",
            file.rpartition("/")[0] + "/" * ("/" in file),
        )
    chosen = choose_weights(checkpoint.files, checkpoint.source)
    if chosen is None:
        raise UnsupportedCheckpoint(f"{checkpoint.source}: {_refuse_other_formats(checkpoint)}")
    if chosen.index is None:
        return Weights(checkpoint, chosen.files, None, chosen.reason, chosen.folder, chosen.others)
    text = checkpoint.read(chosen.index, MAX_INDEX)
    claims = parse_index(text, f"{checkpoint.source}: {chosen.index}")
    index = {name: chosen.folder + shard for name, shard in claims.items()}
    shards = tuple(sorted(set(index.values())))
    others = tuple(file for file in chosen.others if chosen.folder + file not in shards)
    return Weights(checkpoint, shards, index, chosen.reason, chosen.folder, others)


def _refuse_other_formats(checkpoint: Checkpoint) -> str:
    if adapter := read_adapter(checkpoint):
        return adapter.refusal
    others = sorted(file for file in checkpoint.files if file.endswith(OTHER_FORMATS) and file.isprintable())
    found = join_limited(others) if others else "no weights"
    return f"found {found}, expected safetensors, .bin or GGUF; give a checkpoint converted to safetensors"
