"""The files of one survey: their tensors as bytes, and the bytes of rows, each checked against the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from black_hole_survey.errors import CorruptArtifact, NotPublished, QuantisedW
from black_hole_survey.manifest import Artifact, Manifest
from black_hole_survey.store import Range, Store
from black_hole_survey.tensors import FLOATS, StoredTensor, join_limited, parse_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARTIFACTS: Final = {
    "W": "W",
    "mu": "mu",
    "gamma_centered": "gamma_centered",
    "black_hole_mask": "black_holes",
    "black_hole_id": "black_holes",
    "black_hole_centroids": "black_holes",
    "valid_ids": "valid_ids",
    "coordinates": "projection",
    "directions": "projection",
    "explained_variance": "projection",
    "covariance": "covariance",
    "eigenvalues": "covariance",
}
"""The published file that holds a tensor, by the tensor's name."""


@dataclass(frozen=True)
class SurveyFiles:
    """What a manifest names, in the store that it lies in."""

    store: Store
    manifest: Manifest

    @property
    def survey(self) -> str:
        """``org/name@commit``."""
        return f"{self.manifest['model']}@{self.manifest['commit']}"

    @property
    def shape(self) -> tuple[int, int]:
        """W's rows and columns."""
        n_rows, hidden_size = self.manifest["tensor"]["shape"]
        return n_rows, hidden_size

    @property
    def dtype(self) -> str:
        """W's dtype."""
        return self.manifest["tensor"]["dtype"]

    def artifact(self, name: str) -> Artifact:
        """A published file by its name in the manifest.

        Raises:
            NotPublished: the survey has none of this name.
        """
        artifacts = self.manifest["artifacts"]
        if name not in artifacts and name == "valid_ids" and "tokens" in artifacts:
            reason = self.manifest["tokenizer"].get("unusable", "it has no tokenizer")
            raise NotPublished(
                f"{self.survey}: found no valid_ids ({reason}), expected a tokenizer that can be read; take the rows' "
                "norms and holes from tokens"
            )
        if name not in artifacts:
            setting = "tokens" if name in ("dead_tokens", "valid_ids") else name
            raise NotPublished(
                f"{self.survey}: found {join_limited(artifacts)}, expected {name}; an earlier version of the job "
                f"did not publish it, or TENSORS left it out: survey the model again with {setting} among the TENSORS"
            )
        return artifacts[name]

    def url(self, name: str) -> str:
        """Where a published file lies, for people."""
        return self.store.url(self.artifact(name)["key"])

    def load(self, name: str) -> memoryview:
        """All bytes of a published file. Writing to them does not change the file."""
        artifact = self.artifact(name)
        return self.store.load(artifact["key"], artifact["size"])

    def load_tensors(self, name: str) -> tuple[memoryview, dict[str, StoredTensor]]:
        """All bytes of a published safetensors file, and the tensors in them.

        Raises:
            CorruptArtifact: it is no such file, or its tensors are not as the manifest says.
        """
        content = self.load(name)
        tensors = parse_header(content, self.url(name))
        for each, tensor in tensors.items():
            expected = self._expected(each, tensor)
            if (tensor.dtype, tensor.shape) != expected:
                raise CorruptArtifact(
                    f"{self.url(name)}: found {each} as {tensor.dtype} {list(tensor.shape)}, expected {expected[0]} "
                    f"{list(expected[1])} by the manifest; publish the survey again"
                )
        return content, tensors

    def row_bytes(self, matrix: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The bytes of rows of ``W`` or ``gamma_centered``, [len(ids), bytes of a row]. The ids are ascending, each
        there once; those that follow each other are read as one range.

        The file of such a matrix holds no other tensor, so its rows are the last bytes of the file, and its header need
        not be fetched.
        """
        import numpy as np

        artifact, n_rows = self.artifact(matrix), self.shape[0]
        row_nbytes = StoredTensor(self.dtype_of(matrix), self.shape[1:]).nbytes
        begin = artifact["size"] - n_rows * row_nbytes
        if begin < 8:
            raise CorruptArtifact(
                f"{self.url(matrix)}: found a size of {artifact['size']:,} bytes in the manifest, expected more than "
                f"{n_rows:,} rows of {row_nbytes:,}; publish the survey again"
            )
        content = np.empty((len(ids), row_nbytes), np.uint8)
        bounds = [*np.flatnonzero(np.diff(ids, prepend=-2) != 1).tolist(), len(ids)]
        ranges = [
            Range(begin + int(ids[start]) * row_nbytes, content[start:end].reshape(-1).data)
            for start, end in pairwise(bounds)
        ]
        self.store.fill(artifact["key"], artifact["size"], ranges)
        return content

    def dtype_of(self, matrix: str) -> str:
        """The dtype of ``W`` or ``gamma_centered``.

        Raises:
            QuantisedW: it is no dtype of numbers.
        """
        if matrix == "gamma_centered":
            return "F32"
        if matrix != "W":
            raise ValueError(f"{self.survey}: found the matrix {matrix!r}, expected 'W' or 'gamma_centered'")
        if self.dtype not in FLOATS:
            raise QuantisedW(
                f"{self.survey}: found W quantised as {self.dtype}, expected a matrix of numbers; take gamma_centered "
                '+ mu for its numbers in float32, or tensor("W") for the stored bytes'
            )
        return self.dtype

    def _expected(self, name: str, found: StoredTensor) -> tuple[str, tuple[int, ...]]:
        n_rows, hidden_size = self.shape
        is_quantised = self.dtype not in FLOATS
        match name:
            case "W":
                return ("U8", (n_rows, *found.shape[1:])) if is_quantised else (self.dtype, self.shape)
            case "gamma_centered":
                return "F32", self.shape
            case "mu":
                return "F32", (hidden_size,)
            case "black_hole_mask" | "valid_ids":
                return "BOOL", (n_rows,)
            case "black_hole_id":
                return found.dtype, (n_rows,)
            case "black_hole_centroids":
                return "F32" if is_quantised else self.dtype, (*found.shape[:1], hidden_size)
            case _:
                return found.dtype, found.shape
