"""The GGUF files of a checkpoint: which of them are one model, and what their headers say. Parser and fetcher meet."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.gguf_file import GgufFile
from job.checkpoints.formats.needs_more import NeedsMore
from job.checkpoints.head.needed_files import MISSING_ADVICE, refuse_unreadable
from job.errors import CorruptCheckpoint
from job.limits.memory import claim_memory

SUFFIX = ".gguf"

FIRST_READ_NBYTES = 1 << 20
"""A header without vocabulary has about 100 kB, one with 49,152 tokens 1.8 MB. Each further read doubles the total."""

_PART = re.compile(r"(?P<set>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NOT_A_MODEL = re.compile(r"mmproj|imatrix\.gguf|ggml-vocab", re.IGNORECASE)
"""How names of other GGUF files than models begin, as llama.cpp writes them: vision and audio projectors, statistics
for quantising, vocabularies. Under other names they are told by their headers."""
_QUANTISED_NAME = re.compile(r"(^|[^a-z0-9])([it]?q\d|mxfp4|nvfp4)([^a-z0-9]|$)", re.IGNORECASE)
_FLOAT_NAMES = tuple(
    re.compile(rf"(^|[^a-z0-9])({name})([^a-z0-9]|$)", re.IGNORECASE) for name in ("f32|fp32", "bf16", "f16|fp16")
)
"""How files that are not quantised are named, the most exact first. Most models are released in BF16, which F16 cannot
hold exactly."""


def gguf_models(files: Collection[str]) -> dict[str, list[str]]:
    """The GGUF models by name, each with its file, or with its parts if it is split."""
    models: dict[str, list[str]] = {}
    for file in sorted(files):
        if file.endswith(SUFFIX) and not _NOT_A_MODEL.match(file.rpartition("/")[2]):
            models.setdefault(_model_name(file), []).append(file)
    return models


def parts_of(file: str, models: Mapping[str, list[str]]) -> list[str]:
    """The parts of the model that ``file`` belongs to; only the file itself if it belongs to none."""
    return models.get(_model_name(file), [file])


def unquantised_models(models: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Those of the models that are not quantised, by their names."""
    return {
        name: parts
        for name, parts in models.items()
        if not _QUANTISED_NAME.search(stem := name.removesuffix(SUFFIX))
        and any(pattern.search(stem) for pattern in _FLOAT_NAMES)
    }


def unquantised_model(models: Mapping[str, list[str]]) -> list[str] | None:
    """The parts of the model with the most exact float type in its name; None if there is none, or several."""
    floats = unquantised_models(models)
    for pattern in _FLOAT_NAMES:
        if found := [parts for name, parts in floats.items() if pattern.search(name.removesuffix(SUFFIX))]:
            return found[0] if len(found) == 1 else None
    return None


def read_model(checkpoint: Checkpoint, parts: list[str]) -> GgufFile:
    """What the headers of all parts say. The first part describes the model, each part has some of its tensors.

    Raises:
        UnsupportedCheckpoint: the version or byte order of a part cannot be read.
        CorruptCheckpoint: parts are missing, or a header is invalid.
    """
    where = f"{checkpoint.source}: {parts[0]}"
    part = _PART.fullmatch(parts[0])
    expected = [f"{part['set']}-{n:05}-of-{part['count']}{SUFFIX}" for n in range(1, len(parts) + 1)] if part else parts
    if parts != expected or (part and len(parts) != int(part["count"])):
        raise CorruptCheckpoint(
            f"{where}: found {len(parts):,} parts, expected parts 1 to {int(part['count']) if part else 1}; check that"
            " the upload is complete"
        )
    files = [read_gguf(checkpoint, file) for file in parts]
    tensors = {name: location for file in files for name, location in file.tensors.items()}
    n_found = sum(len(file.tensors) for file in files)
    n_parts = files[0].metadata.get("split.count", 0) or len(parts)
    n_claimed = files[0].metadata.get("split.tensors.count", n_found)
    if n_parts != len(parts) or n_claimed != n_found:
        raise CorruptCheckpoint(
            f"{where}: found {len(parts):,} parts with {n_found:,} tensors, expected {n_parts} with {n_claimed};"
            " get all parts, under their own names"
        )
    if len(tensors) < n_found:
        raise CorruptCheckpoint(f"{where}: found a tensor in several of its {len(parts):,} parts; get the files again")
    return replace(files[0], tensors=tensors)


def read_gguf(checkpoint: Checkpoint, file: str) -> GgufFile:
    """What the header of a GGUF file says, in a few reads from the start of the file.

    Raises:
        UnsupportedCheckpoint: its version or byte order cannot be read.
        CorruptCheckpoint: the checkpoint has no such file, or its header is invalid.
    """
    # Imports the gguf package, and numpy with it.
    from job.checkpoints.formats.gguf_header import MAX_HEADER, parse_gguf_header

    where = f"{checkpoint.source}: {file}"
    refuse_unreadable(checkpoint, file)
    if file not in checkpoint.files:
        raise CorruptCheckpoint(f"{where}: found no such file; {MISSING_ADVICE}")
    size = checkpoint.files[file].size
    prefix, needed = b"", FIRST_READ_NBYTES
    while True:
        end = min(max(needed, 2 * len(prefix)), size, MAX_HEADER)
        claim_memory(3 * (end - len(prefix)), where)
        prefix += checkpoint.fetch(file, len(prefix), end)
        try:
            return parse_gguf_header(prefix, file, size, where)
        except NeedsMore as more:
            needed = more.nbytes


def _model_name(file: str) -> str:
    part = _PART.fullmatch(file)
    return part["set"] if part else file
