"""The safetensors format as the library writes it, for files too large to hold: the header, then the bytes."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_ITEM_NBYTES: Final = {"F64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1}
"""The dtypes that surveys publish, in the order in which the library lays tensors out (safetensors 0.8: Dtype's order,
descending; then by name), so that each is aligned."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file to be: its name, dtype as safetensors names it, and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_NBYTES[self.dtype]


def in_file_order(tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
    """The order in which the tensors' bytes follow the header."""
    ranks = list(_ITEM_NBYTES)
    return sorted(tensors, key=lambda tensor: (ranks.index(tensor.dtype), tensor.name))


def header(tensors: Iterable[StoredTensor], metadata: Mapping[str, str]) -> bytes:
    """What stands before the tensors' bytes: 8 bytes of length, JSON, spaces up to a multiple of 8.

    The library writes ``__metadata__`` in an order that changes from call to call; here it is sorted by key, so that
    the same input always gives the same bytes. Source: https://huggingface.co/docs/safetensors/index#format
    """
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for tensor in in_file_order(tensors):
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
