"""What a checkpoint's config.json says. Knows the names of settings, but no tensors and no model classes."""

from collections.abc import Iterator, Mapping
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.json_text import parse_json_object
from job.checkpoints.head.needed_files import refuse_unreadable

MAX_CONFIG: Final = 10_000_000
"""Bytes. Most have a few thousand; lists of labels or of quantised modules make some a hundred times as long."""

TEXT_PARTS: Final = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
"""Where a composite config keeps the settings of its language model."""

MAX_DEPTH: Final = 4
"""How deep parts may be nested; Qwen-Omni has two levels."""

VOCAB_SIZE_NAMES: Final = ("vocab_size", "padded_vocab_size", "n_words", "n_vocab")
"""Settings for the number of tokens: of most models, ChatGLM, XLM, others."""

HIDDEN_SIZE_NAMES: Final = ("hidden_size", "n_embd", "d_model", "n_embed", "dim", "model_dim", "emb_dim")
"""Settings for the width of the hidden state."""

EMBEDDING_SIZE_NAMES: Final = ("word_embed_proj_dim", "embedding_size", "d_embed")
"""Settings for the width of the embedding and the head, where it differs: of OPT, ALBERT and ELECTRA, others."""


TIE_NAMES: Final = (
    ("tie_word_embeddings",),
    ("share_input_output_layers", "share_embeddings_and_output_weights", "weight_tying", "tie_embeddings"),
)
"""Settings for the tie of head and embedding, the second only where the first is not set: of most models; of OpenELM,
Megatron, OLMo 1, Mamba as state-spaces publishes it."""

MAX_SIZE: Final = 2**63 - 1
"""No dimension of a tensor is larger."""

MAX_PADDING: Final = 1024
"""A matrix may be this much longer than the vocabulary and still have a row for each token."""


def read_config(checkpoint: Checkpoint, folder: str) -> dict[str, object]:
    """The config.json beside the weights, or else the one in the root; empty if there is none.

    Raises:
        CorruptCheckpoint: it is not a JSON object, or cannot be read.
    """
    for file in (folder + CONFIG, CONFIG):
        refuse_unreadable(checkpoint, file)
        if file in checkpoint.files:
            return parse_json_object(checkpoint.read(file, MAX_CONFIG), f"{checkpoint.source}: {file}")
    return {}


def text_settings(config: Mapping[str, object], depth: int = 0) -> Iterator[Mapping[str, object]]:
    """The settings of the language model: the whole config, then each text part, from the outside in."""
    yield config
    for part in TEXT_PARTS if depth < MAX_DEPTH else ():
        inner = config.get(part)
        if isinstance(inner, dict):
            yield from text_settings(inner, depth + 1)


def stated_tie(config: Mapping[str, object]) -> bool | None:
    """Whether config.json ties head and embedding; None if it does not say so or contradicts itself."""
    for names in TIE_NAMES:
        values = (part.get(name) for part in text_settings(config) for name in names)
        if stated := {value for value in values if isinstance(value, bool)}:
            return stated.pop() if len(stated) == 1 else None
    return None


def states_a_tie(config: Mapping[str, object]) -> bool:
    """Whether any part of config.json ties head and embedding, even if another part does not."""
    return any(part.get(name) is True for part in text_settings(config) for names in TIE_NAMES for name in names)


def stated_number(config: Mapping[str, object], names: tuple[str, ...]) -> tuple[str, int] | None:
    """The innermost of these settings that a dimension can have: its name and value."""
    found = None
    for part in text_settings(config):
        for name in names:
            value = part.get(name)
            if type(value) is int and 0 < value <= MAX_SIZE:
                found = (name, value)
                break
    return found


def stated_numbers(config: Mapping[str, object], names: tuple[str, ...]) -> dict[str, int]:
    """Those of these settings that are positive numbers, by name; the innermost value of each."""
    return {name: found[1] for name in names if (found := stated_number(config, (name,)))}


def has_a_row_for_each_token(n_rows: int, config: Mapping[str, object]) -> bool:
    """Whether a matrix of ``n_rows`` is as long as the vocabulary that config.json states, or a little longer."""
    stated = stated_number(config, VOCAB_SIZE_NAMES)
    return stated is not None and 0 <= n_rows - stated[1] < min(MAX_PADDING, max(1, stated[1] // 8))
