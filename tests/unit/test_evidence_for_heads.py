"""A name alone does not make a tensor W: the class, the config and what is stored beside it have to agree."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from job.checkpoints.head.unembedding import Unembedding, find_unembedding
from job.errors import NoUnembedding, UnsupportedCheckpoint
from tests.zoo.layouts import COLUMNS, EMBEDDING, HEAD, ROWS, UNKNOWN, Layout, Spec, config

# Importing what builds model classes takes seconds: one of pytest's workers does it for all of these tests.
pytestmark = pytest.mark.xdist_group("model classes")

TIED = config(tie_word_embeddings=True)
STRANGER = UNKNOWN | {"vocab_size": ROWS, "hidden_size": COLUMNS}
TIED_STRANGER = STRANGER | {"tie_word_embeddings": True}
LAYER = "layers.0.mlp.up_proj.weight"


def find(
    folder: Path,
    tensors: tuple[str, ...] | Mapping[str, Spec],
    settings: Mapping[str, object],
    tensor: str | None = None,
) -> Unembedding:
    return find_unembedding(Layout({"model.safetensors": tensors}, settings=settings).write(folder), tensor)


def layers(prefix: str, count: int = 3) -> tuple[str, ...]:
    return tuple(f"{prefix}layers.{number}.mlp.up_proj.weight" for number in range(count))


PARTS = {
    "a layer for further tokens": ("model.mtp_layers.0.lm_head.weight",),
    "a part for further tokens": ("nextn.lm_head.weight", "nextn.embed_tokens.weight"),
    "a reference model's head": ("ref_model.lm_head.weight",),
    "a whole reference model": (
        "ref_model.lm_head.weight", "ref_model.model.embed_tokens.weight", *layers("ref_model.model."),
    ),
    "a critic": ("critic.lm_head.weight", *layers("critic.", 1)),
    "a planner's quantised head": ("planner.lm_head.qweight", "planner.model.embed_tokens.weight"),
}  # fmt: skip


@pytest.mark.parametrize("settings", [TIED, TIED_STRANGER], ids=["known class", "unknown class"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_head_of_another_part_is_not_taken_for_a_tied_one(
    tmp_path: Path, part: tuple[str, ...], settings: dict[str, object]
) -> None:
    found = find(tmp_path, (EMBEDDING, *layers("model."), *part), settings)
    assert (found.name, found.tie) == (EMBEDDING, "tied")


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_head_of_another_part_is_not_taken_where_nothing_is_tied(tmp_path: Path, part: tuple[str, ...]) -> None:
    with pytest.raises(NoUnembedding, match=r"by `tensor:`.*model\.embed_tokens\.weight \[48, 8\]"):
        find(tmp_path, (EMBEDDING, *layers("model."), *part), STRANGER)


def test_a_head_that_is_not_read_is_named(tmp_path: Path) -> None:
    found = find(tmp_path, (EMBEDDING, HEAD, "critic.lm_head.weight"), STRANGER)
    assert found.name == HEAD
    assert any("not read: critic.lm_head.weight" in warning for warning in found.warnings)


WRAPPED = {
    "DDP": ("module.lm_head.weight", "module.model.embed_tokens.weight", *layers("module.model.")),
    "compiled": ("_orig_mod.lm_head.weight", *layers("_orig_mod.model.")),
    "PEFT": ("base_model.model.lm_head.weight", *layers("base_model.model.model.")),
    "a wrapper with a vision tower": (
        "vlm.lm_head.weight", "vlm.model.embed_tokens.weight", *layers("vision_tower.", 9), *layers("vlm.model."),
    ),
    "a known prefix": ("language_model.lm_head.weight", *layers("language_model.backbone.")),
}  # fmt: skip


@pytest.mark.parametrize("settings", [config(), STRANGER], ids=["known class", "unknown class"])
@pytest.mark.parametrize("names", WRAPPED.values(), ids=WRAPPED)
def test_a_prefix_that_the_model_lies_under_is_evidence(
    tmp_path: Path, names: tuple[str, ...], settings: dict[str, object]
) -> None:
    found = find(tmp_path, names, settings)
    assert (found.name, found.tie) == (names[0], "untied")


@pytest.mark.parametrize("n_rows", [20, 30, 47, 96])
def test_a_head_under_an_unknown_prefix_needs_a_row_for_each_token(tmp_path: Path, n_rows: int) -> None:
    names = {"big.lm_head.weight": Spec((n_rows, COLUMNS)), f"big.{LAYER}": Spec()}
    with pytest.raises(NoUnembedding, match=r"big\.lm_head\.weight could be W"):
        find(tmp_path, names, STRANGER)
    assert find(tmp_path, names, STRANGER | {"vocab_size": n_rows}).name == "big.lm_head.weight"


def test_without_a_vocabulary_size_the_embedding_beside_tells_the_rows(tmp_path: Path) -> None:
    head, embedding = "big.lm_head.weight", "big.model.embed_tokens.weight"
    assert find(tmp_path / "a", (head, embedding), UNKNOWN).name == head
    with pytest.raises(NoUnembedding, match="could be W"):
        find(tmp_path / "b", {head: Spec((9, COLUMNS)), embedding: Spec()}, UNKNOWN)


WRAPPERS = {
    "two adapters": ("lm_head.modules_to_save.a.weight", "lm_head.modules_to_save.b.weight"),
    "LoRA over a base layer": ("lm_head.base_layer.weight", "lm_head.lora_A.a.weight", "lm_head.lora_B.a.weight"),
    "a base layer": ("lm_head.base_layer.weight",),
    "the untrained module alone": ("lm_head.original_module.weight",),
    "LoRA over a trained copy": ("lm_head.modules_to_save.a.weight", "lm_head.lora_B.a.weight"),
    "a parametrisation": ("lm_head.parametrizations.weight.original0", "lm_head.parametrizations.weight.original1"),
    "another name": ("lm_head.out.weight",),
    "under the model's prefix": ("model.lm_head.base_layer.weight",),
    "a head that the class does not know": ("model.lm_head.linear.weight",),
    "LoRA alone": ("lm_head.lora_A.a.weight", "lm_head.lora_B.a.weight"),
}


@pytest.mark.parametrize(
    "settings",
    [TIED, TIED_STRANGER, config(architectures=["GemmaForCausalLM"], model_type="gemma", tie_word_embeddings=None)],
    ids=["config ties", "unknown class", "class ties"],
)
@pytest.mark.parametrize("names", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_head_forbids_to_take_the_tied_embedding(
    tmp_path: Path, names: tuple[str, ...], settings: dict[str, object]
) -> None:
    with pytest.raises((NoUnembedding, UnsupportedCheckpoint)) as refusal:
        find(tmp_path, (EMBEDDING, *layers("model."), *names), settings)
    assert names[0] in str(refusal.value)
    assert "`tensor:" in str(refusal.value)


TRAINED = {
    "at the root": (EMBEDDING, "lm_head."),
    "under PEFT's prefix": ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head."),
    "under a known prefix": ("language_model.model.embed_tokens.weight", "language_model.lm_head."),
    "GPT-NeoX's": ("gpt_neox.embed_in.weight", "embed_out."),
}


@pytest.mark.parametrize("settings", [TIED, TIED_STRANGER, config()], ids=["config ties", "unknown class", "untied"])
@pytest.mark.parametrize(("embedding", "head"), TRAINED.values(), ids=TRAINED)
def test_the_only_trained_copy_of_a_head_is_w_and_a_warning_says_what_wraps_it(
    tmp_path: Path, embedding: str, head: str, settings: dict[str, object]
) -> None:
    trained = f"{head}modules_to_save.default.weight"
    found = find(tmp_path, (embedding, f"{head}original_module.weight", trained), settings)
    assert (found.name, found.tied) == (trained, False)
    assert "modules_to_save wraps it" in found.warnings[0]
    assert f"{head}original_module" in found.warnings[0]


UNDERSTOOD = {
    "a bias": {"lm_head.bias": Spec((ROWS,))},
    "the layers of a masked language model": {
        "lm_head.dense.weight": Spec((COLUMNS, COLUMNS)), "lm_head.layer_norm.weight": Spec((COLUMNS,)),
    },
    "scales": {"lm_head.weight_scale": Spec((1,)), "lm_head.input_scale": Spec((1,)), "lm_head.k_scale": Spec((6, 8))},
}  # fmt: skip


@pytest.mark.parametrize("beside", list(UNDERSTOOD)[:2])
def test_what_is_understood_below_a_head_leaves_it_tied(tmp_path: Path, beside: str) -> None:
    found = find(tmp_path, {EMBEDDING: Spec(), **UNDERSTOOD[beside]}, TIED_STRANGER)
    assert (found.name, found.tie) == (EMBEDDING, "tied")


@pytest.mark.parametrize("beside", UNDERSTOOD)
def test_what_is_understood_beside_a_head_is_no_adapter(tmp_path: Path, beside: str) -> None:
    found = find(tmp_path, {HEAD: Spec(), EMBEDDING: Spec(), **UNDERSTOOD[beside]}, TIED_STRANGER)
    assert found.name == HEAD
    assert not any("as an adapter does" in warning for warning in found.warnings)


def test_an_adapter_beside_a_stored_head_is_a_warning(tmp_path: Path) -> None:
    names = {HEAD: Spec(), "lm_head.lora_A.a.weight": Spec((2, COLUMNS)), "lm_head.lora_B.a.weight": Spec((ROWS, 2))}
    found = find(tmp_path, names, config())
    assert found.name == HEAD
    assert found.warnings[0].startswith("lm_head.lora_A.a.weight, lm_head.lora_B.a.weight beside lm_head.weight may")


def test_a_trained_copy_beside_a_stored_head_is_refused_unless_one_is_asked_for(tmp_path: Path) -> None:
    names = (HEAD, EMBEDDING, "lm_head.modules_to_save.a.weight")
    with pytest.raises(NoUnembedding, match="of which only one can be W"):
        find(tmp_path, names, config())
    assert find(tmp_path, names, config(), HEAD).name == HEAD


@pytest.mark.parametrize("settings", [TIED, TIED_STRANGER], ids=["known class", "unknown class"])
@pytest.mark.parametrize(
    "name",
    [
        "model.language_model.model.embed_tokens.weight",
        "module.model.embed_tokens.weight",
        "a.b.c.word_embeddings.weight",
        "net.transformer.wte.weight",
    ],
)
def test_the_only_embedding_under_any_prefix_is_the_tied_one(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    found = find(tmp_path, (name, *layers("model.")), settings)
    assert (found.name, found.tie) == (name, "tied")


@pytest.mark.parametrize("settings", [TIED, TIED_STRANGER], ids=["known class", "unknown class"])
def test_an_embedding_of_other_length_or_one_of_two_is_not_the_tied_one(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    with pytest.raises(NoUnembedding):
        find(tmp_path / "a", {"x.y.embed_tokens.weight": Spec((ROWS - 1, COLUMNS))}, settings)
    with pytest.raises(NoUnembedding, match=r"x\.embed_tokens\.weight \[48, 8\], y\.embed_tokens\.weight \[48, 8\]"):
        find(tmp_path / "b", ("x.embed_tokens.weight", "y.embed_tokens.weight"), settings)
    with pytest.raises(NoUnembedding):
        find(tmp_path / "c", ("x.y.embed_tokens.weight",), settings | {"tie_word_embeddings": False})


@pytest.mark.parametrize(
    ("setting", "tied"),
    [
        ({"share_input_output_layers": True}, True),
        ({"share_embeddings_and_output_weights": True}, True),
        ({"weight_tying": True}, True),
        ({"share_input_output_layers": False}, False),
        ({"share_input_output_layers": True, "tie_word_embeddings": False}, False),
    ],
)
def test_a_tie_is_read_under_the_names_that_others_give_it(
    tmp_path: Path, setting: dict[str, object], tied: bool
) -> None:
    if tied:
        assert find(tmp_path, (EMBEDDING,), STRANGER | setting).name == EMBEDDING
    else:
        with pytest.raises(NoUnembedding):
            find(tmp_path, (EMBEDDING,), STRANGER | setting)


def test_a_matrix_that_is_both_by_its_name_is_w(tmp_path: Path) -> None:
    found = find(tmp_path, ("transformer.in_out_embed.weight",), STRANGER)
    assert (found.name, found.tie) == ("transformer.in_out_embed.weight", "tied")


STRANGERS = {
    "by the config": ({"a.table": Spec(), "b.proj": Spec((COLUMNS, COLUMNS)), "z.out": Spec((ROWS + 2, 4))}, STRANGER),
    "by the most common length": (
        {"a.table": Spec(), "z.out": Spec(), "p.positions": Spec((99, COLUMNS)), "b.proj": Spec((COLUMNS, COLUMNS))},
        UNKNOWN,
    ),
    "inside layers alone": ({"heads.0.a.weight": Spec(), "heads.0.z.weight": Spec()}, STRANGER),
    "beside layers": ({"a.table": Spec(), "z.out": Spec(), "layers.0.moe.weight": Spec()}, STRANGER),
}


@pytest.mark.parametrize(("tensors", "settings"), STRANGERS.values(), ids=STRANGERS)
def test_a_refusal_names_the_matrices_that_could_be_given(
    tmp_path: Path, tensors: dict[str, Spec], settings: dict[str, object]
) -> None:
    with pytest.raises(NoUnembedding) as refusal:
        find(tmp_path, tensors, settings)
    expected = [name for name, spec in tensors.items() if abs(spec.shape[0] - ROWS) < 3 and "moe" not in name]
    said = str(refusal.value).partition("tokens are ")[2]
    assert "give the tensor's name with the model, by `tensor:`" in str(refusal.value)
    assert said == ", ".join(f"{name} {list(tensors[name].shape)}" for name in expected)


def test_a_refusal_names_at_most_five_matrices(tmp_path: Path) -> None:
    with pytest.raises(NoUnembedding, match=r"t4 \[48, 8\] and 7 more$"):
        find(tmp_path, tuple(f"t{number:x}" for number in range(12)), STRANGER)


def speech(**settings: object) -> dict[str, object]:
    return STRANGER | settings


I64, BOOL = torch.int64, torch.bool
NOT_TOKENS = {
    "d2t": ({HEAD: Spec(), "d2t": Spec((ROWS,), I64)}, speech(vocab_size=60), "d2t says which token each row"),
    "d2t below a module": ({HEAD: Spec(), "draft.d2t": Spec((ROWS,), I64)}, UNKNOWN, "draft.d2t says"),
    "t2d": ({HEAD: Spec(), "t2d": Spec((60,), BOOL)}, UNKNOWN, "t2d says which of 60 tokens have a row"),
    "a setting": ({HEAD: Spec()}, speech(vocab_size=60, draft_vocab_size=ROWS), "sets draft_vocab_size to 48"),
    "far too short": ({HEAD: Spec()}, speech(vocab_size=97), "W has 48 rows of the 97"),
    "audio codes": ({HEAD: Spec()}, speech(vocab_size=60, audio_vocab_size=ROWS), "audio_vocab_size to 48"),
    "codebooks": (
        {HEAD: Spec()},
        speech(vocab_size=40, codec_config={"codebook_size": 16, "num_codebooks": 3}),
        "codebook_size to 16 and num_codebooks to 3",
    ),
    "text beside codes": ({HEAD: Spec()}, speech(text_vocab_size=900), "sets text_vocab_size to 900"),
}


@pytest.mark.parametrize(("tensors", "settings", "why"), NOT_TOKENS.values(), ids=NOT_TOKENS)
def test_rows_that_are_no_tokens_are_told(
    tmp_path: Path, tensors: dict[str, Spec], settings: dict[str, object], why: str
) -> None:
    found = find(tmp_path, tensors, settings)
    assert found.rows_are_not_tokens
    assert why in found.rows_are_not_tokens
    assert found.warnings[0] == f"row i of W is not token i: {found.rows_are_not_tokens}"


@pytest.mark.parametrize(
    ("tensors", "settings"),
    [
        ({HEAD: Spec()}, STRANGER),
        ({HEAD: Spec()}, UNKNOWN),
        ({HEAD: Spec(), "drafter.d2t": Spec((9,), I64), "drafter.t2d": Spec((ROWS,), BOOL)}, STRANGER),
        ({HEAD: Spec()}, speech(draft_vocab_size=9)),
        ({HEAD: Spec()}, speech(draft_vocab_size=ROWS)),
        ({HEAD: Spec()}, speech(codec_config={"codebook_size": ROWS})),
        ({HEAD: Spec()}, speech(vocab_size=41, text_vocab_size=20)),
        ({HEAD: Spec()}, speech(vocab_size=90)),
    ],
)
def test_rows_are_tokens_where_nothing_says_otherwise(
    tmp_path: Path, tensors: dict[str, Spec], settings: dict[str, object]
) -> None:
    assert find(tmp_path, tensors, settings).rows_are_not_tokens is None


UNLISTED = ("unembed.weight", "model.output.weight", "model.head.weight", "out_proj.weight", "output_embeddings.weight")
GEMMA = STRANGER | {"model_type": "gemma"}


@pytest.mark.parametrize("settings", [TIED_STRANGER, GEMMA], ids=["unknown class", "class of the model type"])
@pytest.mark.parametrize("name", UNLISTED)
def test_a_second_matrix_of_the_size_of_the_embedding_forbids_to_take_it(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    with pytest.raises(NoUnembedding, match=rf"found {name}, of the same size as the embedding"):
        find(tmp_path, (name, EMBEDDING, *layers("model.")), settings)


@pytest.mark.parametrize("name", UNLISTED)
def test_a_second_matrix_that_the_class_does_not_load_is_named(tmp_path: Path, name: str) -> None:
    found = find(tmp_path, (name, EMBEDDING, *layers("model.")), TIED)
    assert found.name == EMBEDDING
    assert any(name in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "name", ["encoder.embed_positions.weight", "mtp.out.weight", "vision.head.weight", "copy.weight"]
)
def test_a_second_matrix_that_is_no_head_leaves_the_embedding_tied(tmp_path: Path, name: str) -> None:
    copy = Spec(same_as=EMBEDDING) if name == "copy.weight" else Spec()
    assert find(tmp_path, {EMBEDDING: Spec(), name: copy, f"model.{LAYER}": Spec()}, TIED_STRANGER).name == EMBEDDING


TIED_MODEL: dict[str, Spec] = {EMBEDDING: Spec(), f"model.{LAYER}": Spec()}
LONG, SHORT = Spec((1000, COLUMNS)), Spec((30, COLUMNS))
OF_ANOTHER_PART: dict[str, tuple[str, dict[str, Spec], Mapping[str, object]]] = {
    "over classes": ("head.weight", {"head.weight": LONG, "embed.weight": SHORT, **TIED_MODEL}, TIED_STRANGER),
    "over classes, vocabulary unknown": ("head.weight", {"head.weight": LONG, "embed.weight": SHORT}, UNKNOWN),
    "over sounds": (
        "output.weight", {"output.weight": SHORT, "tok_embeddings.weight": SHORT, **TIED_MODEL}, TIED_STRANGER,
    ),
    "over codes": (
        HEAD, {HEAD: Spec((64, COLUMNS)), "net.model.embed_tokens.weight": Spec(), f"net.model.{LAYER}": Spec()},
        TIED_STRANGER,
    ),
    "over codes, tied in a part": (
        HEAD, {HEAD: Spec((64, COLUMNS)), "llm.model.embed_tokens.weight": Spec(), f"llm.model.{LAYER}": Spec()},
        UNKNOWN | {"tie_word_embeddings": False, "llm_config": {"vocab_size": ROWS, "tie_word_embeddings": True}},
    ),
    "of another prefix": (
        "head.weight",
        {
            "head.weight": Spec(), "embed.weight": Spec(), "net.lm_head.weight": Spec(),
            "net.embed_tokens.weight": Spec(), f"net.{LAYER}": Spec(),
        },
        STRANGER,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "tensors", "settings"), OF_ANOTHER_PART.values(), ids=OF_ANOTHER_PART)
def test_a_name_that_other_parts_use_is_not_enough_against_lengths_and_places(
    tmp_path: Path, name: str, tensors: dict[str, Spec], settings: Mapping[str, object]
) -> None:
    with pytest.raises(NoUnembedding, match=rf"{name}.* could be W"):
        find(tmp_path, tensors, settings)
    assert find(tmp_path, tensors, settings, name).name == name


def test_a_padded_head_is_not_doubted(tmp_path: Path) -> None:
    tensors = {"output.weight": Spec((64, COLUMNS)), "tok_embeddings.weight": Spec((64, COLUMNS)), LAYER: Spec()}
    assert find(tmp_path, tensors, STRANGER).name == "output.weight"


CLASSIFIERS: dict[str, tuple[Mapping[str, object], tuple[str, ...], str]] = {
    "by its class": (config(architectures=["LlamaForSequenceClassification"]), (), "LlamaForSequenceClassification"),
    "by an unknown class": (STRANGER | {"architectures": ["HomeMadeRewardModel"]}, (), "HomeMadeRewardModel"),
    "by its score": ({"vocab_size": ROWS}, ("score.weight",), "score.weight"),
    "by its labels": (STRANGER | {"architectures": ["HomeMade"]}, ("classifier.dense.weight",), "classifier.dense"),
}


@pytest.mark.parametrize(("settings", "beside", "named"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_a_head_left_over_in_a_classifier_is_told(
    tmp_path: Path, settings: Mapping[str, object], beside: tuple[str, ...], named: str
) -> None:
    warnings = find(tmp_path, (HEAD, EMBEDDING, *layers("model."), *beside), settings).warnings
    assert any(named in warning and f"{HEAD}" in warning and "left over" in warning for warning in warnings)


@pytest.mark.parametrize("settings", [config(), STRANGER, {}], ids=["known class", "unknown class", "none"])
def test_a_head_of_a_language_model_is_not_left_over(tmp_path: Path, settings: dict[str, object]) -> None:
    beside = ("v_head.summary.weight",) if settings else ()
    assert "left over" not in str(find(tmp_path, (HEAD, EMBEDDING, *beside), settings).warnings)


@pytest.mark.parametrize("settings", [{}, UNKNOWN, {"vocab_size": ROWS}], ids=["none", "silent", "without a width"])
@pytest.mark.parametrize("embedding", [EMBEDDING, "net.wte.weight"])
def test_without_a_config_the_embedding_tells_which_way_a_head_lies(
    tmp_path: Path, embedding: str, settings: dict[str, object]
) -> None:
    found = find(tmp_path, {HEAD: Spec((COLUMNS, ROWS)), embedding: Spec()}, settings)
    assert (found.location.shape, found.location.strides) == ((ROWS, COLUMNS), (1, ROWS))
    assert any("published transposed" in warning for warning in found.warnings)


def test_a_head_as_long_as_an_embedding_is_not_turned(tmp_path: Path) -> None:
    tensors = {HEAD: Spec(), EMBEDDING: Spec(), "other.wte.weight": Spec((COLUMNS, ROWS))}
    assert find(tmp_path, tensors, {}).location.strides is None


def test_the_head_of_a_drafter_is_not_doubted(tmp_path: Path) -> None:
    tensors = {HEAD: Spec((30, COLUMNS)), EMBEDDING: Spec(), f"model.{LAYER}": Spec()}
    found = find(tmp_path, tensors, TIED_STRANGER | {"draft_vocab_size": 30})
    assert (found.name, found.rows_are_not_tokens is None) == (HEAD, False)
