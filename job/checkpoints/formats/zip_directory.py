"""The directory at the end of a zip file: where the content of each entry lies. Takes bytes and returns values; fetches
nothing.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import io
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from job.checkpoints.formats.needs_more import NeedsMore
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

FIRST_READ_NBYTES = 100_000
"""How much to read first, from the end of the file. This holds the end record with the longest possible comment, and a
directory of a thousand entries, for each of which torch writes about 70 bytes. A small file is read as a whole."""

MAX_DIRECTORY = 5_000_000
"""Bytes. Enough for 70,000 storages. ``zipfile`` takes up to thirty bytes of memory for each byte."""

MAX_TAIL = MAX_DIRECTORY + FIRST_READ_NBYTES
"""Bytes from where the directory begins to the file's end."""

LOCAL_HEADER_NBYTES = 30
ENCRYPTED = 0x1
WITH_DESCRIPTOR = 0x8
FLAGS_BY_TORCH = frozenset({0x808, 0x800})
NO_TIME = (1980, 0, 0, 0, 0, 0)
ALIGNMENT = 64
MAX_32_BITS = 0xFFFFFFFF


@dataclass(frozen=True)
class ZipDirectory:
    """Where the entries of a zip file lie."""

    where: str
    """The start of error messages."""
    _entries: Mapping[str, zipfile.ZipInfo]
    _bounds: Sequence[int]
    """Where the entries begin, in ascending order, and then where the directory begins."""

    @property
    def names(self) -> Collection[str]:
        return self._entries.keys()

    def content_range(self, name: str) -> tuple[int, int] | None:
        """Where the content of an entry begins and ends in the file; None if only its local header says that.

        Raises:
            UnsupportedCheckpoint: the entry is compressed or encrypted.
            CorruptCheckpoint: there is no such entry, or it does not fit between its neighbours.
        """
        entry = self._stored_entry(name)
        begin = _begin_as_torch_writes(entry, self._room_end(entry))
        return None if begin is None else self._checked_range(entry, begin)

    def local_header_range(self, name: str) -> tuple[int, int]:
        """Where the local header of an entry begins and ends in the file.

        Raises:
            UnsupportedCheckpoint, CorruptCheckpoint: as ``content_range``.
        """
        entry = self._stored_entry(name)
        begin, end = entry.header_offset, entry.header_offset + LOCAL_HEADER_NBYTES + len(_raw_name(entry))
        if not 0 <= begin < end <= self._room_end(entry):
            raise self._misplaced(entry, begin, end)
        return begin, end

    def content_range_after(self, name: str, local_header: bytes) -> tuple[int, int]:
        """Where the content of an entry begins and ends in the file, by its local header.

        Raises:
            UnsupportedCheckpoint, CorruptCheckpoint: as ``content_range``.
        """
        entry = self._stored_entry(name)
        if not local_header.startswith(b"PK\3\4") or local_header[LOCAL_HEADER_NBYTES:] != _raw_name(entry):
            raise CorruptCheckpoint(
                f"{self.where}: found no header of {_raw_name(entry)!r:.200} at byte {entry.header_offset:,}, where its"
                " directory has it; get the file again"
            )
        n_name, n_extra = struct.unpack_from("<HH", local_header, 26)
        return self._checked_range(entry, entry.header_offset + LOCAL_HEADER_NBYTES + int(n_name) + int(n_extra))

    def _stored_entry(self, name: str) -> zipfile.ZipInfo:
        entry = self._entries.get(name)
        if entry is None:
            raise CorruptCheckpoint(
                f"{self.where}: found no entry {name!r:.200}, which its pickle names; get the file again"
            )
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
            raise UnsupportedCheckpoint(
                f"{self.where}: found {name} compressed or encrypted (method {entry.compress_type}), expected stored"
                " (uncompressed); save it again with torch.save or safetensors"
            )
        return entry

    def _room_end(self, entry: zipfile.ZipInfo) -> int:
        """Where the next entry or the directory begins."""
        return self._bounds[bisect_right(self._bounds, entry.header_offset, hi=len(self._bounds) - 1)]

    def _checked_range(self, entry: zipfile.ZipInfo, begin: int) -> tuple[int, int]:
        end = begin + entry.file_size
        fits = 0 <= entry.header_offset < begin <= end <= self._room_end(entry)
        if entry.file_size != entry.compress_size or not fits:
            raise self._misplaced(entry, begin, end)
        return begin, end

    def _misplaced(self, entry: zipfile.ZipInfo, begin: int, end: int) -> CorruptCheckpoint:
        return CorruptCheckpoint(
            f"{self.where}: found {entry.filename} at bytes {begin:,} to {end:,}, expected it between"
            f" {entry.header_offset:,} and {self._room_end(entry):,}; get the file again"
        )


