"""A part of an upload: memory that is used again, and how boto3 reads it."""

from __future__ import annotations

from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, SEEK_SET

from job.store.s3.content_digests import PartDigest, digest_part


class UploadStopped(Exception):
    """Raised in the threads that send parts, to end the upload."""


class Part:
    """The bytes of a part, which boto3 reads as those of a file, anew for each attempt. They are copied only once, when
    they are added.

    ``capacity``: how many bytes it can hold at most. ``failures``: once this has an element, reading raises
    ``UploadStopped``.
    """

    def __init__(self, capacity: int, failures: Sequence[BaseException]) -> None:
        self._memory = memoryview(bytearray(capacity))
        self._failures = failures
        self.clear(capacity)

    def clear(self, capacity: int) -> None:
        """Remove all bytes, and make room for ``capacity``."""
        self._content = self._memory[:capacity]
        self._nbytes = self._position = 0

    def add(self, content: memoryview) -> memoryview:
        """Copy the beginning of ``content``, as much as there is room for. Returns the rest."""
        nbytes = min(len(content), len(self._content) - self._nbytes)
        self._content[self._nbytes : self._nbytes + nbytes] = content[:nbytes]
        self._nbytes += nbytes
        return content[nbytes:]

    def is_full(self) -> bool:
        return self._nbytes == len(self._content)

    def __len__(self) -> int:
        return self._nbytes

    def digest(self, *, with_md5: bool) -> PartDigest:
        return digest_part(self._content[: self._nbytes], with_md5=with_md5)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._position = offset + {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._nbytes}[whence]
        return self._position

    def read(self, size: int | None = -1) -> memoryview:
        """The next ``size`` bytes, or all that are left.

        Raises:
            UploadStopped: the upload has failed. A slow network would keep the run from ending.
        """
        if self._failures:
            raise UploadStopped
        begin = self._position
        end = self._nbytes if size is None or size < 0 else min(self._nbytes, begin + size)
        self._position = end
        return self._content[begin:end]
