"""Every way that a checkpoint is laid out ends in the right bytes of W, or in a refusal that says what to do."""

from pathlib import Path

import pytest
import torch

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.head.names import HEADS
from job.checkpoints.head.unembedding import find_unembedding
from tests.zoo.layouts import COLUMNS, LAYOUTS, ROWS, UNKNOWN, Layout, filled

FOUND = {name: layout for name, layout in LAYOUTS.items() if layout.w}
REFUSED = {name: layout for name, layout in LAYOUTS.items() if layout.refusal}


def read(folder: Path, location: TensorLocation) -> torch.Tensor:
    """The matrix that a location stands for, from the file itself, (n_rows, hidden_size) bfloat16."""
    content = bytearray((folder / location.file).read_bytes()[location.begin : location.end])
    stored = torch.frombuffer(content, dtype=torch.bfloat16)
    return stored.as_strided(location.shape, location.strides or (location.shape[1], 1))


@pytest.mark.parametrize("layout", FOUND.values(), ids=FOUND)
def test_w_is_found(layout: Layout, tmp_path: Path) -> None:
    found = find_unembedding(layout.write(tmp_path), None)

    location = found.location
    assert (found.name, location.file, location.dtype) == (layout.w, layout.file, "BF16")
    assert (found.tie, location.shape) == (layout.tie, layout.shape)
    assert (location.strides is not None) == layout.by_columns
    expected = filled(layout.file, layout.files[layout.file])[found.name]
    assert torch.equal(read(tmp_path, location), expected.T if location.strides else expected)
    for words in layout.says:
        assert words in "\n".join(found.warnings)
    assert found.tie_evidence


@pytest.mark.parametrize("layout", REFUSED.values(), ids=REFUSED)
def test_what_holds_no_single_w_is_refused_and_the_refusal_says_why(layout: Layout, tmp_path: Path) -> None:
    checkpoint = layout.write(tmp_path)
    assert layout.refusal is not None
    with pytest.raises(layout.refusal) as refusal:
        find_unembedding(checkpoint, None)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path}: ")
    assert ";" in message
    for words in layout.says:
        assert words in message


PAIRS = [(head, embedding) for head, embeddings in HEADS.items() for embedding in embeddings]


@pytest.mark.parametrize(("head", "embedding"), PAIRS, ids=lambda name: str(name))
def test_every_pair_of_the_table_of_names_is_told_apart_and_tied(head: str, embedding: str, tmp_path: Path) -> None:
    both = Layout({"model.safetensors": (embedding, head)}, settings=UNKNOWN).write(tmp_path / "both")
    found = find_unembedding(both, None)
    assert (found.name, found.tie) == (head, "untied")
    assert f"{head} and {embedding} are both stored and differ" in found.tie_evidence

    tied = Layout({"model.safetensors": (embedding,)}, settings=UNKNOWN | {"tie_word_embeddings": True})
    found = find_unembedding(tied.write(tmp_path / "tied"), None)
    assert (found.name, found.tie) == (embedding, "tied")


def test_a_layout_is_either_found_or_refused_and_its_matrices_differ() -> None:
    assert all((layout.w is None) != (layout.refusal is None) for layout in LAYOUTS.values())
    one, other = filled("model.safetensors", ("a", "b")).values()
    assert one.shape == (ROWS, COLUMNS)
    assert not torch.equal(one, other)
