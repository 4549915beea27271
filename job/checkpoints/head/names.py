"""The names of output heads and embeddings in checkpoint files. Knows only names; adding one takes one line."""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping

LM_HEAD = "lm_head.weight"
"""This name is enough. The other heads of the table need one of their embeddings beside them, and ``lm_head`` under an
unknown prefix needs more: a wrapper may hold a second model, or a layer a head of its own."""

HEADS: Mapping[str, tuple[str, ...]] = {
    # output head on disk: the embeddings that take its place when it is tied and not stored
    "lm_head.weight": (
        "model.embed_tokens.weight",  # Llama, Mistral, Qwen, Gemma, Phi-3, Cohere, Granite, OLMo, DeepSeek, GLM, …
        "embed_tokens.weight",  # the same, saved from the model without its head
        "model.language_model.embed_tokens.weight",  # Qwen-VL, GLM-4V, Gemma 3 and 4, Llama 4
        "language_model.embed_tokens.weight",
        "transformer.wte.weight",  # GPT-2, GPT-J, CodeGen, Qwen 1, MPT
        "wte.weight",  # GPT-2 as first published
        "transformer.word_embeddings.weight",  # BLOOM, Falcon
        "word_embeddings.weight",  # BLOOM as first published
        "model.decoder.embed_tokens.weight",  # OPT, Whisper's decoder
        "decoder.embed_tokens.weight",  # OPT as first published
        "backbone.embeddings.weight",  # Mamba, Mamba 2
        "backbone.embedding.weight",  # Mamba as state-spaces publishes it
        "shared.weight",  # T5
        "model.shared.weight",  # BART, Pegasus
        "model.word_embeddings.weight",  # Bailing, Ling
        "model.embeddings.weight",  # RWKV 7
        "transformer.token_embeddings.weight",  # OpenELM
    ),
    "language_model.lm_head.weight": (
        "language_model.model.embed_tokens.weight",
    ),  # LLaVA, Mistral 3, InternVL, PaliGemma
    "text_model.lm_head.weight": ("text_model.model.embed_tokens.weight",),  # Emu3
    "llm.lm_head.weight": ("llm.model.embed_tokens.weight",),  # MiniCPM-V
    "thinker.lm_head.weight": ("thinker.model.embed_tokens.weight",),  # Qwen-Omni
    "embed_out.weight": ("gpt_neox.embed_in.weight",),  # GPT-NeoX, Pythia
    "output.weight": (
        "model.tok_embeddings.weight",  # InternLM2
        "tok_embeddings.weight",  # Mistral's and Meta's own files
    ),
    "language_model.output.weight": ("language_model.model.tok_embeddings.weight",),  # InternVL with InternLM2
    "language_model.output_layer.weight": ("language_model.embedding.word_embeddings.weight",),  # Megatron-LM
    "output_layer.weight": ("embedding.word_embeddings.weight",),  # Megatron Core
    "model.output_layer.weight": ("model.embedding.word_embeddings.weight",),  # NeMo
    "lm_head.linear.weight": ("transformer.embd.wte.weight",),  # Phi 1 and 2 as first published
    "transformer.output_layer.weight": ("transformer.embedding.word_embeddings.weight",),  # ChatGLM 2 and 3, GLM-4
    "head.weight": (
        "embed.weight",  # DeepSeek V4
        "rwkv.embeddings.weight",  # RWKV 4
        "emb.weight",  # RWKV as its author publishes it
    ),
    "model.head.weight": ("model.embed.weight",),  # DeepSeek V4 with a prefix
    "model.llm.unembed.weight": ("model.llm.embed.weight",),  # Inkling
    "transformer.ff_out.weight": ("transformer.wte.weight",),  # OLMo 1 as first published
    "model.transformer.ff_out.weight": ("model.transformer.wte.weight",),  # OLMo 1, LLaDA
    "cls.predictions.decoder.weight": ("bert.embeddings.word_embeddings.weight",),  # BERT
    "lm_head.decoder.weight": (
        "roberta.embeddings.word_embeddings.weight",  # RoBERTa
        "esm.embeddings.word_embeddings.weight",  # ESM
    ),
    "generator_lm_head.weight": ("electra.embeddings.word_embeddings.weight",),  # ELECTRA
    "lm_loss.weight": ("transformer.word_embedding.weight",),  # XLNet
    "pred_layer.proj.weight": ("transformer.embeddings.weight",),  # XLM, FlauBERT
    "output_projection.weight": (
        "biogpt.embed_tokens.weight",  # BioGPT
        "model.decoder.embed_tokens.weight",  # TrOCR
    ),
    "proj_out.weight": ("model.decoder.embed_tokens.weight",),  # Whisper
    "decoder.weight": ("model.embeddings.tok_embeddings.weight",),  # ModernBERT
    "word_embeddings_for_head.weight": ("word_embeddings.weight",),  # Persimmon as first published
}

