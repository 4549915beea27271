"""Configs that are made to cost much time or memory, where transformers is asked to build the model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from job.checkpoints.head import architecture
from job.checkpoints.head.config import read_config, stated_number
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import NoUnembedding, TransientError
from job.limits import fork_server
from job.limits.fork_server import Limits
from tests import hostile

# Importing what builds model classes takes seconds: one of pytest's workers does it for all of these tests.
pytestmark = pytest.mark.xdist_group("model_classes")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


@pytest.mark.parametrize(
    "hostile",
    [
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": 10**9, "hidden_size": 10**15},
        {"layer_types": ["full_attention"] * 1000, "num_hidden_layers": 1000, "head_dim": -5},
        {
            "attn_implementation": "someone/kernels",
            "auto_map": {"AutoConfig": "evil.Config"},
            "num_hidden_layers": 10**12,
        },
        {"rope_parameters": {"rope_theta": {"a": [{}]}}},
        {"hidden_size": None, "num_attention_heads": 0},
    ],
    ids=["layers", "layers and width", "negative", "code", "nonsense", "zero"],
)
def test_a_hostile_config_is_refused_in_bounded_time(tmp_path: Path, hostile: dict[str, object]) -> None:
    save_file({"model.embed_tokens.weight": torch.ones(6, 4, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | hostile))
    with pytest.raises(NoUnembedding):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(cpu_seconds=1, seconds=60, nbytes=1 << 29), r"\(it takes more than 1 seconds of processor time\)"),
        (
            Limits(cpu_seconds=20, seconds=60, nbytes=1 << 24),
            r"\(MemoryError: \)|\(it takes more than 17 MB of memory,",
        ),
    ],
    ids=["time", "memory"],
)
def test_a_class_that_takes_too_much_is_given_up_and_the_next_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, message: str
) -> None:
    hostile.slow_config(tmp_path)
    with monkeypatch.context() as limited:
        limited.setattr(architecture, "_LIMITS", limits)
        with pytest.raises(NoUnembedding, match=f"cannot be built from config.json {message}"):
            find_unembedding(open_folder(tmp_path), None)
    assert architecture.ask_model_class(LLAMA, []).class_name == "LlamaForCausalLM"


def test_a_sound_config_is_not_refused_because_no_memory_is_left_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tied = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 300}
    hostile.headless(tmp_path, json.dumps(tied).encode())
    message = "^model class: found 0 MB of memory left for it, expected 120 MB; raise the memory limit"
    with monkeypatch.context() as short:
        short.setattr(fork_server, "memory_left", lambda: 0)
        with pytest.raises(TransientError, match=message):
            find_unembedding(open_folder(tmp_path), None)
    assert find_unembedding(open_folder(tmp_path), None).tie == "tied"


def test_a_number_that_no_tensor_can_have_is_not_told(tmp_path: Path) -> None:
    hostile.zeros(tmp_path, (6, 4), vocab_size=10**4000, hidden_size=10**4000)
    found = find_unembedding(open_folder(tmp_path), None)
    assert max(map(len, found.warnings), default=0) < 1000
    assert stated_number(read_config(open_folder(tmp_path), ""), ("vocab_size", "hidden_size")) is None
