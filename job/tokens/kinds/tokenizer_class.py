"""Which class of tokenizer a checkpoint's files ask for."""

from pathlib import Path
from typing import Final

from job.checkpoints.file_names import CONFIG
from job.tokens.kinds.added_tokens import read_object

_GENERAL: Final = frozenset({"PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "PythonBackend"})
"""The classes that add nothing to a vocabulary."""


_LLAMA_LIKE: Final = frozenset({"llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3", "gemma3_text", "phi3"})
"""The types of models whose tokenizers keep the ids of a SentencePiece model. Other types are looked up in the
transformers library, which takes 7 seconds and 250 MB to import."""


def stated_class(folder: Path) -> str:
    """The class that tokenizer_config.json or config.json states, without ``Fast`` at its end. Empty for a general
    class, or if neither states one."""
    for file in ("tokenizer_config.json", CONFIG):
        stated = read_object(folder / file)
        own_code = stated.get("auto_map")
        name = stated.get("tokenizer_class")
        if isinstance(name, str) and name and name not in _GENERAL:
            return name.removesuffix("Fast")
        if isinstance(own_code, dict) and own_code.get("AutoTokenizer"):
            return str(own_code["AutoTokenizer"])  # a class in the checkpoint's own code
        if name:
            return ""
    return ""


def class_for_model(folder: Path) -> str:
    """The class that the transformers library has for the type of model in config.json. Empty for a general class, or
    if it has none."""
    model_type = read_object(folder / CONFIG).get("model_type")
    if not isinstance(model_type, str) or model_type in _LLAMA_LIKE:
        return ""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    name = TOKENIZER_MAPPING_NAMES.get(model_type) or ""
    return "" if name in _GENERAL or name == "MistralCommonBackend" else name.removesuffix("Fast")