BOTH = ("transformer.in_out_embed.weight",)
"""Matrices that are by their names the head and the embedding, stored once: Grok 1."""

OTHER_HEADS = re.compile(
    r"(^|\.)(mtp\w*|nextn\w*|medusa\w*|patcher|\w+_expert|v_head|score|shared_head|talker|code_predictor|codec\w*"
    r"|depth_decoder|t2u_model|draft\w*|eagle\w*|speech\w*|audio\w*|vision\w*|visual|vq\w*)\."
)
"""Parts of a model whose heads and embeddings are not the language model's: multi-token prediction, reward, drafting,
audio, vision, codecs. Others are told by what is stored beside them."""

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|word_embeddings|wte|tok_embeddings|token_embeddings)\.")
_EMBEDDING_WEIGHT = re.compile(_EMBEDDING.pattern + r"weight$")
_INPUT = re.compile(r"(?<!un)(?<!un_)(?<!out_)(?<!output_)emb(?!\w*out)|(^|\.)(wte|wpe|shared)\.")
"""Part of the name of what is looked up, by token, position or type, and is no output head."""

_OVER_LABELS = re.compile(r"(model\.)?(score|classifier|v_head|value_head|reward_head|qa_outputs)\.")

_BELOW_LM_HEAD = re.compile(r"(?P<prefix>(.+?\.)?)lm_head\.")
_IN_A_LAYER = re.compile(r"\.\d+\.")
_TRAINED = re.compile(r"(?P<module>.+)\.modules_to_save\.(?P<adapter>[^.]+)\.weight")


def heads_among(names: Collection[str]) -> list[str]:
    """The names that are output heads according to the table, ``lm_head`` first."""
    return [
        head
        for head, embeddings in HEADS.items()
        if head in names
        and (head == LM_HEAD or any(embedding in names for embedding in embeddings) or _has_layers_beside(head, names))
    ]


def unproven_heads_among(names: Collection[str]) -> list[str]:
    """The names that end in ``lm_head.weight`` and are no head of the table: of the model, or of another part."""
    known = heads_among(names)
    found = (name for name in names if name.endswith(f".{LM_HEAD}") and not OTHER_HEADS.search(name))
    return sorted((name for name in found if name not in known), key=lambda name: (len(name), name))


def embeddings_among(names: Collection[str]) -> list[str]:
    """The names that are, according to the table, embeddings which take the place of a tied head."""
    return list(dict.fromkeys(name for embeddings in HEADS.values() for name in embeddings if name in names))


def unlisted_embeddings_among(names: Collection[str]) -> list[str]:
    """The names that end as the embedding of a language model does, under any prefix."""
    found = (name for name in names if _EMBEDDING_WEIGHT.search(name))
    return sorted(name for name in found if not _IN_A_LAYER.search(name) and not OTHER_HEADS.search(name))


