"""Which tensor is chosen, why, and what is refused, over small checkpoints with the names that published ones have."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.safetensors_header import FIRST_READ_NBYTES
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint
from tests.checkpoints import recorded

# Importing what builds model classes takes seconds: one of pytest's workers does it for all of these tests.
pytestmark = pytest.mark.xdist_group("model_classes")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
UNTIED = LLAMA | {"tie_word_embeddings": False}
TIED = LLAMA | {"tie_word_embeddings": True}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def matrix(dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.ones(6, 4).to(dtype)


def write(folder: Path, tensors: dict[str, torch.Tensor] | list[str], config: object = None) -> Checkpoint:
    """A checkpoint of one safetensors file; names stand for bfloat16 matrices."""
    if isinstance(tensors, list):
        tensors = {name: matrix() for name in tensors}
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return open_folder(folder)


def write_shards(folder: Path, shards: dict[str, list[str]], index: dict[str, str], config: object) -> Checkpoint:
    for file, names in shards.items():
        save_file({name: matrix() for name in names}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    return open_folder(folder)


def find(checkpoint: Checkpoint, tensor: str | None = None) -> Unembedding:
    return find_unembedding(checkpoint, tensor)


@pytest.mark.parametrize("config", [UNTIED, TIED, LLAMA, None], ids=["untied", "tied", "silent", "absent"])
def test_a_stored_head_is_believed_whatever_the_config_says(tmp_path: Path, config: object) -> None:
    found = find(write(tmp_path, [EMBEDDING, HEAD], config))
    assert (found.name, found.tied) == (HEAD, False)
    assert found.reason == "lm_head.weight is stored, and by its name it is the output head"
    assert found.location.shape == (6, 4)


def test_an_embedding_that_the_config_ties_stands_in_for_the_head(tmp_path: Path) -> None:
    found = find(write(tmp_path, [EMBEDDING, "model.norm.weight"], TIED))
    assert (found.name, found.tied) == (EMBEDDING, True)
    assert "config.json ties it" in found.reason


def test_the_class_settles_what_the_config_leaves_out(tmp_path: Path) -> None:
    # Gemma ties by default and its published configs do not say so.
    config = {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "num_hidden_layers": 1}
    found = find(write(tmp_path, [EMBEDDING], config))
    assert (found.name, found.tied) == (EMBEDDING, True)
    assert found.reason.startswith("GemmaForCausalLM ties lm_head.weight to its embedding")


def test_the_class_settles_a_name_that_no_table_has(tmp_path: Path) -> None:
    config = {"architectures": ["GitForCausalLM"], "model_type": "git", "num_hidden_layers": 1}
    config["vision_config"] = {"num_hidden_layers": 1}
    assert (
        find(write(tmp_path, ["output.weight", "git.embeddings.word_embeddings.weight"], config)).name
        == "output.weight"
    )


def test_of_several_stored_copies_the_one_is_taken_that_the_class_ties_the_others_to(tmp_path: Path) -> None:
    # The first T5 checkpoints store the shared embedding three times.
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "num_layers": 1,
        "tie_word_embeddings": True,
    }
    copies = ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight", "shared.weight"]
    assert find(write(tmp_path, copies, config)).name == "shared.weight"


def test_a_config_class_that_ties_stands_in_for_a_class_that_cannot_be_built(tmp_path: Path) -> None:
    # Gemma 3n's vision tower needs timm.
    config = {"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n"}
    found = find(write(tmp_path, ["model.language_model.embed_tokens.weight"], config))
    assert (found.name, found.tied) == ("model.language_model.embed_tokens.weight", True)
    assert "the config class ties it" in found.reason
    assert "TimmWrapperModel requires" in found.warnings[0]


@pytest.mark.parametrize(
    ("config", "names", "message"),
    [
        pytest.param(
            LLAMA, [EMBEDDING], "not stored and not tied", id="untied by default, no head: an embedding model"
        ),
        pytest.param(UNTIED, [EMBEDDING], "not stored and not tied", id="untied, no head: a reward model"),
        pytest.param(TIED, ["model.norm.weight"], "which is not stored", id="tied to an embedding that is not stored"),
        pytest.param(
            {"architectures": ["BertModel"], "model_type": "bert"},
            ["embeddings.word_embeddings.weight"],
            "BertModel has no output embedding",
            id="an encoder",
        ),
        pytest.param(
            {"architectures": ["Qwen2ForSequenceClassification"], "model_type": "qwen2", "tie_word_embeddings": True},
            [EMBEDDING, "score.weight"],
            "Qwen2ForSequenceClassification has no output embedding",
            id="a classifier whose config says tied",
        ),
        pytest.param(None, [EMBEDDING], "could be W, and the model class cannot tell", id="no config"),
        pytest.param(
            {"architectures": ["HomeMadeForCausalLM"], "model_type": "home_made"},
            [EMBEDDING],
            "does not know HomeMadeForCausalLM",
            id="an architecture of the repository's own code",
        ),
        pytest.param(
            {"architectures": ["HomeMadeForCausalLM"]},
            ["a.lm_head.weight", "b.lm_head.weight"],
            "a.lm_head.weight, b.lm_head.weight could be W",
            id="two heads",
        ),
        pytest.param(
            {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": "many"},
            [EMBEDDING],
            "cannot be built",
            id="a config of nonsense",
        ),
        pytest.param(LLAMA | {"model_type": []}, [EMBEDDING], "not stored and not tied", id="a model type of nonsense"),
        pytest.param(
            {"architectures": 7, "model_type": []}, [EMBEDDING], "names no architecture", id="of the wrong types"
        ),
    ],
)
def test_what_has_no_unembedding_or_no_single_one_is_refused(
    tmp_path: Path, config: object, names: list[str], message: str
) -> None:
    with pytest.raises(NoUnembedding, match=message) as refusal:
        find(write(tmp_path, names, config))
    assert "give the tensor's name" in str(refusal.value)


@pytest.mark.parametrize(
    "other",
    [
        "mtp.lm_head.weight",
        "talker.lm_head.weight",
        "model.layers.3.shared_head.head.weight",
        "medusa_head.0.lm_head.weight",
    ],
)
def test_other_heads_are_never_taken_for_the_language_models(tmp_path: Path, other: str) -> None:
    assert find(write(tmp_path, [EMBEDDING, HEAD, other], UNTIED)).name == HEAD
    assert find(write(tmp_path, [EMBEDDING, other], TIED)).name == EMBEDDING


def test_names_are_told_by_the_table_for_architectures_that_transformers_does_not_know(tmp_path: Path) -> None:
    config = {"architectures": ["InternLM2ForCausalLM"], "auto_map": {"AutoModel": "modeling.py"}}
    assert find(write(tmp_path, ["model.tok_embeddings.weight", "output.weight"], config)).name == "output.weight"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_float_dtype_is_taken_as_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    found = find(write(tmp_path, {HEAD: matrix(dtype)}, UNTIED | {"dtype": "bfloat16"}))
    assert (
        found.location.dtype
        == {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    )


QUANTISED = {
    "GPTQ": (
        {"lm_head.qweight": torch.int32, "lm_head.scales": torch.float16},
        r"lm_head.qweight \(I32\), lm_head.scales \(F16\) \(recognised as GPTQ or AWQ\)",
    ),
    "FP8": ({HEAD: torch.float8_e4m3fn, "lm_head.weight_scale": torch.float32}, "F8_E4M3 beside lm_head.weight_scale"),
    "bitsandbytes": ({HEAD: torch.uint8, "lm_head.weight.absmax": torch.float32}, "U8 beside lm_head.weight.absmax"),
    "MLX": (
        {EMBEDDING: torch.uint32, "model.embed_tokens.scales": torch.float16},
        "U32 beside model.embed_tokens.scales",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), QUANTISED.values(), ids=QUANTISED)
def test_a_quantised_head_is_refused_by_what_was_found(
    tmp_path: Path, tensors: dict[str, torch.dtype], message: str
) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message):
        find(write(tmp_path, {name: matrix(dtype) for name, dtype in tensors.items()}, TIED))


def test_a_tensor_that_is_asked_for_is_taken_without_further_evidence(tmp_path: Path) -> None:
    found = find(write(tmp_path, [EMBEDDING, HEAD, "a.b"]), "a.b")
    assert (found.name, found.reason) == ("a.b", "a.b was asked for")
    assert find(open_folder(tmp_path), EMBEDDING).name == EMBEDDING


@pytest.mark.parametrize(
    ("tensor", "kind", "message"),
    [
        ("lm_head", NoUnembedding, "such as lm_head.weight"),
        ("bias", NoUnembedding, r"found shape \[4\]"),
        ("codes", UnsupportedCheckpoint, "stored as U8"),
    ],
    ids=["not stored", "a vector", "no floats"],
)
def test_a_tensor_that_is_asked_for_must_be_a_stored_matrix_of_floats(
    tmp_path: Path, tensor: str, kind: type[Exception], message: str
) -> None:
    tensors = {HEAD: matrix(), "bias": torch.ones(4), "codes": matrix(torch.uint8)}
    with pytest.raises(kind, match=message):
        find(write(tmp_path, tensors, UNTIED), tensor)


def test_an_index_that_names_a_tensor_its_shard_lacks_is_not_believed(tmp_path: Path) -> None:
    shards = {"a.safetensors": [EMBEDDING], "b.safetensors": ["model.norm.weight"]}
    index = {EMBEDDING: "a.safetensors", HEAD: "b.safetensors", "model.norm.weight": "b.safetensors"}
    assert find(write_shards(tmp_path, shards, index, TIED)).name == EMBEDDING


def test_a_tensor_is_found_in_another_shard_than_the_index_names(tmp_path: Path) -> None:
    shards = {"a.safetensors": [EMBEDDING], "b.safetensors": [HEAD]}
    index = {EMBEDDING: "a.safetensors", HEAD: "a.safetensors", "model.norm.weight": "b.safetensors"}
    assert find(write_shards(tmp_path, shards, index, UNTIED)).location.file == "b.safetensors"


@pytest.mark.parametrize("shard", ["missing.safetensors", "../model.safetensors", "/etc/passwd"])
def test_an_index_that_names_a_file_which_is_not_there_is_corrupt(tmp_path: Path, shard: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"found no file .* which the index names"):
        find(write_shards(tmp_path, {"a.safetensors": [EMBEDDING]}, {HEAD: shard}, UNTIED))


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"weight_map": {}}', '{"weight_map": {"lm_head.weight": 3}}', "[" * 100_000, '{"a": NaN'],
)
def test_an_index_that_is_none_is_corrupt(tmp_path: Path, content: str) -> None:
    write(tmp_path, [HEAD], UNTIED)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CorruptCheckpoint, match=r"index\.json"):
        find(open_folder(tmp_path))


def test_a_config_that_is_no_json_is_corrupt(tmp_path: Path) -> None:
    write(tmp_path, [HEAD])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match=r"config\.json: found invalid JSON"):
        find(open_folder(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": "?"}, "pytorch_model.bin: found b'.' at the start, .* give a checkpoint in safetensors"),
        ({"mmproj-model.gguf": ""}, "found mmproj-model.gguf"),
        ({"README.md": ""}, "found no weights"),
        ({"a.safetensors": "", "b.safetensors": ""}, "found a.safetensors, b.safetensors"),
        (
            {"adapter_config.json": '{"base_model_name_or_path": "org/base"}', "adapter_model.safetensors": ""},
            "found an adapter, .* survey its base model, 'org/base'",
        ),
    ],
    ids=["bin", "only a projector in gguf", "nothing", "two sets", "adapter"],
)
def test_a_checkpoint_without_safetensors_weights_is_refused_by_what_is_there(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        find(open_folder(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a/model.safetensors", "b/model.safetensors"], "found weights in a/, b/ alone"),
        (
            [f"model-0000{n}-of-0000{total}.safetensors" for total in (1, 2) for n in range(1, total + 1)],
            "of 1 and of 2",
        ),
    ],
    ids=["two folders", "two complete sets"],
)
def test_weights_of_which_nothing_says_which_to_read_are_refused(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        save_file({HEAD: matrix()}, tmp_path / file)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        find(open_folder(tmp_path))


def test_an_index_that_names_a_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    checkpoint = write_shards(tmp_path, {"a.safetensors": [EMBEDDING]}, {HEAD: "config.json"}, UNTIED)
    with pytest.raises(UnsupportedCheckpoint, match=r"found config.json, expected a .safetensors or .bin file"):
        find(checkpoint)


def test_two_tensors_that_the_class_would_load_into_its_head_are_ambiguous(tmp_path: Path) -> None:
    # transformers loads what lies under the prefix of the base model, too.
    config = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "num_hidden_layers": 1}
    with pytest.raises(NoUnembedding, match=r"found .* for .*.weight of GPTNeoXForCausalLM, expected one"):
        find(write(tmp_path, ["embed_out.weight", "lm_head.weight", "gpt_neox.embed_in.weight"], config))


def test_a_single_file_of_another_name_holds_the_weights(tmp_path: Path) -> None:
    write(tmp_path, [HEAD], UNTIED)
    (tmp_path / "model.safetensors").rename(tmp_path / "llama.safetensors")
    save_file({"lora": matrix()}, tmp_path / "adapter_model.safetensors")
    assert find(open_folder(tmp_path)).location.file == "llama.safetensors"


def test_only_the_headers_that_are_needed_are_read(tmp_path: Path) -> None:
    names = {f"model-0000{i}-of-00004.safetensors": [f"model.layers.{i}.mlp.weight"] for i in range(4)}
    names["model-00000-of-00004.safetensors"].append(EMBEDDING)
    names["model-00003-of-00004.safetensors"].append(HEAD)
    index = {name: file for file, stored in names.items() for name in stored}
    checkpoint = write_shards(tmp_path, names, index, UNTIED)
    # On this disk, reading all of them costs nothing.
    on_a_server, ranges = recorded(replace(checkpoint, local_paths={}))
    assert find(on_a_server).name == HEAD
    # Those of the head and of the embedding that it is compared with.
    shards = ["model-00000-of-00004.safetensors", "model-00003-of-00004.safetensors"]
    assert sorted({file for file, _, _ in ranges}) == ["config.json", *shards, "model.safetensors.index.json"]


def test_a_header_longer_than_the_first_read_is_read_in_two(tmp_path: Path) -> None:
    many = {f"model.layers.{i}.mlp.down_proj.weight": torch.zeros(0) for i in range(2000)}
    checkpoint, ranges = recorded(write(tmp_path, {HEAD: matrix(), **many}, UNTIED))
    found = find(checkpoint)
    read = [(begin, end) for file, begin, end in ranges if file == "model.safetensors"]
    assert read[0] == (0, FIRST_READ_NBYTES)
    assert read[1:] == [(FIRST_READ_NBYTES, found.location.begin)]


def test_what_changes_the_logits_and_not_w_is_a_warning(tmp_path: Path) -> None:
    config = UNTIED | {"text_config": {"final_logit_softcapping": 30.0}}
    found = find(write(tmp_path, {HEAD: matrix(), "lm_head.bias": torch.ones(6)}, config))
    assert found.warnings == (
        "lm_head.bias is added to the logits; it is not part of W",
        "config.json sets final_logit_softcapping to 30.0: it changes the logits, not W",
    )
