"""Reads the file of a SentencePiece model.

The format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from job.tokens.tokenizer import TokenizerUnusable, number_of_ids

if TYPE_CHECKING:
    import sentencepiece

Kind = Literal["NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"]


@dataclass(frozen=True)
class SentencePieceModel:
    """What the file says, and the library's processor for it."""

    processor: "sentencepiece.SentencePieceProcessor"
    pieces: list[str]
    """By id, as are ``scores`` and ``kinds``."""
    scores: list[float]
    kinds: list[Kind]
    algorithm: Literal["UNIGRAM", "BPE", "WORD", "CHAR"]
    unk_id: int
    byte_fallback: bool
    charsmap: bytes
    """The normalisation of characters; empty for none."""
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    is_usual: bool
    """Whether spaces are written as ▁ before a word, and nothing is denormalised."""

    def ids(self, *kinds: Kind) -> frozenset[int]:
        return frozenset(id for id, kind in enumerate(self.kinds) if kind in kinds)


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """The model in a file.

    Raises:
        TokenizerUnusable: it is not a whole SentencePiece model, or it has too many pieces.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    content = path.read_bytes()
    try:
        # The module makes its classes when it is imported.
        proto = sentencepiece_model_pb2.ModelProto.FromString(content)  # type: ignore[attr-defined]
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except Exception as error:  # of several kinds, from protobuf and from C++
        reason = " ".join(str(error).split())[:200]
        raise TokenizerUnusable(
            f"{path.name}: found {len(content):,} bytes that are not a SentencePiece model ({reason}), expected one; "
            "get the file again"
        ) from error
    number_of_ids([len(proto.pieces) - 1])
    trainer, normalizer, kind = proto.trainer_spec, proto.normalizer_spec, proto.SentencePiece.Type.Name
    return SentencePieceModel(
        processor,
        pieces=[piece.piece for piece in proto.pieces],
        scores=[piece.score for piece in proto.pieces],
        kinds=[kind(piece.type) for piece in proto.pieces],
        algorithm=trainer.ModelType.Name(trainer.model_type),
        unk_id=trainer.unk_id,
        byte_fallback=trainer.byte_fallback,
        charsmap=normalizer.precompiled_charsmap,
        add_dummy_prefix=normalizer.add_dummy_prefix,
        remove_extra_whitespaces=normalizer.remove_extra_whitespaces,
        is_usual=normalizer.escape_whitespaces
        and not trainer.treat_whitespace_as_suffix
        and not proto.denormalizer_spec.precompiled_charsmap,
    )
