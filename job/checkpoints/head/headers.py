"""Where each tensor of one weight file lies. Fetches the bytes that the parsers need: here parsers and fetcher meet."""

import zipfile
from collections.abc import Collection

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.formats import safetensors_header, torch_save, zip_directory
from job.checkpoints.formats.foreign_content import FIRST_BYTES
from job.checkpoints.formats.needs_more import NeedsMore
from job.checkpoints.head.needed_files import MISSING_ADVICE, refuse_unreadable
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint
from job.limits.memory import claim_memory

MAX_LOCAL_HEADERS = 1_000
"""How many requests may be made for entries of a zip whose place the directory does not tell."""


def read_header(checkpoint: Checkpoint, file: str) -> dict[str, TensorLocation]:
    """Every tensor of a weight file, read in the format that the file's ending says.

    Raises:
        CorruptCheckpoint: the checkpoint has no such file, or the file contradicts itself or was not downloaded whole.
        UnsupportedCheckpoint: it is in a format that cannot be read.
    """
    refuse_unreadable(checkpoint, file)
    if file not in checkpoint.files:
        raise CorruptCheckpoint(
            f"{checkpoint.source}: found no file {file!r:.200}, which the index names; {MISSING_ADVICE}"
        )
    if file.endswith(".safetensors"):
        return read_safetensors(checkpoint, file)
    if file.endswith(".bin"):
        return read_torch_save(checkpoint, file)
    raise UnsupportedCheckpoint(
        f"{checkpoint.source}: found {file}, expected a .safetensors or .bin file; give a checkpoint converted to"
        " safetensors"
    )


def read_safetensors(checkpoint: Checkpoint, file: str) -> dict[str, TensorLocation]:
    """Every tensor of a safetensors file. Most headers are short enough for one request.

    Raises:
        CorruptCheckpoint: the file contradicts itself, or is another than its name says.
        UnsupportedCheckpoint: the header is too long.
    """
    where, size = f"{checkpoint.source}: {file}", checkpoint.files[file].size
    first = checkpoint.fetch(file, 0, min(safetensors_header.FIRST_READ_NBYTES, size))
    end = safetensors_header.header_end(first, size, where)
    claim_memory(3 * end, where)
    header = first[:end] + (checkpoint.fetch(file, len(first), end) if end > len(first) else b"")
    return safetensors_header.parse_header(header[safetensors_header.LENGTH_NBYTES :], file, size, where)


def read_torch_save(checkpoint: Checkpoint, file: str) -> dict[str, TensorLocation]:
    """Every tensor of a file by ``torch.save``, in about three requests.

    Raises:
        UnsupportedCheckpoint: the file is in the form from before torch 1.6, is TorchScript, big-endian or compressed,
            or its pickle needs more than plain tensors. Nothing was executed.
        CorruptCheckpoint: the file contradicts itself.
    """
    where = f"{checkpoint.source}: {file}"
    try:
        archive = _ZipByRange(checkpoint, file, where)
    except zipfile.BadZipFile as error:
        size = checkpoint.files[file].size
        first = checkpoint.fetch(file, 0, min(size, FIRST_BYTES))
        raise torch_save.not_a_zip(first, size, error, where) from None
    root = torch_save.archive_root(archive.names, where)
    if f"{root}/byteorder" in archive.names:
        torch_save.check_byte_order(archive.read(f"{root}/byteorder", torch_save.MAX_BYTE_ORDER), where)
    tensors = torch_save.parse_state_dict(archive.read(f"{root}/data.pkl", torch_save.MAX_PICKLE), where)
    keys = dict.fromkeys(tensor.storage.key for tensor in tensors.values())
    storages = {key: archive.range_of(f"{root}/data/{key}") for key in keys}
    return torch_save.locate_tensors(tensors, storages, file, where)


class _ZipByRange:
    """A zip file. Only its directory and the entries that are needed are fetched.

    Raises:
        zipfile.BadZipFile: the file does not end as a zip file does.
        CorruptCheckpoint: its directory is invalid.
    """

    def __init__(self, checkpoint: Checkpoint, file: str, where: str) -> None:
        self._checkpoint, self._file, self._where = checkpoint, file, where
        self._size = checkpoint.files[file].size
        self._n_local_headers = 0
        self._tail = b""
        self._directory = self._read_directory()

    @property
    def names(self) -> Collection[str]:
        return self._directory.names

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small entry.

        Raises:
            UnsupportedCheckpoint, CorruptCheckpoint: as ``range_of``; or the content is longer than ``limit`` bytes.
        """
        begin, end = self.range_of(name)
        if end - begin > limit:
            raise CorruptCheckpoint(
                f"{self._where}: found {end - begin:,} bytes in {name}, expected at most {limit:,}; check the file"
            )
        return self._fetch(begin, end)

    def range_of(self, name: str) -> tuple[int, int]:
        """Where the content of an entry begins and ends in the file.

        Raises:
            UnsupportedCheckpoint: it is compressed or encrypted, or too many entries are not where torch puts them.
            CorruptCheckpoint: there is no such entry, or it does not fit between its neighbours.
        """
        found = self._directory.content_range(name)
        if found is not None:
            return found
        self._n_local_headers += 1
        if self._n_local_headers > MAX_LOCAL_HEADERS:
            raise UnsupportedCheckpoint(
                f"{self._where}: found more than {MAX_LOCAL_HEADERS:,} entries that do not lie where torch.save puts"
                " them; save it again with torch.save or safetensors"
            )
        return self._directory.content_range_after(name, self._fetch(*self._directory.local_header_range(name)))

    def _read_directory(self) -> zip_directory.ZipDirectory:
        needed = zip_directory.FIRST_READ_NBYTES
        while True:
            claim_memory(10 * needed, self._where)
            self._tail = self._fetch(max(0, self._size - needed), self._size - len(self._tail)) + self._tail
            try:
                return zip_directory.parse_zip_directory(self._tail, self._size, self._where)
            except NeedsMore as more:
                needed = more.nbytes

    def _fetch(self, begin: int, end: int) -> bytes:
        tail_begin = self._size - len(self._tail)
        if begin >= tail_begin:
            return self._tail[begin - tail_begin : end - tail_begin]
        return self._checkpoint.fetch(self._file, begin, end)
