"""Which files hold a checkpoint's weights, and where each tensor lies in them. Here parser and fetcher meet."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.pickled import read_bin
from job.checkpoints.safetensors_header import FIRST_READ_NBYTES, LENGTH_NBYTES, header_end, parse_header
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SINGLE_BIN = "pytorch_model.bin"
INDEX_BIN = "pytorch_model.bin.index.json"
ADAPTER = "adapter_config.json"

LONGEST_INDEX = 100_000_000
"""Bytes. The index of DeepSeek-V3, with 91,991 tensors, has 9 million."""

LONGEST_ADAPTER_CONFIG = 1_000_000

OTHER_FORMATS = (".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".npz")


@dataclass
class Weights:
    """The weight files chosen in a checkpoint. Their headers are read when first needed, each once."""

    checkpoint: Checkpoint
    shards: tuple[str, ...]
    index: dict[str, str] | None
    """Which shard holds which tensor, as the index claims; None without an index."""
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
            read = read_bin if shard.endswith(".bin") else read_header
            self._headers[shard] = read(self.checkpoint, shard)
        return self._headers[shard]


def read_header(checkpoint: Checkpoint, file: str) -> dict[str, TensorLocation]:
    """Every tensor of a safetensors file, in one request where its header is as short as most.

    Raises:
        CorruptCheckpoint: the checkpoint has no such file, or its header contradicts its size.
    """
    where = f"{checkpoint.source}: {file}"
    stored = checkpoint.files.get(file)
    if stored is None:
        raise CorruptCheckpoint(
            f"{where}: the index names this file, the checkpoint does not have it; check that the upload is complete"
        )
    first = checkpoint.fetch(file, 0, min(FIRST_READ_NBYTES, stored.size))
    end = header_end(first, stored.size, where)
    header = first[:end] + (checkpoint.fetch(file, len(first), end) if end > len(first) else b"")
    return parse_header(header[LENGTH_NBYTES:], file, stored.size, where)


def open_weights(checkpoint: Checkpoint) -> Weights:
    """The weight files that count where a repository holds several sets: the Hugging Face set in its root comes first.

    Raises:
        UnsupportedCheckpoint: there is neither safetensors nor ``pytorch_model.bin`` in the root, or several files that
            do not belong together.
        CorruptCheckpoint: the index is not sound.
    """
    for index_file, single in ((INDEX, SINGLE), (INDEX_BIN, SINGLE_BIN)):
        if index_file in checkpoint.files:
            index = _read_index(checkpoint, index_file)
            return Weights(checkpoint, tuple(sorted(set(index.values()))), index)
        if single in checkpoint.files:
            return Weights(checkpoint, (single,), None)
    in_root = sorted(
        file
        for file in checkpoint.files
        if file.endswith(".safetensors") and "/" not in file and not file.startswith("adapter")
    )
    if len(in_root) == 1:
        return Weights(checkpoint, (in_root[0],), None)
    if in_root:
        raise UnsupportedCheckpoint(
            f"{checkpoint.source}: holds {', '.join(in_root[:5])}{' …' if len(in_root) > 5 else ''}, expected was"
            f" {INDEX}, {SINGLE} or a single file; give a checkpoint with one set of weights"
        )
    raise UnsupportedCheckpoint(f"{checkpoint.source}: {_what_is_there_instead(checkpoint)}")


def _read_index(checkpoint: Checkpoint, file: str) -> dict[str, str]:
    where = f"{checkpoint.source}: {file}"
    weight_map = parse_json_object(checkpoint.read(file, LONGEST_INDEX), where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptCheckpoint(f"{where}: has no weight_map of tensor names to files; get the file again")
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CorruptCheckpoint(
                f"{where}: maps {name!r:.200} to {shard!r:.80}, a file name was expected; get it again"
            )
    return weight_map


def parse_json_object(text: bytes, where: str) -> dict[str, object]:
    """A JSON object from a checkpoint's file.

    Raises:
        CorruptCheckpoint: it is not one.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where}: is not sound JSON ({error}); get the file again") from None
    if not isinstance(parsed, dict):
        raise CorruptCheckpoint(
            f"{where}: is a JSON {type(parsed).__name__}, an object was expected; get the file again"
        )
    return parsed


def _what_is_there_instead(checkpoint: Checkpoint) -> str:
    if ADAPTER in checkpoint.files:
        config = parse_json_object(checkpoint.read(ADAPTER, LONGEST_ADAPTER_CONFIG), f"{checkpoint.source}: {ADAPTER}")
        base = config.get("base_model_name_or_path")
        return f"is an adapter, a whole model was expected; survey its base model, {base!r:.200}"
    others = sorted(file for file in checkpoint.files if file.endswith(OTHER_FORMATS))
    found = f"{', '.join(others[:5])}{' …' if len(others) > 5 else ''}" if others else "no weights"
    return f"holds {found}, expected was {SINGLE} or {INDEX}; give a checkpoint converted to safetensors"
