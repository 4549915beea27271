"""Matrices that are not stored row by row come out row by row; a full disk is said to be full."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.errors import TransientError
from job.scratch import to_row_major


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 5), st.booleans(), st.integers(1, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strided_matrices_come_out_row_by_row(
    tmp_path: Path, n_rows: int, hidden_size: int, gap: int, by_columns: bool, chunk_nbytes: int
) -> None:
    outer, inner = (hidden_size, n_rows) if by_columns else (n_rows, hidden_size)
    storage = torch.randn(outer, inner + gap).to(torch.float16)
    matrix = storage[:, :inner].T if by_columns else storage[:, :inner]
    row_stride, column_stride = matrix.stride()
    stored = storage.numpy().tobytes()
    chunks = [stored[begin : begin + chunk_nbytes] for begin in range(0, len(stored), chunk_nbytes)]
    rows = to_row_major(chunks, tmp_path, (n_rows, hidden_size), (row_stride, column_stride), 2)
    assert b"".join(rows) == matrix.numpy().tobytes()


def test_stripes_join_where_the_matrix_is_larger_than_one(tmp_path: Path) -> None:
    storage = torch.randn(500, 20_000)
    rows = to_row_major([storage.numpy().tobytes()], tmp_path, (20_000, 500), (1, 20_000), 4)
    assert b"".join(rows) == storage.T.contiguous().numpy().tobytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [1, 100])
def test_a_span_that_is_too_short_is_an_error(tmp_path: Path, missing: int) -> None:
    with pytest.raises(TransientError, match="expected more bytes"):
        list(to_row_major([bytes(400 - missing)], tmp_path, (10, 10), (1, 10), 4))