def may_be_unlisted_head(name: str) -> bool:
    """Whether an output head of a model with its own code may have this name, which the table need not know. An
    ``lm_head`` is judged by its place.
    """
    return (
        name.endswith(".weight")
        and not name.endswith(f".{LM_HEAD}")
        and not _IN_A_LAYER.search(name)
        and not OTHER_HEADS.search(name)
        and not _INPUT.search(name)
    )


def heads_over_labels_among(names: Collection[str]) -> list[str]:
    """The names of the heads of classifiers and reward models."""
    return sorted(name for name in names if _OVER_LABELS.match(name))


def places_of_the_model(names: Collection[str]) -> Callable[[str], bool]:
    """A function that tells whether the language model lies under a prefix: all embeddings do, and at least half of
    the layers. Parts that are known to be others do not count.
    """
    own = sorted(name for name in names if not OTHER_HEADS.search(name))
    layers = [name for name in own if _IN_A_LAYER.search(name)]
    embeddings = [name for name in own if _EMBEDDING.search(name) and not _IN_A_LAYER.search(name)]
    first_and_last = [*embeddings[:1], *embeddings[-1:]]

    def holds_the_model(prefix: str) -> bool:
        n_under = bisect_left(layers, f"{prefix}\U0010ffff") - bisect_left(layers, prefix)
        is_somewhere = bool(embeddings) or n_under > 0
        return is_somewhere and 2 * n_under >= len(layers) and all(name.startswith(prefix) for name in first_and_last)

    return holds_the_model


def tie_candidates(name: str, names: Collection[str]) -> list[str]:
    """The embeddings that a head may be tied to, or the heads that an embedding may be; its own family first."""
    family = [*HEADS.get(name, ()), *(head for head, embeddings in HEADS.items() if name in embeddings)]
    if name.endswith(f".{LM_HEAD}"):
        prefix = name.removesuffix(LM_HEAD)
        family.append(f"{prefix}model.embed_tokens.weight")
        family += [other for other in unlisted_embeddings_among(names) if other.startswith(prefix)]
    others = heads_among(names) if name in embeddings_among(names) else embeddings_among(names)
    return [candidate for candidate in dict.fromkeys(family + others) if candidate in names and candidate != name]


def parts_of_heads(names: Collection[str], embedding: str | None = None) -> list[str]:
    """What lies below output heads of the language model, whatever is stored there: below ``lm_head`` at the root,
    under a known prefix or one that the model lies under; below another head of the table beside its embedding.

    ``embedding``: the one of the language model, if it is known which that is.
    """
    modules = tuple(
        head.removesuffix("weight") for head, family in HEADS.items() if any(other in names for other in family)
    )
    known = {head.removesuffix(LM_HEAD) for head in HEADS if head.endswith(LM_HEAD)}

    is_of_the_model = embedding.startswith if embedding else places_of_the_model(names)

    def is_below_lm_head(name: str) -> bool:
        found = _BELOW_LM_HEAD.match(name)
        if found is None or OTHER_HEADS.search(name):
            return False
        return found["prefix"] in known or is_of_the_model(found["prefix"])

    return sorted(name for name in names if name.startswith(modules) or is_below_lm_head(name))


def trained_weight(name: str) -> tuple[str, str] | None:
    """The weight that a tensor takes the place of, and the adapter it was trained with, if it is named as PEFT names
    the trained copy of a module: ``lm_head.modules_to_save.default.weight``.
    """
    found = _TRAINED.fullmatch(name)
    return (f"{found['module']}.weight", found["adapter"]) if found else None


def is_head(name: str) -> bool:
    """Whether the output head of a language model may have this name."""
    return name in HEADS or (name.endswith(f".{LM_HEAD}") and not OTHER_HEADS.search(name))


def bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _has_layers_beside(head: str, names: Collection[str]) -> bool:
    """Whether the language model's layers lie under the prefix of an ``lm_head``."""
    prefix = head.removesuffix(LM_HEAD)
    return head != prefix and any(name.startswith(prefix) and _IN_A_LAYER.search(name) for name in names)
