"""Whether a file that is needed can be read: it is there, it is a readable file, and its download was finished."""

import base64
import hashlib
import re
from collections.abc import Collection
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.file_names import HUB_DOWNLOADS
from job.errors import CorruptCheckpoint

MARKER: Final = re.compile(
    r"(\.[0-9a-f]{8})?\.(aria2|incomplete|partial|part|filepart|crdownload|opdownload|download|!qB|!ut|bc!)"
)
"""What downloaders add to a file's name while they write it: aria2, huggingface_hub, rclone (with a hash), browsers,
FTP and torrent clients."""

MISSING_ADVICE: Final = (
    "check that the upload is complete; of a local copy, download the missing files, for instance with `hf download`"
)


def names_of(checkpoint: Checkpoint) -> set[str]:
    """The names of all its files, those that were set aside among them: what is chosen does not depend on what can be
    read. A backslash in a name stands for a slash, as in archives made on Windows."""
    return {*checkpoint.files, *(name.replace("\\", "/") for name in checkpoint.set_aside)}


def refuse_unreadable(checkpoint: Checkpoint, file: str) -> None:
    """Make sure that a needed file was not set aside, and that no unfinished download of it lies beside it.

    Raises:
        CorruptCheckpoint: it was, or one does.
    """
    for name, reason in checkpoint.set_aside.items():
        if name.replace("\\", "/") == file.replace("\\", "/"):
            raise CorruptCheckpoint(
                f"{checkpoint.source}: {name!r:.200} is needed and cannot be read: {reason}; put a readable file in its"
                " place, for instance by downloading it again"
            )
    if marker := unfinished_download(file, names_of(checkpoint)):
        raise CorruptCheckpoint(
            f"{checkpoint.source}: found {marker!r:.200} beside {file}, a sign that it is not complete, expected a"
            " finished download; finish it, or delete the sign if the file is complete"
        )


def unfinished_download(file: str, names: Collection[str]) -> str | None:
    """The name that shows that a download of ``file`` was not finished; None if there is none."""
    folder, slash, base = file.rpartition("/")
    # huggingface_hub.file_download names it by a hash; versions before 0.26 by the file's own name.
    name_hash = hashlib.sha1(f"{base}.metadata".encode("utf-8", "replace"), usedforsecurity=False).digest()
    digest = base64.urlsafe_b64encode(name_hash).decode()
    place = f"{HUB_DOWNLOADS}{folder}{slash}"
    for name in names:
        if name.startswith(file) and MARKER.fullmatch(name, len(file)):
            return name
        if name.startswith((f"{place}{base}.", f"{place}{digest}.")) and name.endswith(".incomplete"):
            return name
    return None
