"""Builds a tokenizer of the tokenizers library that encodes as a SentencePiece model does."""

from typing import TYPE_CHECKING, Final

from job.tokens.sentencepiece_proto import SentencePieceModel

if TYPE_CHECKING:
    import tokenizers

_SAMPLES: Final = (
    "The quick brown fox, 1234567890 times; naïve café — it's “quoted”.",
    "def f(x):\n    return x  # two  spaces\t\ttabs\r\n\r\n",
    "  leading and trailing  ",
    "Привет, мир! 你好，世界。 こんにちは 안녕하세요 مرحبا שלום नमस्ते สวัสดี",
    "ﬁ ＡＢＣ ① e\u0301 \u200b\u00a0\u3000 😀👩‍👩‍👧‍👦 \U0001f9ff\U00013000",
)
"""Texts with what normalisers, spaces and unknown characters make different."""


def backend_of(model: SentencePieceModel) -> "tokenizers.Tokenizer | None":
    """The tokenizer; None if it does not encode the text of each piece, and the samples, to the model's own ids."""
    if not model.is_usual or model.algorithm not in ("UNIGRAM", "BPE") or model.ids("UNUSED"):
        return None  # an encoder passes over unused pieces
    backend = _build(model)
    texts = [model.pieces[id].replace("▁", " ") for id in sorted(model.ids("NORMAL", "USER_DEFINED"))]
    own = model.processor.encode([*texts, *_SAMPLES])
    encodings = backend.encode_batch_fast([*texts, *_SAMPLES], add_special_tokens=False)
    return backend if [encoding.ids for encoding in encodings] == own else None


def _build(model: SentencePieceModel) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, Tokenizer, models

    algorithm: models.BPE | models.Unigram
    if model.algorithm == "UNIGRAM":
        vocabulary = list(zip(model.pieces, model.scores, strict=True))
        algorithm = models.Unigram(vocabulary, model.unk_id, byte_fallback=model.byte_fallback)
    else:
        algorithm = models.BPE(
            {piece: id for id, piece in enumerate(model.pieces)},
            _merges({model.pieces[id]: model.scores[id] for id in sorted(model.ids("NORMAL"))}),
            unk_token=model.pieces[model.unk_id],
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    backend = Tokenizer(algorithm)
    _normalise(backend, model)
    plain = sorted(model.ids("CONTROL", "USER_DEFINED"))
    is_control = model.ids("CONTROL").__contains__
    backend.add_tokens([AddedToken(model.pieces[id], normalized=False, special=is_control(id)) for id in plain])
    return backend


def _normalise(backend: "tokenizers.Tokenizer", model: SentencePieceModel) -> None:
    """Set what the tokenizer does to a text before it encodes it, and the reverse."""
    from tokenizers import Regex, decoders, normalizers

    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Each split of a piece into two. SentencePiece merges two neighbours if that makes a piece, the one with the
    highest score first."""
    found = [
        (-score, index, piece[:at], piece[at:])
        for index, (piece, score) in enumerate(scores.items())
        for at in range(1, len(piece))
        if piece[:at] in scores and piece[at:] in scores
    ]
    return [(left, right) for _, _, left, right in sorted(found)]
