"""What a checkpoint's JSON files can say, however odd, ends in a W or in a typed refusal, and in no other file."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import ones

from job.checkpoints.checkpoint import Checkpoint, StoredFile
from job.checkpoints.head.adapters import base_reference, read_adapter
from job.checkpoints.head.config import MAX_DEPTH, text_settings
from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.errors import CorruptCheckpoint, ModelError, UnsupportedCheckpoint
from job.models.references import ModelRef

# Importing what builds model classes takes seconds: one of pytest's workers does it for all of these tests.
pytestmark = pytest.mark.xdist_group("model_classes")

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
INDEX = "model.safetensors.index.json"
SHARD = save({EMBEDDING: ones(6, 4), HEAD: ones(6, 4) * 2})
HEADLESS = save({EMBEDDING: ones(6, 4)})


def in_memory(files: Mapping[str, bytes]) -> Checkpoint:
    """A checkpoint that gives exactly these files, and breaks the test where anything else is asked of it."""

    def fill(file: str, begin: int, buffer: memoryview) -> None:
        assert 0 <= begin <= begin + len(buffer) <= len(files[file])
        buffer[:] = files[file][begin : begin + len(buffer)]

    stored = {name: StoredFile(len(content), name) for name, content in files.items()}
    return Checkpoint("org/model", None, "0" * 40, "memory", stored, fill)


def outcome(files: Mapping[str, bytes]) -> Unembedding | ModelError:
    """W or the refusal. Anything else fails the test; so does what could not be written into a manifest or a log."""
    try:
        found = find_unembedding(in_memory(files), None)
    except ModelError as refusal:
        str(refusal).encode()
        return refusal
    for text in (found.name, found.reason, found.tie_evidence, *found.warnings):
        text.encode()
    return found


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["../../etc/passwd", "/etc/passwd", "model.safetensors", "a.safetensors", "org/base", "\x1b[2J", "\ud800"]
    ),
)
KEYS = st.sampled_from(
    [
        "architectures", "model_type", "tie_word_embeddings", "vocab_size", "hidden_size", "num_hidden_layers",
        "text_config", "llm_config", "decoder", "quantization_config", "quant_method", "auto_map", "rope_parameters",
        "num_attention_heads", "logit_scale", "weight_map", "metadata", "base_model_name_or_path", "revision",
        "modules_to_save", "target_modules", HEAD, EMBEDDING, "pad_token_id", "layer_types", "_name_or_path",
    ]
)  # fmt: skip
ANY = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
OBJECTS = st.dictionaries(KEYS, ANY, max_size=8)


def nested(key: str, depth: int) -> bytes:
    return f'{{"{key}": '.encode() * depth + b"1" + b"}" * depth


@settings(max_examples=150)
@given(OBJECTS, st.sampled_from(["LlamaForCausalLM", "T5ForConditionalGeneration", "BertModel", "Nobody", None]))
def test_any_config_beside_a_stored_head_leaves_it_w(config: dict[str, object], architecture: str | None) -> None:
    config |= {"architectures": [architecture]} if architecture else {}
    found = outcome({"config.json": json.dumps(config).encode(), "model.safetensors": SHARD})
    assert isinstance(found, Unembedding)
    assert found.name == HEAD


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")
@settings(max_examples=60)
@example({"vocab_size": 0}, "LlamaForCausalLM")
@given(OBJECTS, st.sampled_from(["LlamaForCausalLM", "GPT2LMHeadModel", "MambaForCausalLM", "Nobody"]))
def test_any_config_beside_an_embedding_alone_ends_in_it_or_in_a_refusal(
    config: dict[str, object], architecture: str
) -> None:
    config |= {"architectures": [architecture]}
    found = outcome({"config.json": json.dumps(config).encode(), "model.safetensors": HEADLESS})
    assert isinstance(found, ModelError) or found.name == EMBEDDING


@given(st.binary(max_size=60))
@example(nested("text_config", 400))
@example(nested("text_config", 900))
@example(nested("text_config", 100_000))
@example(nested("a", 900))
@example(b"[" * 100_000)
@example(b'{"a": ' + b"9" * 10_000 + b"}")
@example(b'{"vocab_size": 1e999, "hidden_size": NaN, "tie_word_embeddings": "yes"}')
@example("{}".encode("utf-16"))
def test_any_bytes_for_a_config_end_in_w_or_in_a_refusal(text: bytes) -> None:
    for weights in (SHARD, HEADLESS):
        outcome({"config.json": text, "model.safetensors": weights})


def test_a_name_that_no_text_can_hold_is_refused() -> None:
    # The safetensors library refuses to read or write such a file.
    named = {"\ud800.lm_head.weight": {"dtype": "BF16", "shape": [6, 4], "data_offsets": [0, 48]}}
    header = json.dumps(named).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(48)
    assert isinstance(outcome({"model.safetensors": weights, "config.json": b"{}"}), CorruptCheckpoint)


def test_an_index_with_a_name_that_no_text_can_hold_is_corrupt() -> None:
    index = json.dumps({"weight_map": {"\ud800.lm_head.weight": "a.safetensors"}}).encode()
    refusal = outcome({INDEX: index, "a.safetensors": SHARD})
    assert isinstance(refusal, CorruptCheckpoint)
    assert r"found '\ud800.lm_head.weight' mapped" in str(refusal)


def test_parts_within_parts_are_looked_into_only_so_deep() -> None:
    config: dict[str, object] = {}
    for _ in range(5000):  # more than the interpreter's own limit
        config = {"text_config": config}
    assert len(list(text_settings(config))) == MAX_DEPTH + 1


SHARD_NAMES = st.sampled_from(
    ["a.safetensors", "../a.safetensors", "/a.safetensors", "a.bin", "config.json", "", "\ud800"]
)


@given(
    st.dictionaries(st.sampled_from([HEAD, EMBEDDING, "\ud800.lm_head.weight", "x"]) | st.text(), SHARD_NAMES | ANY),
    st.sampled_from([SHARD, HEADLESS, b"", b"\xff" * 100]),
)
def test_any_index_ends_in_w_or_in_a_refusal(weight_map: dict[str, object], shard: bytes) -> None:
    index = json.dumps({"weight_map": weight_map}).encode()
    found = outcome({INDEX: index, "a.safetensors": shard, "config.json": b"{}"})
    assert isinstance(found, ModelError) or found.location.file == "a.safetensors"


@given(st.binary(max_size=60) | ANY.map(lambda value: json.dumps(value).encode()))
@example(nested("weight_map", 900))
@example(b'{"weight_map": {"lm_head.weight": "a.safetensors", "lm_head.weight": "config.json"}}')
def test_any_bytes_for_an_index_end_in_a_refusal_or_w(text: bytes) -> None:
    outcome({INDEX: text, "a.safetensors": SHARD, "config.json": b"{}"})


NAMES = st.from_regex(
    r"(model|a|x y)(\.fp16)?(-[0-9]{1,9}-of-[0-9]{1,9})?\.(safetensors|bin|gguf|index\.json)", fullmatch=True
)


@given(
    st.sets(
        NAMES | NAMES.map("sub/{}".format) | st.sampled_from(["\udcff.safetensors", "adapter_config.json"]), max_size=8
    )
)
def test_any_set_of_files_ends_in_w_or_in_a_refusal(names: set[str]) -> None:
    outcome({name: b"{}" if name.endswith(".json") else SHARD for name in names})


@given(OBJECTS | st.fixed_dictionaries({"base_model_name_or_path": ANY, "revision": ANY}))
@example({"base_model_name_or_path": "/content/drive/model"})
@example({"base_model_name_or_path": "../base"})
@example({"base_model_name_or_path": "s3://bucket/base"})
@example({"base_model_name_or_path": "org/base@v1"})
@example({"base_model_name_or_path": "org/base", "revision": "v1 v2"})
@example({"base_model_name_or_path": "org/base", "revision": "v1"})
def test_an_adapter_leads_to_a_model_on_the_hub_or_nowhere(config: dict[str, object]) -> None:
    text = json.dumps(config).encode()
    adapter = read_adapter(in_memory({"adapter_config.json": text, "adapter_model.safetensors": b""}))
    assert adapter is not None
    try:
        reference = base_reference(adapter, "memory")
    except UnsupportedCheckpoint as refusal:
        str(refusal).encode()
    else:
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
        assert reference == ModelRef("hub", str(base), str(revision) if revision else None)
