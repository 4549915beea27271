"""The names in torch's pickles and what they mean: storages, dtypes, functions that build a tensor. None is called.

The functions: https://github.com/pytorch/pytorch/blob/v2.6.0/torch/_utils.py
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

MAX_DIMENSIONS = 64
"""torch accepts as many. The limit bounds the arithmetic on a shape."""

MAX_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Storage:
    """An entry of the archive. It holds the numbers of one or several tensors."""

    key: str
    dtype: str
    n_items: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view of a storage; ``offset`` and ``strides`` count items of ``dtype``."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a function or class. It is never looked up."""

    name: str


STORAGES: Mapping[str, str] = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32", "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8", "torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
    "torch.ComplexFloatStorage": "C64", "torch.storage.UntypedStorage": "U8",
}  # fmt: skip
"""The dtype of a storage's items, by safetensors' name."""

DTYPES: Mapping[str, str] = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8", "torch.uint8": "U8",
    "torch.uint16": "U16", "torch.uint32": "U32", "torch.uint64": "U64", "torch.bool": "BOOL", "torch.complex64": "C64",
    "torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2", "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ", "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip

CLASSES = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})


class UnexpectedArguments(Exception):
    """A function has arguments that torch.save does not write for a plain tensor. The message begins with ``with``."""


def _tensor(arguments: tuple[object, ...]) -> PickledTensor:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata=None)``"""
    match arguments:
        case (Storage() as storage, offset, shape, strides, _, _):
            pass
        case (Storage() as storage, offset, shape, strides, _, _, metadata) if not metadata:
            pass
        case _:
            raise UnexpectedArguments("with other arguments")  # among them a lazy negation, which changes the numbers
    if not (is_size(offset) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        raise UnexpectedArguments("with a shape that no tensor has")
    return PickledTensor(storage, storage.dtype, offset, shape, strides)


def _tensor_with_dtype(arguments: tuple[object, ...]) -> PickledTensor:
    """``_rebuild_tensor_v3``: as ``_tensor``, over a storage of bytes, with the dtype after the hooks."""
    match arguments:
        case (Storage(key, "U8", n_bytes), offset, shape, strides, grad, hooks, Global(name), *metadata):
            tensor = _tensor((Storage(key, "U8", n_bytes), offset, shape, strides, grad, hooks, *metadata))
            if name in DTYPES:
                return PickledTensor(tensor.storage, DTYPES[name], tensor.offset, tensor.shape, tensor.strides)
    raise UnexpectedArguments("with other arguments")


def _parameter(arguments: tuple[object, ...]) -> PickledTensor:
    """``_rebuild_parameter(data, requires_grad, hooks)``; ``_rebuild_parameter_with_state`` has one argument more."""
    match arguments:
        case (PickledTensor() as tensor, _, _) | (PickledTensor() as tensor, _, _, _):
            return tensor
    raise UnexpectedArguments("with other arguments")


def _tensor_with_attributes(arguments: tuple[object, ...]) -> PickledTensor:
    """``torch._tensor._rebuild_from_type_v2(function, type, arguments, attributes)``; the attributes are dropped."""
    match arguments:
        case (Global(name), Global(of_type), tuple(inner), _) if name in _TENSORS and of_type in CLASSES:
            return _TENSORS[name](inner)
    raise UnexpectedArguments("with other arguments")


def _empty_dict(arguments: tuple[object, ...]) -> dict[str, object]:
    if arguments:
        raise UnexpectedArguments("with arguments")
    return {}


def _size(arguments: tuple[object, ...]) -> tuple[object, ...]:
    match arguments:
        case (tuple(size),):
            return size
    raise UnexpectedArguments("with other arguments")


def _device(_: tuple[object, ...]) -> None:
    """The device that a tensor was on does not matter."""


_TENSORS: Mapping[str, Callable[[tuple[object, ...]], PickledTensor]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

FUNCTIONS: Mapping[str, Callable[[tuple[object, ...]], object]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "collections.OrderedDict": _empty_dict,
    "torch.Size": _size,
    "torch.device": _device,
}

ALLOWED = FUNCTIONS.keys() | STORAGES.keys() | DTYPES.keys() | CLASSES
"""All names that a file of plain tensors may use."""


def is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_SIZE  # True is an int too


def _are_sizes(values: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and len(values) <= MAX_DIMENSIONS and all(map(is_size, values))
