"""Where each tensor lies in a file by ``torch.save``, such as ``pytorch_model.bin``; no pickle is executed. Takes bytes
and returns values; fetches nothing.

Such a file is a zip: ``<root>/data.pkl`` describes the tensors, ``<root>/data/<key>`` are the storages they lie in.
"""

import zipfile
from collections.abc import Collection, Mapping
from math import prod

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.foreign_content import recognise
from job.checkpoints.formats.safetensors_header import BITS
from job.checkpoints.formats.torch_globals import PickledTensor
from job.checkpoints.formats.unpickler import CONVERT_ADVICE, unpickle
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

MAX_PICKLE = 20_000_000
"""Bytes. torch writes about 130 for each tensor, plus its name."""

MAX_BYTE_ORDER = 16

WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "model_state", "params")
"""Keys under which training checkpoints keep the weights: Lightning, fairseq, DeepSpeed and others."""


def archive_root(names: Collection[str], where: str) -> str:
    """The folder in the zip that holds everything: ``archive``, or the file's name.

    Raises:
        UnsupportedCheckpoint: these are not the entries of one archive by ``torch.save``.
    """
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise UnsupportedCheckpoint(
            f"{where}: found a zip file with {len(roots)} data.pkl, expected one in its only folder, as torch.save"
            " writes it; give a checkpoint saved with torch.save or safetensors"
        )
    (root,) = roots
    if f"{root}/constants.pkl" in names:
        raise UnsupportedCheckpoint(
            f"{where}: found a TorchScript program, expected a dict of tensors; {CONVERT_ADVICE}"
        )
    return root


def check_byte_order(content: bytes, where: str) -> None:
    """Make sure that the entry ``byteorder`` says ``little``. torch writes it since 2.1; before, it only ran on
    little-endian machines.

    Raises:
        UnsupportedCheckpoint: it says something else.
    """
    if content != b"little":
        raise UnsupportedCheckpoint(
            f"{where}: found the byte order {content.decode('latin-1')!r}, expected 'little'; {CONVERT_ADVICE}"
        )


def parse_state_dict(pickle: bytes, where: str) -> dict[str, PickledTensor]:
    """The tensors by name, whether they are the whole content of the file or under one key of a training checkpoint.

    Raises:
        UnsupportedCheckpoint: the pickle holds no dict of tensors, or several, or needs more than plain tensors.
            Nothing was executed.
        CorruptCheckpoint: the pickle is invalid.
    """
    content = unpickle(pickle, where)
    if not isinstance(content, dict):
        kind = "tensor" if isinstance(content, PickledTensor) else type(content).__name__
        raise UnsupportedCheckpoint(f"{where}: found a {kind}, expected a dict of tensors by name; {CONVERT_ADVICE}")
    found = {"the file itself": _tensors(content)} | {key: _tensors(content.get(key)) for key in WRAPPERS}
    held = {place: tensors for place, tensors in found.items() if tensors}
    if len(held) != 1:
        places = (
            f"tensors in {', '.join(held)}" if held else f"no tensors by name ({', '.join(map(repr, content)):.200})"
        )
        raise UnsupportedCheckpoint(f"{where}: found {places}, expected one dict of them; {CONVERT_ADVICE}")
    (tensors,) = held.values()
    return tensors


def locate_tensors(
    tensors: Mapping[str, PickledTensor], storages: Mapping[str, tuple[int, int]], file: str, where: str
) -> dict[str, TensorLocation]:
    """Where the tensors lie in ``file``, by name. Tensors that share a storage share its bytes.

    A tensor that repeats its numbers (an expanded view) has fewer bytes than its shape says.

    Args:
        storages: by its key, where each storage begins and ends in ``file``.

    Raises:
        CorruptCheckpoint: a storage has another length than its tensors say, or a tensor reaches beyond its storage.
    """
    return {
        name: _location(tensor, file, *storages[tensor.storage.key], f"{where}: tensor {name!r:.200}")
        for name, tensor in tensors.items()
    }


def not_a_zip(
    first: bytes, size: int, error: zipfile.BadZipFile, where: str
) -> CorruptCheckpoint | UnsupportedCheckpoint:
    """The error for a file of ``size`` bytes that does not end as a zip file does. ``first``: its first bytes."""
    is_tar = first[257:262] == b"ustar"
    if is_tar or first.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."):  # the magic number, pickled
        form = "a tar file" if is_tar else "a sequence of pickles"
        return UnsupportedCheckpoint(
            f"{where}: found {form}, as torch saved before 1.6, expected the zip that torch.save writes since;"
            f" {CONVERT_ADVICE}"
        )
    if first.startswith(b"PK"):
        return CorruptCheckpoint(
            f"{where}: found a zip file without an end ({error}), expected a whole one; it is cut off: finish the"
            " download, or get the file again"
        )
    if foreign := recognise(first, size, where):
        return foreign
    return UnsupportedCheckpoint(
        f"{where}: found {first[:8]!r} at the start, expected the zip that torch.save writes; give a checkpoint in"
        " safetensors"
    )


def _location(tensor: PickledTensor, file: str, begin: int, end: int, where: str) -> TensorLocation:
    """``begin`` to ``end`` are the bytes of the tensor's storage."""
    n_storage = tensor.storage.n_items * BITS[tensor.storage.dtype] // 8
    if end - begin != n_storage:
        raise CorruptCheckpoint(
            f"{where}: found {end - begin:,} bytes in its storage {tensor.storage.key!r:.80}, expected {n_storage:,};"
            " get the file again"
        )
    if prod(tensor.shape) == 0:
        return TensorLocation(file, begin, begin, tensor.dtype, tensor.shape)
    width = BITS[tensor.dtype] // 8
    n_spanned = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if (tensor.offset + n_spanned) * width > n_storage:
        raise CorruptCheckpoint(
            f"{where}: found items {tensor.offset:,} to {tensor.offset + n_spanned:,} of its storage, expected at most"
            f" {n_storage // width:,} items; get the file again"
        )
    first = begin + tensor.offset * width
    strides = None if _is_contiguous(tensor) else tensor.strides
    return TensorLocation(file, first, first + n_spanned * width, tensor.dtype, tensor.shape, strides)


def _is_contiguous(tensor: PickledTensor) -> bool:
    """Whether the tensor is stored row after row without gaps. The stride of a dimension of size 1 does not matter."""
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _tensors(content: object) -> dict[str, PickledTensor]:
    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, PickledTensor)}
