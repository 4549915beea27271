"""The header of a GGUF file: its metadata and where its tensors lie. Takes bytes and returns values; fetches nothing.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from math import prod
from struct import Struct, unpack_from

from gguf.constants import GGML_QUANT_SIZES, GGUFValueType, TokenType

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.foreign_content import FIRST_BYTES, recognise
from job.checkpoints.formats.gguf_file import GgufFile, Value, Vocabulary
from job.checkpoints.formats.needs_more import NeedsMore
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Version 1 had 32-bit lengths. It was current for two months of 2023."""

MAX_HEADER = 64 << 20
"""Bytes. Vocabulary and merges take most of it: 2 million bytes for 49,152 tokens, about 10 million for 262,144."""

# These bound the time and memory that a header can cost. Real files stay far below them: a model has about 50 keys and
# at most a few thousand tensors, the largest vocabulary of 2025 had 262,208 tokens, and ggml reads no nested arrays.
MAX_KEYS = 10_000
MAX_TENSORS = 100_000
MAX_TOKENS = 2_000_000
MAX_NESTED_ARRAYS = 10_000
MAX_NESTING = 4
MAX_NAME = 65_535

MAX_DIMENSIONS = 4
"""``GGML_MAX_DIMS``."""

DEFAULT_ALIGNMENT = 32

TOKENS = "tokenizer.ggml.tokens"
TYPES_OF_TOKENS = "tokenizer.ggml.token_type"

_PLAIN_TYPES = frozenset({TokenType.CONTROL, TokenType.USER_DEFINED})
"""The types of added tokens, which are spelled as plain text."""

_SPECIAL_TYPES = frozenset({TokenType.CONTROL, TokenType.UNKNOWN})

_SCALARS: Mapping[int, Struct] = {
    GGUFValueType.UINT8: Struct("<B"),
    GGUFValueType.INT8: Struct("<b"),
    GGUFValueType.UINT16: Struct("<H"),
    GGUFValueType.INT16: Struct("<h"),
    GGUFValueType.UINT32: Struct("<I"),
    GGUFValueType.INT32: Struct("<i"),
    GGUFValueType.FLOAT32: Struct("<f"),
    GGUFValueType.BOOL: Struct("<?"),
    GGUFValueType.UINT64: Struct("<Q"),
    GGUFValueType.INT64: Struct("<q"),
    GGUFValueType.FLOAT64: Struct("<d"),
}
_TYPES: Mapping[int, tuple[str, int, int]] = {
    int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()
}
"""The ggml types that the gguf package knows: name, numbers per block, bytes per block."""

_U32 = _SCALARS[GGUFValueType.UINT32]
_U64 = _SCALARS[GGUFValueType.UINT64]


