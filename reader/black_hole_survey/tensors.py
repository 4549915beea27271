"""Tensors in safetensors files: from bytes to torch tensors or numpy arrays, and the header of a file. No I/O.

Source of the format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from black_hole_survey.errors import CorruptArtifact, MissingPackage

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Framework = Literal["torch", "numpy"]

AnyTensor: TypeAlias = Any
"""A torch.Tensor or a numpy array, as the surveys were opened. It is no union, because every use of one would have to
ask which of the two it is, although whoever opens surveys knows."""

NUMPY_NAMES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""numpy's names of dtypes, by those of safetensors. BF16 is not among them: numpy has no such dtype."""
ITEM_SIZES: Final = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS: Final = ("F64", "F32", "F16", "BF16")
_FILE_ORDER: Final = ("F64", "F32", "I32", "BF16", "F16", "U8", "BOOL")
"""The order of dtypes in which the safetensors library writes tensors, so that each is aligned; then by name."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: the ``nbytes`` bytes from ``begin`` on."""

    dtype: str
    shape: tuple[int, ...]
    begin: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * item_nbytes(self.dtype)


def item_nbytes(dtype: str) -> int:
    """The size of one item of a dtype, by safetensors' name for it; 0 for a dtype that surveys do not use."""
    return ITEM_SIZES.get(dtype, 0)


def default_framework() -> Framework:
    """torch where it is installed, which is not imported for that."""
    return "torch" if find_spec("torch") else "numpy"


def parse_header(content: memoryview, where: str) -> dict[str, StoredTensor]:
    """The tensors of a whole safetensors file, by name.

    Raises:
        CorruptArtifact: it is no such file, or a tensor lies outside it or has an unknown dtype.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= len(content) - 8:
            raise ValueError(f"a header of {length:,} bytes in a file of {len(content):,}")
        entries = json.loads(bytes(content[8 : 8 + length]))
        tensors = {
            name: StoredTensor(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
            for name, entry in entries.items()
            if name != "__metadata__"
        }
        for name, tensor in tensors.items():
            if not _lies_within(tensor, entries[name]["data_offsets"], 8 + length, len(content)):
                raise ValueError(f"{name} as {entries[name]}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptArtifact(
            f"{where}: found no usable safetensors header ({error}), expected one; publish the survey again"
        ) from error
    return tensors


def _lies_within(tensor: StoredTensor, offsets: list[int], data_begin: int, file_end: int) -> bool:
    if not all(type(number) is int and number >= 0 for number in (*tensor.shape, *offsets)):
        return False
    is_whole = offsets[1] - offsets[0] == tensor.nbytes and data_begin + offsets[1] <= file_end
    return is_whole and item_nbytes(tensor.dtype) > 0


def header(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The header of a file with these tensors, as the safetensors library writes it, and the order of their bytes."""
    order = sorted(tensors, key=lambda name: (_FILE_ORDER.index(tensors[name].dtype), name))
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        entries[name] = {"dtype": tensors[name].dtype, "shape": tensors[name].shape, "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def from_bytes(content: memoryview, tensor: StoredTensor, framework: Framework, where: str) -> AnyTensor:
    """A tensor that shares the memory of a file's bytes.

    Raises:
        MissingPackage: it is BF16, for numpy, and ml_dtypes is not installed.
    """
    if framework == "torch":
        return _torch_tensor(content, tensor)
    if tensor.dtype != "BF16":
        return _array(content, tensor, NUMPY_NAMES[tensor.dtype])
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingPackage(
            f"{where}: found BF16, which numpy lacks, expected ml_dtypes or torch for it; pip install ml_dtypes"
        ) from error
    return _array(content, tensor, ml_dtypes.bfloat16)


def to_float32(rows: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """The numbers of rows of bytes, (n, row_nbytes) → (n, columns). Exact but for F64, which is rounded."""
    import numpy as np

    if dtype == "BF16":  # the upper half of a float32
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.view(NUMPY_NAMES[dtype]).astype(np.float32, copy=False)


def join_limited(names: Iterable[str], limit: int = 10) -> str:
    """Names in a sentence, not more than ``limit`` of them."""
    listed = list(names)
    rest = f", … ({len(listed)} in all)" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "nothing") + rest


def _array(content: memoryview, tensor: StoredTensor, dtype: str | type[Any]) -> NDArray[Any]:
    import numpy as np

    return np.ndarray(tensor.shape, dtype, content, tensor.begin)


def _torch_tensor(content: memoryview, tensor: StoredTensor) -> torch.Tensor:
    import torch

    if tensor.dtype == "BF16":
        return torch.from_numpy(_array(content, tensor, "int16")).view(torch.bfloat16)
    return torch.from_numpy(_array(content, tensor, NUMPY_NAMES[tensor.dtype]))
