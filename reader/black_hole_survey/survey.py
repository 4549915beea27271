"""One published survey: its tensors, rows, tokens and manifest, each read when it is first asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from black_hole_survey.errors import NotPublished
from black_hole_survey.export import Layout, export_survey
from black_hole_survey.files import ARTIFACTS, SurveyFiles
from black_hole_survey.manifest import Manifest
from black_hole_survey.store import Store
from black_hole_survey.tables import AnyTable, TableLibrary, read_parquet
from black_hole_survey.tensors import AnyTensor, Framework, StoredTensor, from_bytes, join_limited
from black_hole_survey.verify import verify_artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DeadTokens(TypedDict):
    """What dead_tokens.json says: lists of ids by name, null where it cannot be told, and a definition of each."""

    schema_version: int
    model: str
    commit: str
    n_rows: int
    n_tokens: int | None
    w_sha256: str
    ids: dict[str, list[int] | None]
    definitions: dict[str, str]


class Survey:
    """One survey. A tensor is read when it is first asked for, and then kept: the same object each time."""

    def __init__(self, store: Store, manifest: Manifest, framework: Framework) -> None:
        self.manifest = manifest
        self._files = SurveyFiles(store, manifest)
        self._framework: Framework = framework
        self._loaded: dict[str, tuple[memoryview, dict[str, StoredTensor]]] = {}
        self._tensors: dict[str, AnyTensor] = {}

    def __repr__(self) -> str:
        n_holes = self.manifest["statistics"]["black_holes"]
        return f"Survey({self.name!r}, W [{self.n_rows}, {self.hidden_size}] {self.dtype}, {n_holes} black holes)"

    @property
    def name(self) -> str:
        """``org/name@commit``."""
        return self._files.survey

    @property
    def n_rows(self) -> int:
        """The number of W's rows, one for each token id."""
        return self._files.shape[0]

    @property
    def hidden_size(self) -> int:
        """The number of W's columns."""
        return self._files.shape[1]

    @property
    def dtype(self) -> str:
        """How the checkpoint stores W, by safetensors' names; or the name of a ggml type, such as ``Q8_0``."""
        return self._files.dtype

    @property
    def W(self) -> AnyTensor:  # noqa: N802 - the name of the matrix
        """The unembedding matrix, [n_rows, hidden_size], byte for byte as the checkpoint stores it.

        Raises:
            QuantisedW: it is stored quantised. ``tensor("W")`` has its bytes.
        """
        self._files.dtype_of("W")
        return self.tensor("W")

    @property
    def mu(self) -> AnyTensor:
        """The centroid of W's rows, [hidden_size] float32."""
        return self.tensor("mu")

    @property
    def gamma_centered(self) -> AnyTensor:
        """γ′ = W − mu, [n_rows, hidden_size] float32."""
        return self.tensor("gamma_centered")

    @property
    def black_hole_mask(self) -> AnyTensor:
        """Whether a row is bit-for-bit identical to another one, [n_rows] bool."""
        return self.tensor("black_hole_mask")

    @property
    def black_hole_id(self) -> AnyTensor:
        """0 for rows in no hole, 1 for those in the largest one, and so on, [n_rows] uint8; int32 for many holes."""
        return self.tensor("black_hole_id")

    @property
    def black_hole_centroids(self) -> AnyTensor:
        """The row that the members of a hole share, [number of holes, hidden_size]: that of hole 1 comes first."""
        return self.tensor("black_hole_centroids")

    @property
    def valid_ids(self) -> AnyTensor:
        """Whether a sampler may emit this id, [n_rows] bool."""
        return self.tensor("valid_ids")

    @property
    def covariance(self) -> AnyTensor:
        """The covariance of W's rows, [hidden_size, hidden_size] float64."""
        return self.tensor("covariance")

    @property
    def eigenvalues(self) -> AnyTensor:
        """The eigenvalues of the covariance, [hidden_size] float64."""
        return self.tensor("eigenvalues")

    @property
    def projection(self) -> tuple[AnyTensor, AnyTensor, AnyTensor]:
        """Coordinates of the rows, the directions that they are coordinates of, and the variance each explains."""
        return self.tensor("coordinates"), self.tensor("directions"), self.tensor("explained_variance")

    def tensor(self, name: str) -> AnyTensor:
        """A published tensor by its name. From a folder its file is mapped into memory; from S3 it is fetched whole.

        Raises:
            NotPublished: the survey has no such tensor.
            CorruptArtifact: the file is not what the manifest says.
            MissingPackage: it is BF16, for numpy, without ml_dtypes.
        """
        if name not in self._tensors:
            artifact = ARTIFACTS.get(name, name)
            published = self.manifest["artifacts"].get(artifact)
            if name not in ARTIFACTS and not (published and published["key"].endswith(".safetensors")):
                raise NotPublished(
                    f"{self.name}: found no tensor {name!r}, expected one of {', '.join(ARTIFACTS)}; ask for one "
                    "of them"
                )
            if artifact not in self._loaded:
                self._loaded[artifact] = self._files.load_tensors(artifact)
            content, tensors = self._loaded[artifact]
            where = self._files.url(artifact)
            if name not in tensors:
                raise NotPublished(f"{where}: found {join_limited(tensors)}, expected {name}; ask for one of them")
            self._tensors[name] = from_bytes(content, tensors[name], self._framework, where)
        return self._tensors[name]

    def rows(self, ids: Iterable[int], of: str = "W") -> AnyTensor:
        """These rows of ``W`` or ``gamma_centered``, in this order, [len(ids), hidden_size]. Nothing else is read:
        rows that lie one after another come as one range.

        Args:
            ids: token ids; or a mask of booleans, one for each row.
            of: ``W`` or ``gamma_centered``.

        Raises:
            IndexError: an id is not that of a row.
            QuantisedW: W is stored quantised.
            CorruptArtifact: the file is not what the manifest says.
        """
        import numpy as np

        wanted = self._checked_ids(ids)
        stored = StoredTensor(self._files.dtype_of(of), (len(wanted), self.hidden_size))
        unique, places = np.unique(wanted, return_inverse=True)
        content = self._files.row_bytes(of, unique)[places].reshape(-1).data
        return from_bytes(content, stored, self._framework, self._files.url(of))

    @cached_property
    def tokens(self) -> AnyTable:
        """What every row stands for, a table with a row for each of W's: see ``read_tokens``."""
        return self.read_tokens()

    def read_tokens(self, library: TableLibrary | None = None, columns: Sequence[str] | None = None) -> AnyTable:
        """The table of tokens, or only some of its columns, read anew.

        Args:
            library: ``pandas``, ``polars`` or ``arrow``; None for the first of them that is installed.

        Raises:
            NotPublished: the survey has no table of tokens, or the table has no such column.
            MissingPackage: the library is not installed.
            CorruptArtifact: the file is not what the manifest says.
        """
        return read_parquet(self._files.load("tokens"), columns, library, self._files.url("tokens"))

    @cached_property
    def dead_tokens(self) -> DeadTokens:
        """Lists of ids: in black holes, unreachable, beyond the tokenizer, reserved; and how each is defined."""
        return cast("DeadTokens", json.loads(bytes(self._files.load("dead_tokens"))))

    def verify(self) -> None:
        """Check the size and the SHA-256 of every published file. Reads all of them.

        Raises:
            CorruptArtifact: a file is missing or differs.
        """
        for artifact in self.manifest["artifacts"].values():
            verify_artifact(self._files.store, artifact)

    def export(self, folder: str | Path, layout: Layout) -> list[Path]:
        """Write the files that notebooks of this field load, and return their paths.

        Args:
            layout: ``workshop``: one file with W and the black holes. ``azimuth``: W as float32, γ′, μ and the mask, a
                file each.

        Raises:
            QuantisedW: W is stored quantised.
            ExportRefused: a file of another origin has such a name.
            NotPublished: the survey lacks a tensor of the layout.
        """
        self._files.dtype_of("W")
        return export_survey(self._files, Path(folder), layout)

    def _checked_ids(self, ids: Iterable[int]) -> NDArray[np.int64]:
        import numpy as np

        found = np.asarray(list(ids) if isinstance(ids, Iterable) and not hasattr(ids, "__array__") else ids)
        if found.dtype == bool:
            if found.shape != (self.n_rows,):
                raise IndexError(f"{self.name}: found a mask of shape {found.shape}, expected ({self.n_rows},)")
            return np.flatnonzero(found)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise TypeError(
                f"{self.name}: found ids as {found.dtype} {found.shape}, expected a list of integers; for one row: [7]"
            )
        outside = found[(found < 0) | (found >= self.n_rows)]
        if outside.size:
            raise IndexError(
                f"{self.name}: found row {outside[0]}, expected 0 to {self.n_rows - 1}; leave out ids that are no rows"
            )
        return found.astype(np.int64)
