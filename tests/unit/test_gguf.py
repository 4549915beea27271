"""Checkpoints that have only GGUF files: which file counts, which tensor is W, and what is published of it."""

import json
import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType, TokenType
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from entrypoint import main
from job.checkpoints.formats.gguf_rows import dequantised, is_dequantisable
from job.checkpoints.head.gguf_files import read_gguf
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint
from job.geometry.dedup import find_black_holes
from job.geometry.digests import xxh3_128
from job.geometry.measure import Measurement
from job.geometry.methods import Dedup
from job.geometry.rows import Encoding
from job.tokens.kinds.gguf_tokens import from_vocabulary
from job.tokens.tokenizer import Token
from tests.checkpoints import planted, recorded, write_checkpoint
from tests.ggufs import HIDDEN_SIZE, READABLE, Rows, planted_rows, write_gguf
from tests.surveys import survey_with_tensors

GROUPS = [[3, 9, 21], [10, 11]]


@pytest.mark.parametrize("dedup", ["byte-hash", "torch-unique"])
@pytest.mark.parametrize("dtype", [dtype for dtype in READABLE if dtype not in ("F32", "F16", "BF16")])
def test_a_quantised_head_is_published_as_stored_and_measured_as_the_package_dequantises_it(
    tmp_path: Path, dtype: str, dedup: str
) -> None:
    rows = planted_rows(dtype, 40, GROUPS)
    write_gguf(tmp_path / "model" / "model.gguf", {"output.weight": (rows, dtype)})
    manifest, tensors = survey_with_tensors(tmp_path / "model", tmp_path / "out", "--dedup", dedup)
    with np.errstate(all="ignore"):
        numbers = dequantize(rows, GGMLQuantizationType[dtype])
        mu = numbers.astype(np.float64).sum(axis=0) / len(numbers)
        assert torch.equal(tensors["W"], torch.from_numpy(rows))
        np.testing.assert_array_equal(tensors["mu"].numpy(), mu.astype(np.float32))
        np.testing.assert_array_equal(tensors["gamma_centered"].numpy(), numbers - mu.astype(np.float32))
    np.testing.assert_array_equal(tensors["black_hole_centroids"].numpy(), numbers[[3, 10]])
    assert [tensors["black_hole_id"][group].tolist() for group in GROUPS] == [[1, 1, 1], [2, 2]]
    assert (manifest["tensor"]["dtype"], manifest["tensor"]["shape"]) == (dtype, [40, HIDDEN_SIZE])
    assert any(f"W is quantised, as {dtype}" in warning for warning in manifest["warnings"])
    for name in ("W", "mu", "gamma_centered", "black_holes"):
        with safe_open(tmp_path / "out" / manifest["artifacts"][name]["key"], "pt") as file:
            assert file.metadata()["encoding"] == dtype


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_a_float_head_gives_the_bytes_that_it_gives_as_safetensors(tmp_path: Path, dtype: str) -> None:
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    w = planted(40, 8, GROUPS, kinds[dtype])
    write_gguf(tmp_path / "a" / "model.gguf", {"output.weight": (w.view(torch.uint8).numpy(), dtype)})
    write_checkpoint(tmp_path / "b", w)
    manifest, tensors = survey_with_tensors(tmp_path / "a", tmp_path / "out")
    other, others = survey_with_tensors(tmp_path / "b", tmp_path / "out")
    assert all(
        torch.equal(tensors[name], others[name]) and tensors[name].dtype == others[name].dtype for name in others
    )
    assert manifest["statistics"] == other["statistics"]
    with safe_open(tmp_path / "out" / manifest["artifacts"]["W"]["key"], "pt") as file:
        assert "encoding" not in file.metadata()


SPELLINGS = {
    "gpt2": ("Ġa", " a"),
    "gpt2-added": ("a b", "a b"),
    "gpt2-added-with-é": ("<|é|>", "<|é|>"),
    "gpt2-part-of-a-character": ("Ã", "�"),
    "llama": ("▁a▁b", " a b"),
    "llama-byte": ("<0x41>", "A"),
    "llama-part-of-a-character": ("<0xE6>", "�"),
    "bert": ("▁the", " the"),
    "unheard-of": ("Ġ▁", "Ġ▁"),
}


