"""What a file is that is not what its name says: a pointer, an error page, an archive, an unfinished download. Takes
bytes and returns an error; fetches nothing.
"""

import json
from collections.abc import Mapping
from typing import Final

from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

FIRST_BYTES: Final = 512
"""Enough of the start of a file to recognise it by."""

MAX_ERROR_MESSAGE: Final = 100_000
"""Bytes. A longer JSON text is no error message."""

DOWNLOAD: Final = "download it again, with the token or password that it needs"
FINISH: Final = "finish the download, for instance with `hf download`"

POINTERS: Mapping[bytes, str] = {
    b"version https://git-lfs.github.com/spec/": "a git-lfs pointer, expected the file; fetch it with `git lfs pull`",
    b"# xet version ": "a Xet pointer, expected the file; download it, for instance with `hf download`",
    b"/annex/objects/": "a git-annex pointer, expected the file; fetch it with `git annex get`",
}
"""How texts begin that stand for a file which is somewhere else."""

FORMATS: Mapping[bytes, str] = {
    b"GGUF": "a GGUF file, expected another format; give it a name that ends in .gguf",
    b"PK\3\4": "a zip file, expected another format; unpack it, or give a file by torch.save a name that ends in .bin",
    b"\x1f\x8b": "a file compressed with gzip, expected it uncompressed; unpack it with `gunzip`",
    b"\xfd7zXZ\0": "a file compressed with xz, expected it uncompressed; unpack it with `unxz`",
    b"BZh": "a file compressed with bzip2, expected it uncompressed; unpack it with `bunzip2`",
    b"\x28\xb5\x2f\xfd": "a file compressed with Zstandard, expected it uncompressed; unpack it with `unzstd`",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive, expected the file itself; unpack it",
    b"Rar!\x1a\x07": "a RAR archive, expected the file itself; unpack it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras saves, expected another format; give a checkpoint in safetensors",
}
"""How files of other formats begin."""

PAGES: Final = ("<!doctype html", "<html", "<?xml", "<error", "<head", "<!--")
"""How a page or an error of a server begins, in lower case."""

ERROR_KEYS: Final = frozenset(
    {"error", "errors", "error_code", "errorCode", "message", "detail", "status", "statusCode", "status_code", "code"}
    | {"title", "type", "path", "timestamp", "requestId", "request_id", "success", "documentation_url"}
)
"""What a server's error in JSON consists of."""


def recognise(first: bytes, size: int, where: str) -> CorruptCheckpoint | UnsupportedCheckpoint | None:
    """The error for a file of ``size`` bytes that is not what its name says; None if it is nothing that is known here.

    It is asked of files that could not be read as what their names say: a sound file may begin as another does.

    Args:
        first: the first bytes, ``FIRST_BYTES`` or more where there are as many.
        where: the start of the message.
    """
    if what := _damage(first, size):
        return CorruptCheckpoint(f"{where}: found {what}")
    if what := _other_format(first, size):
        return UnsupportedCheckpoint(f"{where}: found {what}")
    return None


def _damage(first: bytes, size: int) -> str | None:
    """What came in place of the file, and what to do."""
    if size == 0:
        return f"an empty file, expected its content; {FINISH}"
    if not first[:FIRST_BYTES].strip(b"\0"):
        return f"nothing but zeros at the start, as of an unfinished download, expected content; {FINISH}"
    text = first[:FIRST_BYTES].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.lower().startswith(PAGES):
        return f"a web page or an error of a server ({_one_line(text)}), expected the file; {DOWNLOAD}"
    if text.startswith("{") and _is_error(first, size):
        return f"an error of a server ({_one_line(text)}), expected the file; {DOWNLOAD}"
    return next((what for start, what in POINTERS.items() if first.startswith(start)), None)


def _other_format(first: bytes, size: int) -> str | None:
    """In which format the file is, and what to do."""
    if first[257:262] == b"ustar":
        return "a tar archive, expected the file itself; unpack it"
    if first[8:9] == b"{" and 2 <= int.from_bytes(first[:8], "little") <= size - 8:
        return "a safetensors file, expected another format; give it a name that ends in .safetensors"
    return next((what for start, what in FORMATS.items() if first.startswith(start)), None)


def _is_error(first: bytes, size: int) -> bool:
    """Whether a JSON text says that something failed, and nothing else."""
    if size > min(len(first), MAX_ERROR_MESSAGE):
        return False
    try:
        parsed = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and is_error_message(parsed)


def is_error_message(parsed: Mapping[str, object]) -> bool:
    """Whether an object is a server's error: it says so, and has no other keys than such errors have."""
    return not parsed.keys().isdisjoint({"error", "errors", "message", "detail"}) and parsed.keys() <= ERROR_KEYS


def _one_line(text: str) -> str:
    return repr(" ".join(text.split())[:80])
