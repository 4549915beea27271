"""The numbers that quantised rows of a GGUF file stand for. Takes bytes and returns values; fetches nothing."""

import numpy as np
from numpy.typing import NDArray


def dequantised(block: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Rows of a ggml type, (n, row_nbytes) uint8 → the numbers they stand for, (n, hidden_size) float32."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[dtype]
    with np.errstate(all="ignore"):  # a scale may be any number, even NaN
        numbers: NDArray[np.float32] = dequantize(block, kind)
    return numbers


def is_dequantisable(dtype: str) -> bool:
    """Whether the gguf package can dequantise rows of this ggml type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if dtype not in GGMLQuantizationType.__members__:
        return False
    try:
        dequantised(np.zeros((1, GGML_QUANT_SIZES[GGMLQuantizationType[dtype]][1]), np.uint8), dtype)
    except NotImplementedError:
        return False
    return True