@pytest.mark.parametrize(("model", "spelled"), [(name.split("-")[0], case) for name, case in SPELLINGS.items()])
def test_tokens_are_spelled_as_their_model_says(model: str, spelled: tuple[str, str]) -> None:
    tokenizer = from_vocabulary(model, [spelled[0]])
    assert tokenizer.tokens([0, 1]) == [Token(0, *spelled), Token(1, None, None)]


@pytest.mark.parametrize(
    ("prefix", "kind"), [("token", "tokenizers WordLevel"), ("other", "gguf")], ids=["agrees", "contradicts"]
)
def test_a_tokenizer_json_beside_a_gguf_file_decodes_only_the_files_own_tokens(
    tmp_path: Path, prefix: str, kind: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", planted(2, 8, []), n_tokens=40)
    (checkpoint / "model.safetensors").unlink()
    rows = {"output.weight": (planted_rows("Q8_0", 40, GROUPS), "Q8_0")}
    write_gguf(checkpoint / "model.gguf", rows, tokens=[f"{prefix}{n}" for n in range(40)])
    manifest, _ = survey_with_tensors(checkpoint, tmp_path / "out")
    assert [token["piece"] for token in manifest["black_holes"][1]["tokens"]] == [f"{prefix}10", f"{prefix}11"]
    assert manifest["tokenizer"]["kind"] == kind


def test_a_broken_tokenizer_json_beside_a_gguf_file_does_not_cost_the_files_own_names(tmp_path: Path) -> None:
    rows = {"output.weight": (planted_rows("Q8_0", 40, GROUPS), "Q8_0")}
    write_gguf(tmp_path / "model" / "model.gguf", rows, tokens=[f"own{n}" for n in range(40)])
    (tmp_path / "model" / "tokenizer.json").write_text("[1, 2]")
    manifest, _ = survey_with_tensors(tmp_path / "model", tmp_path / "out")
    assert [token["piece"] for token in manifest["black_holes"][1]["tokens"]] == ["own10", "own11"]
    assert set(manifest["tokenizer"]["files"]) == {"model.gguf"}


def test_tokens_that_a_file_calls_added_are_plain_text(tmp_path: Path) -> None:
    tokens, types = ["Ã©", "Ã©", "Ã©"], [TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED]
    rows = {"output.weight": (planted_rows("Q8_0", 3, [[0, 1, 2]]), "Q8_0")}
    keys = {"tokenizer.ggml.model": "gpt2"}
    write_gguf(tmp_path / "model" / "model.gguf", rows, keys, tokens=tokens, token_types=types)
    manifest, _ = survey_with_tensors(tmp_path / "model", tmp_path / "out")
    assert [token["text"] for token in manifest["black_holes"][0]["tokens"]] == ["é", "Ã©", "Ã©"]


HEAD: tuple[Rows, str] = (planted_rows("BF16", 6), "BF16")
QUANTISED: tuple[Rows, str] = (planted_rows("Q8_0", 6), "Q8_0")
VECTOR: tuple[Rows, str] = (planted_rows("F32", 1)[0], "F32")

CHOICES = {
    "the-only-one": (["model-Q4_K_M.gguf"], "model-Q4_K_M.gguf"),
    "projector-beside": (["m.Q8_0.gguf", "mmproj-m-f16.gguf", "imatrix.gguf"], "m.Q8_0.gguf"),
    "f16-of-many": (["m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-f16.gguf"], "m-f16.gguf"),
    "bf16-before-f16": (["m.f16.gguf", "m.BF16.gguf", "m.q8_0.gguf"], "m.BF16.gguf"),
    "f32-before-bf16": (["m-bf16.gguf", "m-fp32.gguf"], "m-fp32.gguf"),
    "folders": (["Q4_0/m.gguf", "BF16/m.gguf"], "BF16/m.gguf"),
    "partly-quantised": (["m.f16.q6.gguf", "m.f16.gguf"], "m.f16.gguf"),
}


@pytest.mark.parametrize(("files", "chosen"), CHOICES.values(), ids=CHOICES)
def test_of_several_models_the_one_that_is_not_quantised_is_taken(
    tmp_path: Path, files: list[str], chosen: str
) -> None:
    for file in files:
        write_gguf(tmp_path / file, {"output.weight": HEAD})
    found = find_unembedding(open_folder(tmp_path), None)
    assert (found.location.file, found.name, found.tied) == (chosen, "output.weight", False)


AMBIGUOUS = {
    "quantised-only": ["m-Q4_K_M.gguf", "m-Q8_0.gguf"],
    "two-of-bf16": ["a-BF16.gguf", "b-BF16.gguf", "m-f16.gguf"],
    "no-hint": ["a.gguf", "b.gguf"],
}


@pytest.mark.parametrize("files", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_where_several_models_could_be_meant_the_message_lists_them_and_says_how_to_choose(
    tmp_path: Path, files: list[str]
) -> None:
    for file in files:
        write_gguf(tmp_path / file, {"output.weight": HEAD})
    with pytest.raises(NoUnembedding, match=f"{', '.join(files)}.*`file: {files[0]}` beside `model`"):
        find_unembedding(open_folder(tmp_path), None)
    assert find_unembedding(open_folder(tmp_path), None, files[1]).location.file == files[1]


def test_a_name_that_promises_bf16_over_a_quantised_head_does_not_decide(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-bf16.gguf", {"output.weight": QUANTISED})
    write_gguf(tmp_path / "m-Q8_0.gguf", {"output.weight": QUANTISED})
    with pytest.raises(NoUnembedding, match="found 2 GGUF models"):
        find_unembedding(open_folder(tmp_path), None)


def test_a_list_names_files_and_the_survey_of_each_has_its_place(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model" / "a.gguf", {"output.weight": QUANTISED})
    write_gguf(tmp_path / "model" / "b.gguf", {"output.weight": HEAD})
    write_gguf(tmp_path / "model" / "c.gguf", {"output.weight": (planted_rows("F16", 6), "F16")})
    models = tmp_path / "models.yaml"
    models.write_text("".join(f"- model: {tmp_path / 'model'}\n  file: {file}.gguf\n" for file in "abcab"))
    for _ in range(2):  # the second run finds all where the first has left them
        assert main(["--models-file", str(models), "--output", str(tmp_path / "out")]) == 0
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("manifest.json")]
    assert sorted((each["tensor"]["file"], each["tensor"]["dtype"]) for each in manifests) == [
        ("a.gguf", "Q8_0"),
        ("b.gguf", "BF16"),
        ("c.gguf", "F16"),
    ]
    assert all(each["tensor"]["chosen_by_user"] for each in manifests)
    published = [load_file(tmp_path / "out" / each["artifacts"]["W"]["key"])["W"].dtype for each in manifests]
    assert set(published) == {torch.uint8, torch.bfloat16, torch.float16}


def test_a_file_is_honoured_for_safetensors_too_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, planted(6, 8, []))
    save_file({"lm_head.weight": planted(7, 8, [])}, tmp_path / "other.safetensors")
    assert find_unembedding(open_folder(tmp_path), None, "other.safetensors").location.shape == (7, 8)
    with pytest.raises(NoUnembedding, match=r"no file 'othr.safetensors', .* such as other.safetensors"):
        find_unembedding(open_folder(tmp_path), None, "othr.safetensors")
    with pytest.raises(NoUnembedding, match=r"no file 'other.gguf'"):
        find_unembedding(open_folder(tmp_path), None, "other.gguf")


def test_a_gguf_file_beside_safetensors_is_taken_only_where_it_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, planted(6, 8, []))
    write_gguf(tmp_path / "model.gguf", {"output.weight": QUANTISED})
    assert find_unembedding(open_folder(tmp_path), None).location.file == "model.safetensors"
    assert find_unembedding(open_folder(tmp_path), None, "model.gguf").location.dtype == "Q8_0"


def split(folder: Path) -> Path:
    """A model in three parts: embedding, head, and something else."""
    tensors = {"token_embd.weight": QUANTISED, "output.weight": HEAD, "output_norm.weight": VECTOR}
    write_gguf(folder / "m.gguf", tensors, tokens=["a", "b"], tensors_in_a_part=1)
    return folder


def test_parts_are_one_model_and_w_may_be_in_any_of_them(tmp_path: Path) -> None:
    found = find_unembedding(open_folder(split(tmp_path)), None)
    assert found.location.file == "m-00002-of-00003.gguf"
    assert not found.tied
    assert found.vocabulary
    assert (found.vocabulary.file, found.vocabulary.tokens) == ("m-00001-of-00003.gguf", ("a", "b"))
    content = (tmp_path / found.location.file).read_bytes()[found.location.begin : found.location.end]
    assert content == HEAD[0].tobytes()
    assert find_unembedding(open_folder(tmp_path), None, "m-00003-of-00003.gguf") == found


def test_a_part_that_is_missing_is_not_taken_for_a_tied_head(tmp_path: Path) -> None:
    (split(tmp_path) / "m-00002-of-00003.gguf").unlink()
    with pytest.raises(
        CorruptCheckpoint, match="found 2 parts, expected parts 1 to 3; check that the upload is complete"
    ):
        find_unembedding(open_folder(tmp_path), None)


def test_a_part_under_another_name_is_not_taken_for_a_whole_model(tmp_path: Path) -> None:
    first = split(tmp_path / "parts") / "m-00001-of-00003.gguf"
    (tmp_path / "alone").mkdir()
    shutil.copy(first, tmp_path / "alone" / "model.gguf")
    with pytest.raises(CorruptCheckpoint, match="found 1 parts with 1 tensors, expected 3 with 3"):
        find_unembedding(open_folder(tmp_path / "alone"), None)


def test_a_tensor_in_two_parts_is_corrupt(tmp_path: Path) -> None:
    split(tmp_path)
    head = (tmp_path / "m-00002-of-00003.gguf").read_bytes()
    (tmp_path / "m-00003-of-00003.gguf").write_bytes(head)
    with pytest.raises(CorruptCheckpoint, match="found a tensor in several of its 3 parts"):
        find_unembedding(open_folder(tmp_path), None)


def test_a_file_that_is_not_there_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"found no such file; .* download the missing files"):
        read_gguf(open_folder(split(tmp_path)), "gone.gguf")


