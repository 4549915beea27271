"""For every architecture that transformers builds, the bytes found are its output embedding, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from job.checkpoints.head.architecture import ask_model_class
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.head.weights import open_weights
from job.checkpoints.sources.folder import open_folder
from job.errors import NoUnembedding
from tests.zoo.builder import PLANTED, architectures, build_small, is_an_embedding, output_embedding
from tests.zoo.overrides import (
    NEVER_TIED,
    NOT_BUILDABLE,
    OVERRIDES,
    TIED_UNDER_THE_NAME_OF_THE_HEAD,
    WITHOUT_OUTPUT_EMBEDDING,
)
from tests.zoo.transformers_4 import save_as_transformers_4

pytestmark = [
    # What transformers itself does while it builds: layers without elements, complex buffers cast to bfloat16.
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
]

ALL = architectures()
WITH_HEAD = [name for name in ALL if name not in NOT_BUILDABLE and name not in WITHOUT_OUTPUT_EMBEDDING]

logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as transformers has it


@pytest.mark.parametrize(
    ("architecture", "tied"),
    [
        pytest.param(name, tied, id=f"{name}-{'tied' if tied else 'untied'}")
        for name in WITH_HEAD
        for tied in (True, False)
        if not (tied and name in NEVER_TIED)
    ],
)
def test_the_bytes_found_are_the_output_embedding(
    architecture: str, tied: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("architecture", architecture)
    # One file of float32 where tied, several shards of bfloat16 where not.
    dtype = torch.float32 if tied else torch.bfloat16
    model = build_small(architecture, tied=tied, dtype=dtype)
    model.save_pretrained(tmp_path, max_shard_size="1GB" if tied else "20KB")
    expected = output_embedding(model)
    assert expected is not None

    found = find_unembedding(open_folder(tmp_path), None)

    location = found.location
    stored = (tmp_path / location.file).read_bytes()[location.begin : location.end]
    assert (location.dtype, location.shape) == ("F32" if tied else "BF16", tuple(expected.shape))
    assert stored == expected.detach().contiguous().view(torch.uint8).numpy().tobytes()
    rows = torch.frombuffer(bytearray(stored), dtype=torch.uint8).view(len(expected), -1)
    assert all(rows[row].equal(rows[group[0]]) for group in PLANTED for row in group)
    assert found.tied == (is_an_embedding(expected, model) and architecture not in TIED_UNDER_THE_NAME_OF_THE_HEAD)

    save_as_transformers_4(tmp_path, model, tmp_path / "transformers_4")
    as_bin = find_unembedding(open_folder(tmp_path / "transformers_4"), None).location
    assert stored == (tmp_path / "transformers_4" / as_bin.file).read_bytes()[as_bin.begin : as_bin.end]
    assert (as_bin.dtype, as_bin.shape, as_bin.strides) == (location.dtype, location.shape, None)
    assert as_bin.file.endswith(".bin")


@pytest.mark.parametrize("architecture", WITH_HEAD)
def test_the_model_class_alone_finds_what_the_names_tell(architecture: str, tmp_path: Path) -> None:
    build_small(architecture, tied=architecture not in NEVER_TIED).save_pretrained(tmp_path)
    checkpoint = open_folder(tmp_path)

    answer = ask_model_class(json.loads((tmp_path / "config.json").read_bytes()), open_weights(checkpoint).names)

    assert (answer.stored_head or answer.stored_embeddings)[0] == find_unembedding(checkpoint, None).name


@pytest.mark.parametrize("architecture", sorted(name for name in WITHOUT_OUTPUT_EMBEDDING if name in ALL))
def test_an_architecture_without_output_embedding_is_refused_or_found_by_name(
    architecture: str, tmp_path: Path
) -> None:
    model = build_small(architecture, tied=False)
    assert output_embedding(model) is None
    model.save_pretrained(tmp_path)
    parameter = WITHOUT_OUTPUT_EMBEDDING[architecture]
    if parameter is None:
        with pytest.raises(NoUnembedding, match="has no output embedding"):
            find_unembedding(open_folder(tmp_path), None)
    else:
        location = find_unembedding(open_folder(tmp_path), None).location
        stored = (tmp_path / location.file).read_bytes()[location.begin : location.end]
        assert stored == model.get_parameter(parameter).detach().numpy().tobytes()


@pytest.mark.parametrize("architecture", sorted(NOT_BUILDABLE))
def test_what_is_listed_as_not_buildable_still_is_not(architecture: str) -> None:
    with pytest.raises((ImportError, ValueError, StrictDataclassError)):
        build_small(architecture, tied=False)


def test_every_exception_is_of_an_architecture_that_exists() -> None:
    assert {*NOT_BUILDABLE, *WITHOUT_OUTPUT_EMBEDDING, *NEVER_TIED, *OVERRIDES} <= set(ALL)