def parse_gguf_header(prefix: bytes, file: str, file_size: int, where: str) -> GgufFile:
    """The header of ``file``, whose first bytes are ``prefix``. Offsets of tensors count from the start of the file.

    Raises:
        NeedsMore: the header is longer than ``prefix``.
        UnsupportedCheckpoint: the version is unknown, or the byte order is big-endian.
        CorruptCheckpoint: the file is no GGUF file, is cut off, or contradicts itself or its size.
    """
    has_magic, is_enough = prefix.startswith(MAGIC), len(prefix) >= min(file_size, FIRST_BYTES)
    if not has_magic and is_enough and (error := recognise(prefix, file_size, where)):
        raise error
    cursor = _Cursor(prefix, min(file_size, MAX_HEADER), where)
    _check_version(cursor)
    n_tensors = cursor.count(MAX_TENSORS, 24, "tensors")
    n_keys = cursor.count(MAX_KEYS, 13, "keys")
    metadata, tokens, types = _metadata(cursor, n_keys)
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.corrupt(f"found general.alignment {alignment!r:.80}, expected a power of two")
    infos = [_tensor_info(cursor, file) for _ in range(n_tensors)]
    tensors = dict(infos)
    if len(tensors) < len(infos):
        raise cursor.corrupt(f"found {len(tensors):,} names for {len(infos):,} tensors, expected one each")
    data_begin = -(-cursor.position // alignment) * alignment
    model = str(metadata.get("tokenizer.ggml.model", ""))
    marks = (_ids(types, _PLAIN_TYPES), _ids(types, _SPECIAL_TYPES), _ids(types, {TokenType.UNUSED}))
    vocabulary = Vocabulary(file, model, tokens, *marks) if tokens else None
    return GgufFile(metadata, vocabulary, _to_file_offsets(tensors, data_begin, alignment, file_size, cursor))


@dataclass
class _Cursor:
    """A position in the header, which ends at ``limit`` at the latest."""

    prefix: bytes
    limit: int
    where: str
    position: int = 0
    n_nested: int = 0

    def corrupt(self, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"{self.where}: {what}; the file is cut off or is no GGUF file: get it again")

    def skip(self, nbytes: int) -> int:
        """Move on by ``nbytes``, all of which were given. Returns the position before."""
        begin, end = self.position, self.position + nbytes
        if end > self.limit == MAX_HEADER:
            raise CorruptCheckpoint(
                f"{self.where}: found a header of {end:,} bytes or more, expected at most {MAX_HEADER:,}; compare the"
                " file with its published checksum; if it is sound, convert the model to safetensors"
            )
        if end > self.limit:
            raise self.corrupt(f"found a header of {end:,} bytes or more, expected at most {self.limit:,}")
        if end > len(self.prefix):
            raise NeedsMore(end)
        self.position = end
        return begin

    def number(self, struct: Struct) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(self.prefix, self.skip(struct.size))[0]
        return value

    def integer(self, struct: Struct) -> int:
        return int(self.number(struct))

    def count(self, max_count: int, item_nbytes: int, what: str) -> int:
        """How many items follow. Each takes at least ``item_nbytes``."""
        count = self.integer(_U64)
        if count > max_count or count * item_nbytes > self.limit - self.position:
            raise self.corrupt(
                f"found {count:,} {what}, expected at most {max_count:,}, and no more than the file can hold"
            )
        return count

    def raw_string(self) -> bytes:
        length = self.integer(_U64)
        begin = self.skip(length)
        return self.prefix[begin : begin + length]

    def name(self) -> str:
        raw = self.raw_string()
        try:
            if len(raw) <= MAX_NAME:
                return raw.decode()
        except UnicodeDecodeError:
            pass
        raise self.corrupt(f"found the name {raw[:80]!r}, expected UTF-8 of at most {MAX_NAME:,} bytes")


def _check_version(cursor: _Cursor) -> None:
    magic_begin = cursor.skip(4)
    magic = cursor.prefix[magic_begin : cursor.position]
    if magic != MAGIC:
        raise cursor.corrupt(f"found {magic!r} at the start, expected {MAGIC!r}")
    version = cursor.integer(_U32)
    if version & 0xFFFF == 0:
        raise UnsupportedCheckpoint(
            f"{cursor.where}: found a big-endian GGUF file, expected a little-endian one; give that one"
        )
    if version not in VERSIONS:
        raise UnsupportedCheckpoint(
            f"{cursor.where}: found GGUF version {version:,}, expected {' or '.join(map(str, VERSIONS))};"
            " convert the model with a current llama.cpp"
        )


def _metadata(cursor: _Cursor, n_keys: int) -> tuple[dict[str, Value], tuple[str, ...], tuple[int, ...]]:
    """The keys with a single value, the tokens, and their types."""
    metadata: dict[str, Value] = {}
    tokens: tuple[str, ...] = ()
    types: tuple[int, ...] = ()
    seen = set()
    for _ in range(n_keys):
        key = cursor.name()
        if key in seen:
            raise cursor.corrupt(f"found the key {key!r:.200} twice, expected it once")
        seen.add(key)
        kind = cursor.integer(_U32)
        if kind in _SCALARS:
            metadata[key] = cursor.number(_SCALARS[kind])
        elif kind == GGUFValueType.STRING:
            metadata[key] = cursor.raw_string().decode(errors="replace")
        elif kind == GGUFValueType.ARRAY and key == TOKENS:
            tokens = _token_strings(cursor)
        elif kind == GGUFValueType.ARRAY and key == TYPES_OF_TOKENS:
            types = _token_types(cursor)
        elif kind == GGUFValueType.ARRAY:
            _skip_array(cursor, 1)
        else:
            raise cursor.corrupt(f"found a value of type {kind:,} for the key {key!r:.200}, expected type 0 to 12")
    return metadata, tokens, types


def _token_strings(cursor: _Cursor) -> tuple[str, ...]:
    kind = cursor.integer(_U32)
    if kind != GGUFValueType.STRING:
        raise cursor.corrupt(f"found an array of type {kind:,} for {TOKENS}, expected strings")
    count = cursor.count(MAX_TOKENS, _U64.size, "tokens")
    return tuple(cursor.raw_string().decode(errors="replace") for _ in range(count))


def _token_types(cursor: _Cursor) -> tuple[int, ...]:
    """The types by token id. Step over types that are not stored as ggml stores them."""
    begin = cursor.position
    if cursor.integer(_U32) != GGUFValueType.INT32:
        cursor.position = begin
        _skip_array(cursor, 1)
        return ()
    count = cursor.count(MAX_TOKENS, 4, "types of tokens")
    return unpack_from(f"<{count}i", cursor.prefix, cursor.skip(4 * count))


def _ids(types: Iterable[int], kinds: Set[int]) -> frozenset[int]:
    """The ids of tokens of these types."""
    return frozenset(id for id, kind in enumerate(types) if kind in kinds)


def _skip_array(cursor: _Cursor, depth: int) -> None:
    kind = cursor.integer(_U32)
    if kind in _SCALARS:
        cursor.skip(cursor.integer(_U64) * _SCALARS[kind].size)
    elif kind == GGUFValueType.STRING:
        _skip_strings(cursor, cursor.count(MAX_HEADER, _U64.size, "strings"))
    elif kind == GGUFValueType.ARRAY and depth < MAX_NESTING:
        count = cursor.count(MAX_NESTED_ARRAYS - cursor.n_nested, 12, "arrays in arrays")
        cursor.n_nested += count
        for _ in range(count):
            _skip_array(cursor, depth + 1)
    else:
        raise cursor.corrupt(f"found values of type {kind:,} in an array, {depth} deep, expected numbers or strings")


def _skip_strings(cursor: _Cursor, count: int) -> None:
    """Step over strings. A file may have half a million merges, so this loop is kept short."""
    position, available, unpack = cursor.position, len(cursor.prefix) - _U64.size, _U64.unpack_from
    for index in range(count):
        if position > available:
            # Each string that is left takes at least its length field.
            cursor.position = position
            cursor.skip((count - index) * _U64.size)
        position += _U64.size + unpack(cursor.prefix, position)[0]
    cursor.skip(position - cursor.position)


def _tensor_info(cursor: _Cursor, file: str) -> tuple[str, TensorLocation]:
    """A tensor's name and location, relative to the start of the data. Its end is -1 if its type is not known."""
    name = cursor.name()
    n_dimensions = cursor.integer(_U32)
    if n_dimensions > MAX_DIMENSIONS:
        raise cursor.corrupt(
            f"found {n_dimensions:,} dimensions of tensor {name!r:.200}, expected at most {MAX_DIMENSIONS}"
        )
    # ggml lists the dimension that is contiguous in memory first; other libraries list it last.
    shape = tuple(cursor.integer(_U64) for _ in range(n_dimensions))[::-1]
    kind, begin = cursor.integer(_U32), cursor.integer(_U64)
    if kind not in _TYPES:
        return name, TensorLocation(file, begin, -1, f"ggml type {kind}", shape)
    dtype, block, block_nbytes = _TYPES[kind]
    if shape and shape[-1] % block:
        raise cursor.corrupt(
            f"found rows of {shape[-1]:,} numbers in tensor {name!r:.200}, expected a multiple of {block} for {dtype}"
        )
    return name, TensorLocation(file, begin, begin + prod(shape) // block * block_nbytes, dtype, shape)


def _to_file_offsets(
    tensors: Mapping[str, TensorLocation], data_begin: int, alignment: int, file_size: int, cursor: _Cursor
) -> dict[str, TensorLocation]:
    """The same tensors with offsets from the start of the file: aligned, within the file, without overlaps.

    A tensor of an unknown type has no known end; it is taken to reach to the next tensor.
    """
    in_order = sorted(tensors, key=lambda name: (tensors[name].begin, tensors[name].end))
    borders = [*(data_begin + tensors[name].begin for name in in_order[1:]), file_size]
    placed = {}
    for name, border in zip(in_order, borders, strict=False):  # a file without tensors has one border
        found = tensors[name]
        begin = data_begin + found.begin
        end = border if found.end < 0 else data_begin + found.end
        if found.begin % alignment or not begin <= end <= min(border, file_size):
            raise cursor.corrupt(
                f"found tensor {name!r:.200} at bytes {begin:,} to {end:,}, expected it to begin at a multiple of"
                f" {alignment} in the data and to end by byte {min(border, file_size):,}"
            )
        placed[name] = replace(found, begin=begin, end=end)
    return {name: placed[name] for name in tensors}