REFUSED = {
    "bert": ("bert", {"token_embd.weight": HEAD}, {}, NoUnembedding, "a bert model that has no head"),
    "pooled": (
        "qwen3",
        {"token_embd.weight": HEAD},
        {"qwen3.pooling_type": 3},
        NoUnembedding,
        "qwen3 model that pools",
    ),
    "projector": ("clip", {"v.x": HEAD}, {"general.type": "mmproj"}, NoUnembedding, "found a file of type 'mmproj'"),
    "adapter": ("llama", {"x": HEAD}, {"general.type": "adapter"}, NoUnembedding, "found a file of type 'adapter'"),
    "nothing": ("llama", {"blk.0.x": HEAD}, {}, NoUnembedding, "neither output.weight nor token_embd.weight among 1"),
    "vector": ("llama", {"output.weight": VECTOR}, {}, NoUnembedding, "found shape [512], expected a matrix"),
    "not-readable": (
        "llama",
        {"output.weight": (np.zeros((6, 40), np.uint8), "Q8_1")},
        {},
        UnsupportedCheckpoint,
        "stored as Q8_1",
    ),
}


@pytest.mark.parametrize(("architecture", "tensors", "keys", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_unembedding_is_refused_with_what_was_found(
    tmp_path: Path,
    architecture: str,
    tensors: dict[str, tuple[Rows, str]],
    keys: dict[str, int | float | bool | str],
    error: type[Exception],
    message: str,
) -> None:
    write_gguf(tmp_path / "m.gguf", tensors, keys, architecture=architecture)
    with pytest.raises(error) as refused:
        find_unembedding(open_folder(tmp_path), None)
    assert message in str(refused.value)


def test_a_tensor_that_is_named_is_taken_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"token_embd.weight": HEAD, "output.weight": QUANTISED}, architecture="bert")
    found = find_unembedding(open_folder(tmp_path), "token_embd.weight")
    assert (found.name, found.tied, found.reason) == ("token_embd.weight", False, "token_embd.weight was asked for")
    with pytest.raises(NoUnembedding, match=r"found no tensor 'lm_head.weight'.* such as output.weight"):
        find_unembedding(open_folder(tmp_path), "lm_head.weight")


