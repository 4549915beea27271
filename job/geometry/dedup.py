"""Two methods to find black holes, with the same result: digests, streaming; torch.unique, with W in memory."""

import numpy as np

from job.geometry.black_holes import (
    BlackHoles,
    RowReader,
    group_by_digest,
    group_by_value_digest,
    number_holes,
)
from job.geometry.measure import Measurement
from job.geometry.methods import Dedup


def find_black_holes(
    measurement: Measurement, read_rows: RowReader, row_nbytes: int, dedup: Dedup
) -> tuple[BlackHoles, BlackHoles]:
    """The black holes of the measured rows by bytes, and for comparison by values (−0 = +0, NaN ≠ NaN).

    They differ only if there is a −0 or a NaN, or if rows with different bytes stand for the same numbers.
    """
    if dedup == "torch-unique":
        from job.geometry.torch_unique import group_by_torch_unique, group_by_value_torch_unique

        rows = read_rows(np.arange(len(measurement.digests)))
        holes = number_holes(group_by_torch_unique(rows))
        if not measurement.values_may_disagree:
            return holes, holes
        return holes, number_holes(group_by_value_torch_unique(rows, measurement.encoding, measurement.has_nan))
    holes = number_holes(group_by_digest(measurement.digests, read_rows, row_nbytes))
    if not measurement.values_may_disagree:
        return holes, holes
    by_value = group_by_value_digest(
        measurement.value_digests, measurement.has_nan, read_rows, row_nbytes, measurement.encoding
    )
    return holes, number_holes(by_value)
