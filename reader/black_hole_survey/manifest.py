"""The manifest as types, for the fields that readers of surveys use; and how its bytes become one. No I/O.

Fields that these types do not name stay in the manifest as they are.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final, Literal, NotRequired, TypedDict, cast

from black_hole_survey.errors import InvalidManifest

SCHEMA_VERSION: Final = 1


class Artifact(TypedDict):
    """A published file."""

    key: str
    """Relative to the place of the surveys."""
    size: int
    sha256: str


class Tensor(TypedDict):
    """Which tensor of the checkpoint is W, and why."""

    name: str
    reason: str
    chosen_by_user: bool
    tied: bool
    tie: NotRequired[str]
    dtype: str
    """By safetensors' names; or the name of a ggml type, such as ``Q8_0``."""
    shape: list[int]
    """Rows (one for each token id), columns."""
    nbytes: int
    file: str
    begin: int
    end: int


class Norms(TypedDict):
    """A summary of norms. NaN and infinity are null."""

    mean: float | None
    std: float | None
    min: float | None
    median: float | None
    max: float | None


class CentroidSummary(Norms):
    """The norm of μ, and a summary of its components."""

    norm: float | None


class Statistics(TypedDict):
    """All numbers that the survey measured."""

    unique_rows: int
    duplicate_rows: int
    black_holes: int
    black_hole_tokens: int
    share_of_rows: float
    largest: int
    smallest: int
    mean_population: float | None
    median_population: float | None
    distribution: dict[str, int]
    """Population → number of holes with that population."""
    mu: CentroidSummary
    row_norm: Norms | None
    black_hole_row_norm: Norms | None
    gamma_centered_norm: Norms | None
    gamma_centered_norm_of_first_rows: list[float | None]


class Token(TypedDict):
    """A row of W and its token."""

    id: int
    piece: str | None
    text: str | None


class BlackHole(TypedDict):
    """Rows that are bit-for-bit identical."""

    id: int
    population: int
    row_norm: float | None
    tokens: list[Token]
    """At least the first rows; of very large surveys not all of them."""


class Tokenizer(TypedDict):
    """The tokenizer, or why the tokens have no names."""

    files: dict[str, str]
    kind: NotRequired[str]
    n_tokens: NotRequired[int]
    n_ids: NotRequired[int]
    rows_beyond: NotRequired[int]
    unusable: NotRequired[str]


class TokenCounts(TypedDict):
    """How many rows stand for what; null where it cannot be told."""

    classes: dict[str, int] | None
    dead_tokens: dict[str, int | None]
    valid_ids: int | None


class Tool(TypedDict):
    """The program that wrote the manifest."""

    name: str
    version: str


class Manifest(TypedDict):
    """The description of one survey."""

    schema_version: Literal[1]
    model: str
    commit: str
    source: NotRequired[str]
    revision: NotRequired[str | None]
    tensor: Tensor
    w_sha256: str
    statistics: Statistics
    black_holes: list[BlackHole]
    artifacts: dict[str, Artifact]
    pages: NotRequired[dict[str, str]]
    tokenizer: Tokenizer
    token_counts: NotRequired[TokenCounts | None]
    warnings: list[str]
    tool: NotRequired[Tool]
    published_at: str
    sequence: NotRequired[int]


def parse_manifest(content: bytes, where: str) -> Manifest:
    """The manifest that these bytes are. What the rest of this package relies on is checked.

    Raises:
        InvalidManifest: they are none, or one of a later schema, or one that names a file outside its place.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"{where}: found no JSON ({error}), expected a manifest; publish it again") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidManifest(
            f"{where}: found schema_version {version!r}, expected {SCHEMA_VERSION}; a later one needs a later version "
            "of this package"
        )
    for field, is_right in _CHECKS.items():
        if not is_right(value.get(field)):
            raise InvalidManifest(
                f"{where}: found no usable {field!r}, expected what a manifest has there; publish it again"
            )
    for artifact in value["artifacts"].values():
        checked_key(artifact["key"], where)
    # Earlier versions named the page with its hash, among the artifacts.
    if page := value["artifacts"].pop("report", None):
        value.setdefault("pages", {"report": page["key"]})
    return cast("Manifest", value)


def checked_key(key: str, where: str) -> str:
    """The same key, checked to lead to something below the place of the surveys.

    Raises:
        InvalidManifest: it leads elsewhere.
    """
    path = PurePath(key)  # by the rules of this system, which may know drives and other separators
    is_within = not path.is_absolute() and not path.drive and ".." not in path.parts
    if not is_within or "\0" in key or any(segment in ("", ".", "..") for segment in key.split("/")):
        raise InvalidManifest(
            f"{where}: found the key {key!r}, expected names between slashes; do not trust this place"
        )
    return key


def publication_order(manifest: Manifest) -> tuple[int, str, str]:
    """What orders the manifests of a model, the newest last."""
    return manifest.get("sequence", 0), manifest["published_at"], manifest["commit"]


def _is_tensor(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("dtype"), str)
        and isinstance(shape := value.get("shape"), list)
        and len(shape) == 2
        and all(type(length) is int and length >= 0 for length in shape)
    )


def _is_artifacts(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(entry, Mapping)
        and isinstance(entry.get("key"), str)
        and type(size := entry.get("size")) is int
        and size >= 0
        and isinstance(entry.get("sha256"), str)
        for entry in value.values()
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CHECKS: Final[dict[str, Callable[[object], bool]]] = {
    "model": _is_text,
    "commit": _is_text,
    "published_at": _is_text,
    "tensor": _is_tensor,
    "artifacts": _is_artifacts,
    "statistics": lambda value: isinstance(value, Mapping),
}
