"""What the files of a checkpoint are usually called. Knows names only."""

from typing import Final

CONFIG: Final = "config.json"

ADAPTER_CONFIG: Final = "adapter_config.json"

WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin")
"""The weights that transformers loads by default, in its order. Shards are numbered: ``model-00001-of-00002.…``."""

INDEX_FILES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""The index of each of ``WEIGHT_FILES``, where they are in shards."""

RANK_FILES: Final = (
    "qwen.tiktoken",
    "tiktoken.model",
    "tokenizer.tiktoken",
    "hy.tiktoken",
    "cl100k_base.tiktoken",
    "o200k_base.tiktoken",
)
"""The names of tiktoken's rank files."""
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    *RANK_FILES,
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
"""The files that a tokenizer may be made of; the transformers library reads ``CONFIG``, too."""

HUB_DOWNLOADS: Final = ".cache/huggingface/download/"
"""Where ``hf download --local-dir`` keeps what is not finished."""