def test_what_a_reader_should_know_is_a_warning(tmp_path: Path) -> None:
    f16 = (planted_rows("F16", 6), "F16")
    tensors = {"output.weight": f16, "output.bias": VECTOR}
    write_gguf(tmp_path / "m.gguf", tensors, {"gemma2.final_logit_softcapping": 30.0}, architecture="gemma2")
    warnings = find_unembedding(open_folder(tmp_path), None).warnings
    assert ["F16" in warnings[0], "output.bias" in warnings[1], "is 30.0" in warnings[2]] == [True, True, True]


def test_headers_are_read_in_few_steps_whatever_their_length(tmp_path: Path) -> None:
    tokens = [f"token number {n}" for n in range(200_000)]
    rows = planted_rows("F32", 4000)
    path = write_gguf(tmp_path / "m.gguf", {"output.weight": (rows, "F32")}, tokens=tokens)
    folder, ranges = recorded(open_folder(tmp_path))
    vocabulary = read_gguf(folder, "m.gguf").vocabulary
    assert vocabulary
    assert vocabulary.tokens == tuple(tokens)
    assert ranges[0] == ("m.gguf", 0, 1 << 20)
    assert all(begin == before for (_, _, before), (_, begin, _) in pairwise(ranges))
    assert len(ranges) <= 4
    assert ranges[-1][1] <= 2 * (path.stat().st_size - rows.nbytes)