def parse_zip_directory(tail: bytes, file_size: int, where: str) -> ZipDirectory:
    """The directory of a zip file whose last bytes are ``tail``.

    Raises:
        NeedsMore: the directory begins before ``tail``.
        zipfile.BadZipFile: the file does not end as a zip file does.
        CorruptCheckpoint: the directory is invalid.
    """
    try:
        with zipfile.ZipFile(_Tail(tail, file_size, where)) as archive:
            entries, by_name, directory_begin = archive.infolist(), archive.NameToInfo, archive.start_dir
    except (NotImplementedError, ValueError) as error:
        raise CorruptCheckpoint(f"{where}: found an invalid zip directory ({error}); get the file again") from None
    begins = {entry.header_offset for entry in entries}
    if min(len(by_name), len(begins)) < len(entries):
        raise CorruptCheckpoint(
            f"{where}: found {len(entries):,} entries in its zip directory with {len(by_name):,} names at"
            f" {len(begins):,} places, expected a name and a place each; do not use this file"
        )
    return ZipDirectory(where, by_name, (*sorted(begins), directory_begin))


def _raw_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")


def _begin_as_torch_writes(entry: zipfile.ZipInfo, room_end: int) -> int | None:
    """Where the content of an entry begins if torch wrote it, without reading its local header; else None.

    Only the local header says how much padding it has, and reading it would take one request for each tensor. But torch
    aligns the content, and only a descriptor may follow it. So the end of the content is known, and its begin can be
    checked: https://github.com/pytorch/pytorch/blob/v2.6.0/caffe2/serialize/inline_container.cc (``getPadding``).
    torch itself can do the same (``torch.utils.serialization.config.load.calculate_storage_offsets``).
    """
    if entry.date_time != NO_TIME or entry.flag_bits not in FLAGS_BY_TORCH:
        return None
    is_zip64 = max(entry.header_offset, entry.file_size) >= MAX_32_BITS
    n_descriptor = (24 if is_zip64 else 16) if entry.flag_bits & WITH_DESCRIPTOR else 0
    begin = room_end - n_descriptor - entry.file_size
    header_end = entry.header_offset + LOCAL_HEADER_NBYTES + len(entry.orig_filename.encode())
    return begin if begin % ALIGNMENT == 0 and begin >= header_end else None


class _Tail(io.RawIOBase):
    """The end of a file, presented to ``zipfile`` as the file. Refuses to read more than a directory may have."""

    def __init__(self, tail: bytes, file_size: int, where: str) -> None:
        self._tail = tail
        self._begin = file_size - len(tail)
        self._file_size = file_size
        self._where = where
        self._position = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file_size}[whence]
        if start + offset < 0:
            raise OSError(f"seek to {start + offset}")  # as a real file does; zipfile counts on it
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        begin, end = self._position, self._file_size if size < 0 else min(self._position + size, self._file_size)
        if end - begin > MAX_DIRECTORY or (begin < end and self._file_size - begin > MAX_TAIL):
            raise CorruptCheckpoint(
                f"{self._where}: found a zip directory of {end - begin:,} bytes, expected at most {MAX_DIRECTORY:,};"
                " check the file"
            )
        if begin < self._begin and begin < end:
            raise NeedsMore(self._file_size - begin)
        content = self._tail[begin - self._begin : max(begin, end) - self._begin]
        self._position += len(content)
        return content
