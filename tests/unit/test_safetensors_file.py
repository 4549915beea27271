"""Published files are what the safetensors library itself writes."""

from itertools import count

import pytest
import torch
from safetensors.torch import load, save

from job.store.safetensors_file import StoredTensor, header, in_file_order

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def content(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    names = {dtype: name for name, dtype in TORCH.items()}
    stored = [StoredTensor(name, names[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]
    body = b"".join(
        tensors[tensor.name].reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in in_file_order(stored)
    )
    return header(stored, metadata) + body


def as_the_library_writes(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The library's bytes, once it happens to write the metadata in alphabetical order: its order changes each time."""
    for attempt in count():
        written = save(tensors, metadata)
        places = [written.find(f'"{key}":'.encode()) for key in sorted(metadata)]
        if places == sorted(places):
            return written
        assert attempt < 100_000
    raise AssertionError


@pytest.mark.parametrize("w_dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("id_dtype", ["U8", "I32"])
@pytest.mark.parametrize("n_holes", [0, 3])
def test_files_are_byte_for_byte_what_the_library_writes(w_dtype: str, id_dtype: str, n_holes: int) -> None:
    tensors = {
        "black_hole_mask": torch.arange(7) % 2 == 0,
        "black_hole_id": torch.arange(7).to(TORCH[id_dtype]),
        "black_hole_centroids": torch.randn(n_holes, 5).to(TORCH[w_dtype]),
    }
    metadata = {
        "model": 'org/"näme"',
        "commit": "c" * 40,
        "tensor": "lm_head.weight",
        "w_sha256": "0" * 64,
        "version": "1",
    }
    written = content(tensors, metadata)
    assert written == as_the_library_writes(tensors, metadata)
    assert all(torch.equal(load(written)[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", TORCH)
def test_a_file_of_one_tensor_without_metadata_is_what_the_library_writes(dtype: str) -> None:
    tensors = {"W": torch.ones(3, 11).to(TORCH[dtype])}
    assert content(tensors, {}) == save(tensors)
