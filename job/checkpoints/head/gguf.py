"""W in a checkpoint that has only GGUF files: which file counts, which tensor is W, and what its rows stand for. Here
parser and fetcher meet; weights in other formats are no business of this module."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.formats.gguf_header import MAX_HEADER, GgufFile, parse_gguf_header
from job.checkpoints.formats.needs_more import NeedsMore
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint

SUFFIX = ".gguf"

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
"""What ggml calls them. Where a model has no ``output.weight``, llama.cpp takes the embedding in its place."""

FLOAT_TYPES = frozenset({"F64", "F32", "F16", "BF16"})
"""The ggml types that are no quantisation; safetensors calls them the same."""

FIRST_READ_NBYTES = 1 << 20
"""A part without vocabulary has a header of about 100 kB, one with 49,152 tokens of 1.8 MB. Reads then double."""

WITHOUT_HEAD = frozenset({
    "clip", "t5encoder", "wavtokenizer-dec",
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "gemma-embedding", "llama-embed",
})  # fmt: skip
"""Architectures, as ``general.architecture`` names them, that embed texts, images or sounds: none gives logits over
tokens, whatever their tensors are called."""

CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale")
"""Settings, below the architecture's name, that scale the logits: Gemma, Cohere, Granite, Grok."""

_PART = re.compile(r"(?P<set>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NEVER = re.compile(r"mmproj|imatrix|ggml-vocab", re.IGNORECASE)
"""What lies beside models: projectors of vision and sound, statistics for quantising, vocabularies without weights."""
_QUANTISED = re.compile(r"(^|[^a-z0-9])([it]?q\d|mxfp4|nvfp4)([^a-z0-9]|$)", re.IGNORECASE)
_UNQUANTISED = tuple(
    re.compile(rf"(^|[^a-z0-9])({name})([^a-z0-9]|$)", re.IGNORECASE) for name in ("f32|fp32", "bf16", "f16|fp16")
)
"""How files that are not quantised are named, the most exact first: BF16 holds what most models are released in, F16
does not."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a GGUF file names."""

    file: str
    model: str
    """How they are spelled: ``gpt2`` byte by byte in printable characters, ``llama`` with ▁ for blanks, …"""
    tokens: tuple[str, ...]
    """By token id."""


@dataclass(frozen=True)
class GgufHead:
    """The tensor of GGUF files that is W."""

    name: str
    location: TensorLocation
    reason: str
    tied: bool
    notes: tuple[str, ...]
    vocabulary: Vocabulary | None = field(repr=False)


def read_gguf(checkpoint: Checkpoint, file: str) -> GgufFile:
    """What the header of a GGUF file says, by a few reads from the file's begin.

    Raises:
        UnsupportedCheckpoint: its version or byte order is another.
        CorruptCheckpoint: the checkpoint has no such file, or its header is not sound.
    """
    where = f"{checkpoint.source}: {file}"
    if file not in checkpoint.files:
        raise CorruptCheckpoint(f"{where}: is not there; check that the upload is complete")
    size = checkpoint.files[file].size
    prefix, needed = b"", FIRST_READ_NBYTES
    while True:
        end = min(max(needed, 2 * len(prefix)), size, MAX_HEADER)
        prefix += checkpoint.fetch(file, len(prefix), end)
        try:
            return parse_gguf_header(prefix, file, size, where)
        except NeedsMore as more:
            needed = more.nbytes


def find_gguf_head(checkpoint: Checkpoint, tensor: str | None, file: str | None) -> GgufHead | None:
    """W where GGUF is what there is to read: ``file`` is one, or the checkpoint has weights in no other format.

    Of several models the one that is by its name not quantised is taken, F32 before BF16 before F16.

    Raises:
        NoUnembedding: no model, or more than one, could be meant; or the model has no unembedding.
        UnsupportedCheckpoint: its version, byte order or quantisation cannot be read.
        CorruptCheckpoint: a header is not sound, or parts are missing.
    """
    models = _models(checkpoint)
    if file is not None:
        part = _PART.fullmatch(file)
        parts = models.get(part["set"] if part else file, [file])
        return _head(checkpoint, parts, tensor) if file.endswith(SUFFIX) else None
    if not models or any(map(_is_another_format, checkpoint.files)):
        return None
    if len(models) == 1:
        (only,) = models.values()
        return _head(checkpoint, only, tensor)
    if best := _unquantised(models):
        head = _head(checkpoint, best, tensor)
        if head.location.dtype in FLOAT_TYPES:
            return head
    raise NoUnembedding(
        f"{checkpoint.source}: holds {len(models):,} GGUF models ({', '.join(parts[0] for parts in models.values())}),"
        " a single one, or a single one that is F32, BF16 or F16, was expected; choose one in the list of models, by"
        f" `file: {next(iter(models.values()))[0]}` beside `model`"
    )


def is_dequantisable(dtype: str) -> bool:
    """Whether the gguf package knows what rows of this ggml type stand for."""
    if dtype not in GGMLQuantizationType.__members__:
        return False
    try:
        dequantised(np.zeros((1, GGML_QUANT_SIZES[GGMLQuantizationType[dtype]][1]), np.uint8), dtype)
    except NotImplementedError:
        return False
    return True


def dequantised(block: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    """Rows of a ggml type, (n, row_nbytes) uint8 → the numbers they stand for, (n, hidden_size) float32."""
    kind = GGMLQuantizationType[dtype]
    with np.errstate(all="ignore"):  # a scale may be anything, NaN included
        numbers: NDArray[np.float32] = dequantize(block, kind)
    return numbers


def _models(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """The GGUF models by name: the file of each, or the parts of one that is split."""
    models: dict[str, list[str]] = {}
    for file in sorted(checkpoint.files):
        if file.endswith(SUFFIX) and not _NEVER.search(file.rpartition("/")[2]):
            part = _PART.fullmatch(file)
            models.setdefault(part["set"] if part else file, []).append(file)
    return models


def _is_another_format(file: str) -> bool:
    name = file.rpartition("/")[2]
    is_torch = name.startswith("pytorch_model") and name.endswith(".bin")
    return name.endswith(".safetensors") or is_torch or name == "adapter_config.json"


def _unquantised(models: dict[str, list[str]]) -> list[str] | None:
    """The parts of the one model that is named as the most exact there is; None where none is, or several are."""
    floats = {name: parts for name, parts in models.items() if not _QUANTISED.search(name.removesuffix(SUFFIX))}
    for pattern in _UNQUANTISED:
        if found := [parts for name, parts in floats.items() if pattern.search(name.removesuffix(SUFFIX))]:
            return found[0] if len(found) == 1 else None
    return None


def _head(checkpoint: Checkpoint, parts: list[str], tensor: str | None) -> GgufHead:
    where = f"{checkpoint.source}: {parts[0]}"
    first, tensors = _read_parts(checkpoint, parts, where)
    if tensor is not None and tensor not in tensors:
        raise NoUnembedding(
            f"{where}: has no tensor {tensor!r:.200}, which was asked for; give one it has, such as"
            f" {HEAD if HEAD in tensors else EMBEDDING}"
        )
    tied = HEAD not in tensors and (tensor or EMBEDDING) == EMBEDDING
    if tensor is not None:
        name, reason = tensor, f"{tensor} was asked for"
    else:
        _refuse_what_has_no_head(first, tied, where)
        name = EMBEDDING if tied else HEAD
        reason = f"{HEAD} is stored, which is what GGUF calls the output head"
        if tied:
            reason = f"no {HEAD} is stored, so that llama.cpp takes the embedding, {EMBEDDING}, in its place"
    location = tensors.get(name)
    if location is None:
        raise NoUnembedding(
            f"{where}: has neither {HEAD} nor {EMBEDDING} among {len(tensors):,} tensors; give the tensor's name with"
            " the model"
        )
    if len(location.shape) != 2 or 0 in location.shape:
        raise NoUnembedding(f"{where}: {name} has the shape {list(location.shape)}, a matrix was expected")
    if location.dtype not in FLOAT_TYPES and not is_dequantisable(location.dtype):
        raise UnsupportedCheckpoint(
            f"{where}: {name} is stored as {location.dtype}, a type that the gguf package can dequantise was expected;"
            " choose another file of the model"
        )
    notes = tuple(_notes(name, location, first, tensors))
    vocabulary = Vocabulary(parts[0], str(first.metadata.get("tokenizer.ggml.model", "")), first.tokens)
    return GgufHead(name, location, reason, tied, notes, vocabulary if first.tokens else None)


def _read_parts(checkpoint: Checkpoint, parts: list[str], where: str) -> tuple[GgufFile, dict[str, TensorLocation]]:
    """The first part, which describes the model, and the tensors of all parts."""
    part = _PART.fullmatch(parts[0])
    expected = [f"{part['set']}-{n:05}-of-{part['count']}{SUFFIX}" for n in range(1, len(parts) + 1)] if part else parts
    if parts != expected or (part and len(parts) != int(part["count"])):
        raise CorruptCheckpoint(
            f"{where}: there are {len(parts):,} parts of {part['count'] if part else 1}; check that the upload is"
            " complete"
        )
    files = [read_gguf(checkpoint, file) for file in parts]
    tensors = {name: location for file in files for name, location in file.tensors.items()}
    n_found = sum(len(file.tensors) for file in files)
    n_parts = files[0].metadata.get("split.count", 0) or len(parts)
    n_claimed = files[0].metadata.get("split.tensors.count", n_found)
    if n_parts != len(parts) or n_claimed != n_found:
        raise CorruptCheckpoint(
            f"{where}: claims {n_parts} parts with {n_claimed} tensors, found were {len(parts):,} with {n_found:,};"
            " get all parts, under their names"
        )
    if len(tensors) < n_found:
        raise CorruptCheckpoint(f"{where}: a tensor is in several of its {len(parts):,} parts; get the files again")
    return files[0], tensors


def _refuse_what_has_no_head(file: GgufFile, tied: bool, where: str) -> None:
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise NoUnembedding(
            f"{where}: is of the type {kind!r:.80}, a model was expected; survey the model it belongs to"
        )
    pools = bool(file.metadata.get(f"{file.architecture}.pooling_type", 0))
    if file.architecture in WITHOUT_HEAD or (tied and pools):
        raise NoUnembedding(
            f"{where}: is a {file.architecture} model that {'pools' if pools else 'has no head'}, one that gives logits"
            " over tokens was expected; survey a language model, or give the tensor's name with the model"
        )


def _notes(name: str, location: TensorLocation, file: GgufFile, tensors: dict[str, TensorLocation]) -> Iterator[str]:
    if location.dtype not in FLOAT_TYPES:
        row_nbytes = location.nbytes // location.shape[0]
        yield (
            f"W is quantised, as {location.dtype}: W.safetensors holds its rows as stored, {row_nbytes:,} bytes each,"
            " and black holes are rows whose bytes are identical; mu, gamma_centered and black_hole_centroids are of"
            " the numbers that the gguf package takes them for. Quantising merges rows that were nearly equal, so the"
            " black holes are exact for the matrix as shipped, and not those of the model before"
        )
    elif location.dtype == "F16":
        yield (
            "W is F16 in this GGUF file, in whatever the model was released: F16 holds less of small numbers than BF16"
            " and F32, so that a conversion can merge rows"
        )
    for beside in (f"{name.removesuffix('weight')}scale", f"{name.removesuffix('weight')}bias"):
        if beside in tensors:
            yield f"{beside} is stored beside {name}; it is no part of what was measured"
    for key in CHANGES_LOGITS:
        value = file.metadata.get(f"{file.architecture}.{key}")
        if value is not None:
            yield f"{file.architecture}.{key} is {value}: it changes the logits, not W"
