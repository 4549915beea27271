"""What a checkpoint's config.json says outright. Knows the names of settings, and nothing of tensors or classes."""

from collections.abc import Iterator, Mapping
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.json_text import parse_json_object

MAX_CONFIG: Final = 10_000_000
"""Bytes. Most have a few thousand; label names and lists of quantised modules make some a hundred times as long."""

TEXT_PARTS: Final = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
"""Where a composite config keeps what concerns the language model."""

MAX_DEPTH: Final = 4
"""Of parts within parts; Qwen-Omni has two."""

VOCAB_SIZE_NAMES: Final = ("vocab_size", "padded_vocab_size", "n_words", "n_vocab")
"""What configs call the number of tokens: most; ChatGLM; XLM; others."""

HIDDEN_SIZE_NAMES: Final = ("hidden_size", "n_embd", "d_model", "n_embed", "dim", "model_dim", "emb_dim")
"""What configs call the width of the hidden state."""

EMBEDDING_SIZE_NAMES: Final = ("word_embed_proj_dim", "embedding_size", "d_embed")
"""What configs call the width of the embedding and of the head, where it is another: OPT; ALBERT, ELECTRA; others."""


def read_config(checkpoint: Checkpoint, folder: str) -> dict[str, object]:
    """The config.json beside the weights, or else the one in the root; empty where there is none.

    Raises:
        CorruptCheckpoint: it is not sound.
    """
    for file in (folder + CONFIG, CONFIG):
        if file in checkpoint.files:
            return parse_json_object(checkpoint.read(file, MAX_CONFIG), f"{checkpoint.source}: {file}")
    return {}


def text_settings(config: Mapping[str, object], depth: int = 0) -> Iterator[Mapping[str, object]]:
    """The settings that concern the language model: the whole config, then each text part, from the outside in."""
    yield config
    for part in TEXT_PARTS if depth < MAX_DEPTH else ():
        inner = config.get(part)
        if isinstance(inner, dict):
            yield from text_settings(inner, depth + 1)


def stated_tie(config: Mapping[str, object]) -> bool | None:
    """What tie_word_embeddings is set to; None where config.json is silent or contradicts itself."""
    stated = {value for part in text_settings(config) if isinstance(value := part.get("tie_word_embeddings"), bool)}
    return stated.pop() if len(stated) == 1 else None


def stated_number(config: Mapping[str, object], names: tuple[str, ...]) -> tuple[str, int] | None:
    """The innermost of some settings that is a positive number, and its name."""
    found = None
    for part in text_settings(config):
        for name in names:
            value = part.get(name)
            if type(value) is int and value > 0:
                found = (name, value)
                break
    return found


def stated_numbers(config: Mapping[str, object], names: tuple[str, ...]) -> dict[str, int]:
    """Each of some settings that is a positive number, by its name; of several the innermost."""
    return {name: found[1] for name in names if (found := stated_number(config, (name,)))}
