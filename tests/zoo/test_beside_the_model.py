"""What trainers and other models leave beside a model does not change what is found: as transformers loads it, or not
at all.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, ShieldGemma2Config, ShieldGemma2ForImageClassification

from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import NoUnembedding
from tests.zoo.builder import build_small, output_embedding, small_config

FAMILIES = (
    "Qwen2ForCausalLM",
    "GemmaForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "Gemma3ForConditionalGeneration",
)


def saved(folder: Path, architecture: str, *, tied: bool) -> tuple[int, int]:
    """A small model in ``folder``. Returns the shape of its output embedding."""
    model = build_small(architecture, tied=tied)
    model.save_pretrained(folder)
    weight = output_embedding(model)
    assert weight is not None
    return weight.shape[0], weight.shape[1]


def add(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    file = folder / "model.safetensors"
    stored = load_file(file)
    assert not stored.keys() & tensors.keys()
    save_file({**stored, **tensors}, file, metadata={"format": "pt"})


def loaded(folder: Path, architecture: str) -> torch.nn.Parameter:
    model_class: type[PreTrainedModel] = getattr(transformers, architecture)
    weight = output_embedding(model_class.from_pretrained(folder))
    assert weight is not None
    return weight


def stored(folder: Path, found: Unembedding) -> bytes:
    location = found.location
    return (folder / location.file).read_bytes()[location.begin : location.end]


def bytes_of(weight: torch.Tensor) -> bytes:
    return weight.detach().contiguous().view(torch.uint8).numpy().tobytes()


PARTS = {
    "multi-token prediction": ("mtp.0.lm_head.weight", "mtp.embed_tokens.weight"),
    "a layer's own head": ("model.mtp_layers.0.lm_head.weight", "model.layers.7.shared_head.head.weight"),
    "a reference model": ("ref_model.lm_head.weight", "ref_model.model.embed_tokens.weight"),
    "a critic": ("critic.lm_head.weight", "v_head.summary.weight"),
    "heads that look ahead": ("medusa_head.0.lm_head.weight", "nextn.lm_head.weight"),
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("names", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_other_parts_beside_a_model_leave_w_as_transformers_loads_it(
    architecture: str, names: tuple[str, ...], tied: bool, tmp_path: Path
) -> None:
    shape = saved(tmp_path, architecture, tied=tied)
    add(tmp_path, {name: torch.randn(shape) for name in names})
    found = find_unembedding(open_folder(tmp_path), None)
    assert stored(tmp_path, found) == bytes_of(loaded(tmp_path, architecture))


WRAPPED = ("base_layer.weight", "parametrizations.weight.original1", "modules_to_save.a.lora_B.weight", "other.weight")


@pytest.mark.parametrize("part", WRAPPED)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_wrapped_head_beside_a_tied_embedding_is_refused(architecture: str, part: str, tmp_path: Path) -> None:
    shape = saved(tmp_path, architecture, tied=True)
    module = "embed_out" if architecture == "GPTNeoXForCausalLM" else "lm_head"
    add(tmp_path, {f"{module}.{part}": torch.randn(shape)})
    with pytest.raises(NoUnembedding, match=f"found {module}.{part}"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_head_that_peft_saved_with_the_model_is_w(architecture: str, tmp_path: Path) -> None:
    shape = saved(tmp_path, architecture, tied=True)
    module = "embed_out" if architecture == "GPTNeoXForCausalLM" else "lm_head"
    trained = torch.randn(shape)
    add(
        tmp_path, {f"{module}.modules_to_save.default.weight": trained, f"{module}.original_module.weight": trained * 2}
    )
    found = find_unembedding(open_folder(tmp_path), None)
    assert stored(tmp_path, found) == bytes_of(trained)
    assert "modules_to_save" in found.warnings[0]


def test_the_embedding_inside_a_classifier_that_reads_logits_is_w(tmp_path: Path) -> None:
    """ShieldGemma 2 has no output embedding of its own, but the language model inside it has, tied."""
    settings = small_config("Gemma3ForConditionalGeneration", tied=True).to_dict()
    config = ShieldGemma2Config.from_dict({**settings, "model_type": "shieldgemma2"})
    model = ShieldGemma2ForImageClassification(config)
    model.save_pretrained(tmp_path)
    # Without the prefix that transformers 5 repeats, as it was published.
    tensors = load_file(tmp_path / "model.safetensors")
    published = {f"model.{name.removeprefix('model.model.')}": tensor for name, tensor in tensors.items()}
    for folder, names in (("saved", tensors), ("published", published)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
        save_file(names, tmp_path / folder / "model.safetensors", metadata={"format": "pt"})
        found = find_unembedding(open_folder(tmp_path / folder), None)
        assert found.name.endswith("model.language_model.model.embed_tokens.weight")
        assert found.tied
        assert stored(tmp_path / folder, found) == bytes_of(model.model.lm_head.weight)
