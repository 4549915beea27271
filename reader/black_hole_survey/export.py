"""Writes the layouts that notebooks of this field load. Rows pass through memory in blocks, whatever W's size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from black_hole_survey.errors import ExportRefused
from black_hole_survey.tensors import StoredTensor, header, to_float32

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from black_hole_survey.files import SurveyFiles

Layout = Literal["workshop", "azimuth"]
Blocks: TypeAlias = "Iterable[memoryview]"
BLOCK_NBYTES: Final = 1 << 26


@dataclass(frozen=True)
class Content:
    """A tensor to write: what it is, and its bytes in blocks."""

    tensor: StoredTensor
    blocks: Callable[[], Blocks]


def slug(model: str) -> str:
    """What files of a model are called: ``Qwen/Qwen3-4B-Instruct-2507`` → ``qwen3_4b_instruct_2507``."""
    name = model.rpartition("/")[2].lower()
    return "".join(character if character.isalnum() else "_" for character in name)


def export_survey(survey: SurveyFiles, folder: Path, layout: Layout) -> list[Path]:
    """Write the files of a layout into a folder, and return their paths. Files of this survey are written anew; no
    other file is replaced.

    Raises:
        ExportRefused: a file of another origin has such a name.
    """
    contents = _contents(survey, layout)
    manifest = survey.manifest
    metadata = {"model": manifest["model"], "commit": manifest["commit"], "w_sha256": manifest["w_sha256"]}
    paths = [folder / f"{name}.safetensors" for name in contents]
    for path in paths:
        found = _metadata(path) if path.exists() else metadata
        if found != metadata:
            origin = (
                f"a file of {found['model']}@{found['commit']}"
                if {"model", "commit"} <= found.keys()
                else "another file"
            )
            raise ExportRefused(
                f"{path}: found {origin}, expected none or one of {survey.survey}; export into another folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, contents.values(), strict=True):
        _write(path, content, metadata)
    return paths


def _contents(survey: SurveyFiles, layout: Layout) -> dict[str, dict[str, Content]]:
    """The files of a layout by name, each with its tensors."""
    name = slug(survey.manifest["model"])
    holes = _small(survey, "black_holes")
    survey.artifact("W")  # now, because it is refused if it is missing, before anything is written
    if layout == "workshop":
        w = Content(StoredTensor(survey.dtype, survey.shape), lambda: (block.data for block in _rows(survey, "W")))
        return {name: {"W": w, **holes}}
    if layout == "azimuth":
        survey.artifact("gamma_centered")
        float32 = StoredTensor("F32", survey.shape)
        gamma = Content(float32, lambda: (to_float32(block, survey.dtype).data for block in _rows(survey, "W")))
        centered = Content(float32, lambda: (block.data for block in _rows(survey, "gamma_centered")))
        return {
            f"gamma_{name}": {"gamma": gamma},
            f"gamma_centered_{name}": {"gamma_centered": centered},
            "gamma_centroid_mu": _small(survey, "mu"),
            "black_hole_mask": {"mask": holes["black_hole_mask"]},
        }
    raise ValueError(f"layout: found {layout!r}, expected 'workshop' or 'azimuth'")


def _small(survey: SurveyFiles, name: str) -> dict[str, Content]:
    """The tensors of a small file, which is read at once."""
    content, tensors = survey.load_tensors(name)

    def bytes_of(tensor: StoredTensor) -> Blocks:
        return [content[tensor.begin : tensor.begin + tensor.nbytes]]

    return {each: Content(tensor, partial(bytes_of, tensor)) for each, tensor in tensors.items()}


def _rows(survey: SurveyFiles, matrix: str) -> Iterator[NDArray[np.uint8]]:
    """The rows of a matrix as bytes, in blocks."""
    import numpy as np

    n_rows, hidden_size = survey.shape
    step = max(1, BLOCK_NBYTES // (8 * max(1, hidden_size)))
    for begin in range(0, n_rows, step):
        yield survey.row_bytes(matrix, np.arange(begin, min(begin + step, n_rows)))


def _write(path: Path, contents: Mapping[str, Content], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, and rename it when it is whole."""
    head, order = header({name: content.tensor for name, content in contents.items()}, metadata)
    temp_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temp_path.open("wb") as file:
            file.write(head)
            for name in order:
                for block in contents[name].blocks():
                    file.write(block)
        temp_path.replace(path)
    finally:
        temp_path.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none or is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(min(length, 1 << 20)))
        return dict(entries["__metadata__"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