def test_the_package_is_asked_which_types_it_can_dequantise() -> None:
    found = {kind.name for kind in GGMLQuantizationType if is_dequantisable(kind.name)}
    assert found >= set(READABLE)
    assert not found & {"Q8_1", "Q8_K", "I8", "I64"}
    assert not is_dequantisable("ggml type 4")


@st.composite
def quantised_matrices(draw: st.DrawFn) -> tuple[Rows, str]:
    """Stored rows of any bytes, among them blocks whose scale is 0 or NaN, with groups that are alike."""
    dtype = draw(st.sampled_from(["Q4_0", "Q8_0", "Q5_1"]))
    nbytes = {"Q4_0": 18, "Q8_0": 34, "Q5_1": 24}[dtype]
    scale = st.sampled_from([b"\x00\x00", b"\x00\x80", b"\x00\x3c", b"\xff\xff"]) | st.binary(min_size=2, max_size=2)
    quants = st.binary(min_size=nbytes - 2, max_size=nbytes - 2) | st.just(bytes(nbytes - 2))
    pool = draw(st.lists(st.builds(bytes.__add__, scale, quants), min_size=1, max_size=8))
    rows = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=40))
    return np.frombuffer(bytearray(b"".join(rows)), np.uint8).reshape(len(rows), -1), dtype


@given(quantised_matrices(), st.sampled_from(["byte-hash", "torch-unique"]), st.integers(1, 2000))
def test_quantised_rows_are_grouped_by_bytes_and_counted_by_the_numbers_they_stand_for(
    matrix: tuple[Rows, str], dedup: Dedup, block_nbytes: int
) -> None:
    rows, dtype = matrix
    encoding = Encoding(dtype, lambda block: dequantised(block, dtype))
    measurement = Measurement(len(rows), 32, encoding, xxh3_128(seed=0))
    rows_per_block = max(1, block_nbytes // rows.shape[1])
    for first in range(0, len(rows), rows_per_block):
        measurement.add(rows[first : first + rows_per_block])
    by_bytes, by_numbers = defaultdict(list), defaultdict(list)
    for index, (row, numbers) in enumerate(zip(rows, dequantised(rows, dtype).tolist(), strict=True)):
        by_bytes[row.tobytes()].append(index)
        by_numbers[index if any(number != number for number in numbers) else tuple(numbers)].append(index)
    found = find_black_holes(measurement, lambda ids: rows[ids], rows.shape[1], dedup)
    for holes, groups in zip(found, (by_bytes, by_numbers), strict=True):
        expected = sorted((group for group in groups.values() if len(group) > 1), key=lambda group: -len(group))
        assert sorted(members.tolist() for members in holes.members()) == sorted(expected)
