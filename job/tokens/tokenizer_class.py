"""Which class of tokenizer a checkpoint's files ask for."""

from pathlib import Path
from typing import Final

from job.checkpoints.file_names import CONFIG
from job.tokens.added_tokens import read_object

_GENERAL: Final = frozenset({"PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "PythonBackend"})
"""The classes that add nothing to a vocabulary."""


def stated_class(folder: Path) -> str:
    """The class that tokenizer_config.json or config.json states, without ``Fast`` at its end; otherwise the class of
    the transformers library for the model. Empty for a general class, or if nothing states one.
    """
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
    return _class_for_model(read_object(folder / CONFIG).get("model_type"))


def _class_for_model(model_type: object) -> str:
    if not isinstance(model_type, str):
        return ""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    name = TOKENIZER_MAPPING_NAMES.get(model_type) or ""
    return "" if name in _GENERAL or name == "MistralCommonBackend" else name.removesuffix("Fast")
