"""The directory at the end of a zip file, read by range: at which bytes each entry lies, whatever it holds.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import io
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Collection

from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

FIRST_READ_NBYTES = 100_000
"""Read from the file's end at once: the end record with the longest comment it may have, and a directory of a thousand
entries, at some 70 bytes each where torch wrote it. The whole of a small file, too."""

MAX_DIRECTORY = 5_000_000
"""Bytes, for 70,000 storages. ``zipfile`` keeps up to thirty bytes for each of them."""

MAX_LOCAL_HEADERS = 1_000
"""Requests spent on entries whose place the directory alone does not tell."""

LOCAL_HEADER_NBYTES = 30
ENCRYPTED = 0x1
WITH_DESCRIPTOR = 0x8
FLAGS_BY_TORCH = frozenset({0x808, 0x800})
NO_TIME = (1980, 0, 0, 0, 0, 0)
ALIGNMENT = 64
MAX_32_BITS = 0xFFFFFFFF


class ZipByRange:
    """A zip file of which only the parts asked for are fetched.

    Raises:
        zipfile.BadZipFile: the file does not end as a zip file does.
        CorruptCheckpoint: its directory is not sound.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, where: str) -> None:
        self._file = _RangeFile(fetch, size, where)
        self._where = where
        self._n_headers_read = 0
        try:
            with zipfile.ZipFile(self._file) as directory:
                entries = directory.infolist()
                self._entries = directory.NameToInfo
                directory_begin = directory.start_dir
        except (NotImplementedError, ValueError) as error:
            raise CorruptCheckpoint(f"{where}: its zip directory is not sound ({error}); get the file again") from None
        begins = {entry.header_offset for entry in entries}
        if min(len(self._entries), len(begins)) < len(entries):
            raise CorruptCheckpoint(
                f"{where}: its zip directory has {len(entries):,} entries, but {len(self._entries):,} names at"
                f" {len(begins):,} places; do not use this file"
            )
        self._bounds = [*sorted(begins), directory_begin]

    @property
    def names(self) -> Collection[str]:
        return self._entries.keys()

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small entry.

        Raises:
            CorruptCheckpoint: it is longer than ``limit`` bytes.
        """
        begin, end = self.range_of(name)
        if end - begin > limit:
            raise CorruptCheckpoint(
                f"{self._where}: {name} has {end - begin:,} bytes, at most {limit:,} were expected; check the file"
            )
        return self._file.between(begin, end)

    def range_of(self, name: str) -> tuple[int, int]:
        """The bytes of the file that are the content of an entry.

        Raises:
            UnsupportedCheckpoint: it is compressed or encrypted.
            CorruptCheckpoint: there is no such entry, or it does not fit between its neighbours.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise CorruptCheckpoint(f"{self._where}: has no entry {name!r:.200}, which it names; get the file again")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
            raise UnsupportedCheckpoint(
                f"{self._where}: {name} is compressed or encrypted (method {entry.compress_type}), as it is was"
                " expected; save it again with torch.save or safetensors"
            )
        room_end = self._bounds[bisect_right(self._bounds, entry.header_offset, hi=len(self._bounds) - 1)]
        begin = _begin_as_torch_writes(entry, room_end)
        if begin is None:
            begin = self._begin_by_local_header(entry)
        end = begin + entry.file_size
        if entry.file_size != entry.compress_size or not 0 <= entry.header_offset < begin <= end <= room_end:
            raise CorruptCheckpoint(
                f"{self._where}: {name} lies at bytes {begin:,} to {end:,}, between {entry.header_offset:,} and"
                f" {room_end:,} was expected; get the file again"
            )
        return begin, end

    def _begin_by_local_header(self, entry: zipfile.ZipInfo) -> int:
        self._n_headers_read += 1
        if self._n_headers_read > MAX_LOCAL_HEADERS:
            raise UnsupportedCheckpoint(
                f"{self._where}: more than {MAX_LOCAL_HEADERS:,} entries do not lie where torch.save puts them;"
                " save it again with torch.save or safetensors"
            )
        name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
        begin = entry.header_offset
        header = self._file.between(begin, begin + LOCAL_HEADER_NBYTES + len(name))
        if not header.startswith(b"PK\3\4") or header[LOCAL_HEADER_NBYTES:] != name:
            raise CorruptCheckpoint(f"{self._where}: {name!r:.200} is not at byte {begin:,}; get the file again")
        n_name, n_extra = struct.unpack_from("<HH", header, 26)
        return begin + LOCAL_HEADER_NBYTES + int(n_name) + int(n_extra)


def _begin_as_torch_writes(entry: zipfile.ZipInfo, room_end: int) -> int | None:
    """Where an entry's content begins if torch wrote it, without a look at its local header; else None.

    How far the header is padded stands only in the header itself, and one request for each tensor would be many. But
    torch aligns the content and lets nothing but a descriptor follow it, so that its end is known and its begin can be
    checked: https://github.com/pytorch/pytorch/blob/v2.6.0/caffe2/serialize/inline_container.cc (``getPadding``).
    torch reckons the same way itself (``torch.utils.serialization.config.load.calculate_storage_offsets``).
    """
    if entry.date_time != NO_TIME or entry.flag_bits not in FLAGS_BY_TORCH:
        return None
    is_zip64 = max(entry.header_offset, entry.file_size) >= MAX_32_BITS
    n_descriptor = (24 if is_zip64 else 16) if entry.flag_bits & WITH_DESCRIPTOR else 0
    begin = room_end - n_descriptor - entry.file_size
    header_end = entry.header_offset + LOCAL_HEADER_NBYTES + len(entry.orig_filename.encode())
    return begin if begin % ALIGNMENT == 0 and begin >= header_end else None


class _RangeFile(io.RawIOBase):
    """What ``zipfile`` needs of a file; reads no more at once than a directory may have, whatever the file claims."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, where: str) -> None:
        self._fetch = fetch
        self._size = size
        self._where = where
        self._position = 0
        self._tail_begin = max(0, size - FIRST_READ_NBYTES)
        self._tail = fetch(self._tail_begin, size)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"seek to {start + offset}")  # as a real file does; zipfile counts on it
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end - self._position > MAX_DIRECTORY:
            raise CorruptCheckpoint(
                f"{self._where}: its zip directory claims {end - self._position:,} bytes, at most"
                f" {MAX_DIRECTORY:,} were expected; check the file"
            )
        content = self.between(self._position, end)
        self._position += len(content)
        return content

    def between(self, begin: int, end: int) -> bytes:
        """Bytes ``begin`` to ``end`` of the file, as many of them as it has."""
        begin, end = min(begin, self._size), min(end, self._size)
        if begin >= self._tail_begin:
            return self._tail[begin - self._tail_begin : max(begin, end) - self._tail_begin]
        return self._fetch(begin, end)
