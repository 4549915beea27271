"""The names of output heads and embeddings in checkpoint files. Knows only names; adding one takes one line."""

import re
from collections.abc import Collection, Mapping

LM_HEAD = "lm_head.weight"
"""This name is enough, under any prefix. The other heads of the table need one of their embeddings beside them."""

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
    "transformer.output_layer.weight": ("transformer.embedding.word_embeddings.weight",),  # ChatGLM 2 and 3, GLM-4
    "head.weight": (
        "embed.weight",  # DeepSeek V4
        "rwkv.embeddings.weight",  # RWKV 4
        "emb.weight",  # RWKV as its author publishes it
    ),
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

OTHER_HEADS = re.compile(
    r"(^|\.)(mtp|medusa\w*|patcher|\w+_expert|v_head|score|shared_head|talker|code_predictor|codec\w*|depth_decoder|t2u_model"
    r"|draft\w*|eagle\w*|speech\w*|audio\w*|vision\w*|visual|vq\w*)\."
)
"""Heads that are not the language model's: multi-token prediction, reward, drafting, audio, vision, codecs."""


def heads_among(names: Collection[str]) -> list[str]:
    """The names that are output heads according to the table, ``lm_head`` first."""
    lm_heads = [name for name in names if _is_lm_head(name)]
    others = [
        head
        for head, embeddings in HEADS.items()
        if head not in lm_heads and head in names and any(embedding in names for embedding in embeddings)
    ]
    return sorted(lm_heads, key=len) + others


def embeddings_among(names: Collection[str]) -> list[str]:
    """The names that are, according to the table, embeddings which take the place of a tied head."""
    return list(dict.fromkeys(name for embeddings in HEADS.values() for name in embeddings if name in names))


def tie_candidates(name: str, names: Collection[str]) -> list[str]:
    """The embeddings that a head may be tied to, or the heads that an embedding may be; its own family first."""
    family = [*HEADS.get(name, ()), *(head for head, embeddings in HEADS.items() if name in embeddings)]
    if name.endswith(f".{LM_HEAD}"):
        family.append(f"{name.removesuffix(LM_HEAD)}model.embed_tokens.weight")
    others = heads_among(names) if name in embeddings_among(names) else embeddings_among(names)
    return [candidate for candidate in dict.fromkeys(family + others) if candidate in names and candidate != name]


def is_head(name: str) -> bool:
    """Whether an output head may have this name."""
    return name in HEADS or _is_lm_head(name)


def bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _is_lm_head(name: str) -> bool:
    return (name == LM_HEAD or name.endswith(f".{LM_HEAD}")) and not OTHER_HEADS.search(name)
