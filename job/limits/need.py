"""What a survey needs of memory and disk, as far as headers tell. A plan states it, and what does not fit is refused
before W is read.
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.safetensors_header import BITS
from job.errors import TransientError, UnsupportedCheckpoint
from job.geometry.methods import NUMBERS_PER_BLOCK, ROWS_PER_PRODUCT, Dedup
from job.geometry.sampling import NUMBERS_IN_MEMORY, krylov_size, rows_per_group
from job.limits.memory import megabytes, memory_limit

# Measured by `make bench` with 0.8 to 8 GB from HTTP to S3, and with 152,000 and 1,000,000 rows in a folder: the
# job's own process took 82 to 336 MB. The formulas below give at least 17 % more.
BASE_NBYTES: Final = 130_000_000
"""The interpreter with numpy, the clients of the Hub and of S3, and blocks of rows."""
TORCH_NBYTES: Final = 250_000_000
"""What torch takes, which only torch.unique needs."""
CONNECTION_NBYTES: Final = 4_800_000
"""A chunk of 4 MiB, and what reading it takes."""
PART_NBYTES: Final = 10_500_000
"""A part of an upload of 10 MiB."""
ROW_NBYTES: Final = 200
"""43 bytes for a row's measurements, and 161 while rows are grouped, as numpy counts it."""
COLUMN_NBYTES: Final = 80
"""For each number of a row that is longer than a usual block. Measured: 68 bytes with BF16, 64 with F64."""
OTHER_PROCESS_NBYTES: Final = 320_000_000
"""The process that builds model classes. The one that reads a tokenizer takes as much with the transformers library,
and for a tokenizer.json what follows. Only one of these is there at a time, unless there is much more memory."""
TOKENIZER_BASE_NBYTES, TOKENIZER_FACTOR, TOKEN_NBYTES = 50_000_000, 6, 900
"""The process without a file; for each byte of the files, merges included; for each token. Measured with all that is
said of tokens: 259 MB for Qwen's (12 MB, 151,669 tokens) and 275 MB for Mistral's tekken.json (19 MB, 131,072); without
the search for tokens that cannot be reached, 630 MB for a file of 90 MB with 260,000 tokens."""
BLAS_NBYTES: Final = 50_000_000
"""The buffers of a BLAS, and stripes of products. Measured in all, with 2,560 columns: 125 MB of 197."""
TOKEN_SCRATCH_FACTOR, TOKEN_SCRATCH_NBYTES = 3, 110
"""On disk: the tokens' pieces, texts and bytes, none of which take more than the tokenizer's files; and for each row,
what else is said of it, once as Arrow and once as Parquet."""
MAX_TEXTS_NBYTES: Final = 60_000_000
"""Of the pieces, texts and bytes of any vocabulary. A larger file holds other things, and is no reason to refuse W."""
NUMBERS_SCRATCH_NBYTES: Final = 10
"""The same for each row where no token can be named."""
COPIES_OF_W: Final = 5
"""torch.unique holds the rows, its own copies of them, and one more copy if W holds a −0 or a NaN."""
LOG_NBYTES: Final = 50 << 20
"""What the kubelet keeps of a container's log by default, which counts towards the container's ephemeral storage."""


MAX_PARTS: Final = 16
"""S3 takes about 20 MB/s over a connection: 16 of them take 320 MB/s."""
SHARE_OF_PARTS: Final = 6
"""The parts may take this part of the memory: a sixth. With 1 GiB, this allows 16 of them."""


