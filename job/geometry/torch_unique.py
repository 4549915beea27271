"""Groups identical rows with ``torch.unique``, which holds the whole matrix. The only module here that needs torch."""

import numpy as np
import torch
from numpy.typing import NDArray

from job.geometry.black_holes import Labels
from job.geometry.rows import Block, Encoding


def group_by_torch_unique(rows: Block) -> Labels:
    """Group identical rows with ``torch.unique`` over whole rows. Holds several copies of the matrix in memory.

    It compares the bytes as integers, so that ±0 and different NaNs stay apart.
    """
    widest = next(size for size in (8, 4, 2, 1) if rows.shape[1] % size == 0)
    integers = torch.from_numpy(rows).view({8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}[widest])
    return _torch_unique(integers)


def group_by_value_torch_unique(rows: Block, encoding: Encoding, has_nan: NDArray[np.bool_]) -> Labels:
    """Group rows whose *values* are equal with ``torch.unique`` itself.

    ``has_nan``: (n_rows,) bool. Each of these rows is a group by itself; torch cannot sort NaNs, so they are left out.
    """
    labels = -1 - np.arange(len(rows))
    if not has_nan.all():
        labels[~has_nan] = _torch_unique(torch.from_numpy(encoding.numbers(rows[~has_nan])))
    return labels


def _torch_unique(matrix: torch.Tensor) -> Labels:
    inverse: torch.Tensor = torch.unique(matrix, dim=0, return_inverse=True)[1]
    return inverse.numpy().astype(np.int64)
