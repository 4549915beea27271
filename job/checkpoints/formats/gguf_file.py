"""What the header of a GGUF file says."""

from collections.abc import Mapping
from dataclasses import dataclass

from job.checkpoints.checkpoint import TensorLocation

Value = int | float | bool | str


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a GGUF file names."""

    file: str
    model: str
    """How tokens are spelled: ``gpt2`` byte by byte in printable characters, ``llama`` with ▁ for a space, …"""
    tokens: tuple[str, ...]
    """By token id."""
    added: frozenset[int] = frozenset()
    """The ids of tokens that the file calls added: they are spelled as plain text."""
    special: frozenset[int] = frozenset()
    """The ids of control tokens and of the unknown one."""
    unused: frozenset[int] = frozenset()
    """The ids that the file calls unused."""


@dataclass(frozen=True)
class GgufFile:
    """What the header of a GGUF file says."""

    metadata: Mapping[str, Value]
    """The keys whose values are numbers or strings; no arrays."""
    vocabulary: Vocabulary | None
    """None where the file names no tokens."""
    tensors: dict[str, TensorLocation]
    """By ggml's names. dtype is the ggml type's name: ``F32``, ``BF16``, ``Q8_0``, …; shape has the rows first."""

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))