def default_parts() -> int:
    """How many parts of an upload to send at a time: as many as the memory allows, up to ``MAX_PARTS``."""
    return max(1, min(MAX_PARTS, memory_limit() // SHARE_OF_PARTS // PART_NBYTES))


@dataclass(frozen=True)
class Need:
    """What a survey needs, in bytes."""

    memory_nbytes: int
    scratch_nbytes: int
    w_memory_nbytes: int
    """The part of the memory without which W cannot be measured. The rest is for the names of tokens."""
    covariance_nbytes: int = 0
    """The part of this memory that only the covariance takes."""


def survey_need(
    location: TensorLocation,
    *,
    rows_are_on_disk: bool,
    reads_w: bool,
    tokenizer_nbytes: int,
    describes_tokens: bool,
    dedup: Dedup,
    connections: int,
    parts_in_flight: int,
    projection: bool = False,
    covariance: bool = False,
) -> Need:
    """The need of the survey of a W.

    Args:
        rows_are_on_disk: whether a file of this machine holds W's rows, one after another: the checkpoint's, or W's
            published one in a folder.
        reads_w: whether W is read; not if its tensors are published.
        tokenizer_nbytes: the size of the tokenizer's files.
        describes_tokens: whether what the rows stand for is written down, for a table or for the holes' names.
        parts_in_flight: how many parts of an upload are sent at a time; 0 if OUTPUT is a folder.
        projection: whether the principal directions are computed.
        covariance: whether the covariance is computed.
    """
    copy_nbytes = 0
    if reads_w and location.strides is not None:  # the stored bytes, from which rows are made
        copy_nbytes = location.nbytes
    if reads_w and not rows_are_on_disk:
        stored_by_rows = location.strides is None
        copy_nbytes += location.nbytes if stored_by_rows else math.prod(location.shape) * BITS[location.dtype] // 8
    tables_nbytes = 0
    if describes_tokens:
        row_nbytes = TOKEN_SCRATCH_NBYTES if tokenizer_nbytes else NUMBERS_SCRATCH_NBYTES
        texts_nbytes = min(TOKEN_SCRATCH_FACTOR * tokenizer_nbytes, MAX_TEXTS_NBYTES)
        tables_nbytes = texts_nbytes + row_nbytes * location.shape[0]
    of_w = BASE_NBYTES
    if reads_w:
        of_w = memory_of_w(location.shape, location.nbytes, dedup, connections, parts_in_flight, projection=projection)
    of_covariance = memory_of_covariance(location.shape[1]) if covariance else 0
    of_w += of_covariance
    of_tokenizer = TOKENIZER_BASE_NBYTES + TOKENIZER_FACTOR * tokenizer_nbytes + TOKEN_NBYTES * location.shape[0]
    of_other = max(OTHER_PROCESS_NBYTES, of_tokenizer if tokenizer_nbytes else 0)
    return Need(of_w + of_other, copy_nbytes + tokenizer_nbytes + tables_nbytes, of_w, of_covariance)


def memory_of_w(
    shape: tuple[int, ...],
    w_nbytes: int,
    dedup: Dedup,
    connections: int,
    parts_in_flight: int,
    *,
    projection: bool = False,
) -> int:
    """An upper bound of the memory, in bytes, of the process that measures a W of shape (n_rows, hidden_size)."""
    n_rows, hidden_size = shape
    copies = TORCH_NBYTES + COPIES_OF_W * w_nbytes if dedup == "torch-unique" else 0
    of_long_rows = max(0, hidden_size - NUMBERS_PER_BLOCK) * COLUMN_NBYTES
    of_parts = (parts_in_flight + 1) * PART_NBYTES if parts_in_flight else 0  # one is filled meanwhile
    of_streams = connections * max(CONNECTION_NBYTES, w_nbytes // n_rows) + of_parts  # a chunk has at least one row
    # The principal directions are looked for when W has been streamed, and γ′ has not.
    of_projection = memory_of_projection(n_rows, hidden_size) if projection else 0
    return BASE_NBYTES + max(of_streams, of_projection) + n_rows * ROW_NBYTES + of_long_rows + copies


def memory_of_projection(n_rows: int, hidden_size: int) -> int:
    """An upper bound of the memory, in bytes, that the principal directions take: the rows in memory, two groups of
    rows that are read meanwhile, and the Krylov subspace with its image and a copy. For the coordinates of all rows,
    there is room in what grouping the rows took."""
    group = min(n_rows, rows_per_group(hidden_size)) * hidden_size
    sample = max(group, min(n_rows * hidden_size, NUMBERS_IN_MEMORY))
    return 4 * sample + 32 * group + 40 * krylov_size(n_rows, hidden_size) * hidden_size


def memory_of_covariance(hidden_size: int) -> int:
    """An upper bound of the memory, in bytes, that the covariance takes: the matrix, and LAPACK's copy of it or before
    that the rows that are multiplied."""
    return 16 * hidden_size**2 + 16 * ROWS_PER_PRODUCT * hidden_size + BLAS_NBYTES


def refuse_what_does_not_fit(need: Need, source: str, scratch: Path, scratch_limit: int | None) -> None:
    """Make sure that this process may use as much memory and disk as a survey needs.

    Args:
        source: the checkpoint, for people.
        scratch: the scratch folder, whose disk has to have room.
        scratch_limit: how many bytes the folder and the log may have together; None if there is no limit.

    Raises:
        UnsupportedCheckpoint: a limit is too low.
        TransientError: the disk has too little room left.
    """
    limit = memory_limit()
    if need.w_memory_nbytes > limit:
        remedy = ", or leave covariance out of TENSORS" if need.covariance_nbytes else ""
        raise UnsupportedCheckpoint(
            f"{source}: found that its survey needs {megabytes(need.w_memory_nbytes)} of memory, expected at most "
            f"{megabytes(limit)}, which this process may use; raise its memory limit, such as the container's{remedy}"
        )
    scratch_nbytes = need.scratch_nbytes
    if scratch_nbytes and scratch_limit is not None and scratch_nbytes + LOG_NBYTES > scratch_limit:
        raise UnsupportedCheckpoint(
            f"{source}: found that its survey needs {megabytes(scratch_nbytes)} of scratch, expected at most "
            f"{megabytes(max(0, scratch_limit - LOG_NBYTES))}, SCRATCH_LIMIT less {megabytes(LOG_NBYTES)} for the log;"
            " raise the limit, such as the container's limits.ephemeral-storage"
        )
    try:
        free = shutil.disk_usage(scratch).free
    except OSError as error:
        raise TransientError(
            f"{scratch}: {error.strerror or error}, expected a folder for a copy of W; check the disk"
        ) from error
    if scratch_nbytes > free:
        raise TransientError(
            f"{scratch}: found {megabytes(free)} of free disk, expected {megabytes(scratch_nbytes)} for the survey of"
            f" {source}; make room, or set SCRATCH to a folder on a larger disk"
        )
