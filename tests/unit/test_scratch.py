"""Matrices that are not stored row by row come out row by row; a full disk is said to be full."""

import errno
import fcntl
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.errors import TransientError
from job.measuring import stored_rows
from job.measuring.stored_rows import to_row_major
from job.scratch import remove_abandoned, scratch_folder


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


@st.composite
def views(draw: st.DrawFn) -> torch.Tensor:
    """A matrix that is a view of another tensor, each of whose numbers it has at most once."""
    sides = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    view = torch.arange(math.prod(sides), dtype=torch.int16).reshape(sides)
    view = view.permute(draw(st.permutations(range(len(sides)))))
    while view.dim() > 2:
        dimension = draw(st.integers(0, view.dim() - 1))
        view = view.select(dimension, draw(st.integers(0, view.shape[dimension] - 1)))
    for dimension in (0, 1):
        begin = draw(st.integers(0, view.shape[dimension] - 1))
        length = draw(st.integers(1, view.shape[dimension] - begin))
        view = view.narrow(dimension, begin, length)
    return view[:: draw(st.integers(1, 3)), :: draw(st.integers(1, 3))]


@given(views(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_view_comes_out_as_torch_has_it(
    tmp_path: Path, view: torch.Tensor, stripe_nbytes: int, line_nbytes: int, chunk_nbytes: int
) -> None:
    n_spanned = 1 + sum((size - 1) * stride for size, stride in zip(view.shape, view.stride(), strict=True))
    stored = view.as_strided((n_spanned,), (1,)).numpy().tobytes()
    chunks = [stored[begin : begin + chunk_nbytes] for begin in range(0, len(stored), chunk_nbytes)]
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stored_rows, "_STRIPE_NBYTES", stripe_nbytes)
        sizes.setattr(stored_rows, "_LINE_NBYTES", line_nbytes)
        rows = list(to_row_major(chunks, tmp_path, tuple(view.shape), view.stride(), 2))
    assert b"".join(rows) == view.contiguous().numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_real_part_of_a_complex_matrix_comes_out_row_by_row(tmp_path: Path, dtype: torch.dtype) -> None:
    pairs = torch.randn(300, 70, 2).to(dtype)
    stored = pairs.numpy().tobytes()
    width = dtype.itemsize
    for part in (0, 1):
        rows = to_row_major([stored[part * width :]], tmp_path, (300, 70), (140, 2), width)
        assert b"".join(rows) == pairs[..., part].contiguous().numpy().tobytes()


def test_stripes_join_where_the_matrix_is_larger_than_one(tmp_path: Path) -> None:
    storage = torch.randn(500, 20_000)
    rows = to_row_major([storage.numpy().tobytes()], tmp_path, (20_000, 500), (1, 20_000), 4)
    assert b"".join(rows) == storage.T.contiguous().numpy().tobytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [1, 100])
def test_a_span_that_is_too_short_is_an_error(tmp_path: Path, missing: int) -> None:
    with pytest.raises(TransientError, match="expected more bytes"):
        list(to_row_major([bytes(400 - missing)], tmp_path, (10, 10), (1, 10), 4))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_and_nothing_of_others_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    other = tmp_path / "black-hole-survey-other"
    other.mkdir()
    os.utime(other, (0, 0))
    remove_abandoned(tmp_path)
    with scratch_folder(tmp_path) as folder:
        (folder / "W").write_bytes(b"W")
    assert list(tmp_path.iterdir()) == [other]


def test_a_lock_that_fails_otherwise_is_a_failure_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(TransientError, match="Input/output error"), scratch_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
