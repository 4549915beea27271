"""Writes headers of safetensors files, as the safetensors library does, for files that are too large for memory."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_ITEM_NBYTES: Final = {"F64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
"""The dtypes that surveys publish. The library sorts tensors by dtype in this order, and then by name (safetensors 0.8:
the order of Dtype, descending), so that each tensor is aligned."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file: its name, its dtype in safetensors' words, and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_NBYTES[self.dtype]


def in_file_order(tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
    """The tensors in the order of their bytes in the file."""
    ranks = list(_ITEM_NBYTES)
    return sorted(tensors, key=lambda tensor: (ranks.index(tensor.dtype), tensor.name))


def header(tensors: Iterable[StoredTensor], metadata: Mapping[str, str]) -> bytes:
    """The header of a file: its length in 8 bytes, then JSON, then spaces up to a multiple of 8 bytes.

    The library writes the keys of ``__metadata__`` in random order. Here they are sorted, so that the same input always
    gives the same bytes. Source: https://huggingface.co/docs/safetensors/index#format
    """
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for tensor in in_file_order(tensors):
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
