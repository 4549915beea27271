"""The manifest's one typed shape, ``manifest.json``. Who writes, reads or shows a manifest takes its fields from here.

``FromW`` holds what follows from W's bytes, ``Shown`` what a run's summary shows; ``Manifest`` is both and the rest.
``json_schema`` gives the same as JSON Schema: ``docs/manifest.schema.json``, which ``make schema`` writes.
"""

from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NotRequired, cast

from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from job.checkpoints.head.tie import Tie

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION: Final = 1
"""A later version of the tool reads every earlier schema."""


class Counts(TypedDict):
    """The counts that are easily mixed up, by their names."""

    unique_rows: int
    duplicate_rows: int
    """Rows minus unique rows."""
    black_holes: int
    black_hole_tokens: int
    """Rows that are in a hole."""


class CountsByValue(Counts):
    """The same counts by value, as ``torch.unique`` compares: −0 equals +0, and a NaN equals nothing."""

    agrees: bool
    """Whether the holes are the same by value as by bytes."""


class Norms(TypedDict):
    """A summary of norms; ``std`` is the sample's, with n − 1. A number that is NaN or infinite is null."""

    mean: float | None
    std: float | None
    min: float | None
    median: float | None
    max: float | None


class CentroidSummary(Norms):
    """The norm of μ, and a summary of its components."""

    norm: float | None


class Statistics(Counts):
    """Every number of a survey."""

    share_of_rows: float
    """Rows in a hole, of all rows."""
    largest: int
    """The largest population of a hole; 0 without holes."""
    smallest: int
    mean_population: float | None
    median_population: float | None
    distribution: dict[str, int]
    """Population → how many holes have it, the largest first."""
    by_value: CountsByValue
    rows_with_negative_zero: int
    rows_with_nan: int
    rows_with_infinity: int
    mu: CentroidSummary
    row_norm: Norms | None
    """Of W's rows."""
    black_hole_row_norm: Norms | None
    """Of the rows in a hole; null without holes."""
    gamma_centered_norm: Norms | None
    """Of the rows of γ′ = W − μ."""
    gamma_centered_norm_of_first_rows: list[float | None]
    """Of rows 0 to 9."""


class TokenName(TypedDict):
    """A row and what it stands for."""

    id: int
    piece: str | None
    """As the vocabulary has it; null beyond the tokenizer, or without one."""
    text: str | None
    """As it decodes by itself."""


class BlackHole(TypedDict):
    """Rows that are bit-for-bit identical."""

    id: int
    """1 is the most populous hole."""
    population: int
    row_norm: float | None
    tokens: list[TokenName]


class ArtifactEntry(TypedDict):
    """A published object."""

    key: str
    """Relative to OUTPUT."""
    size: int
    """In bytes."""
    sha256: str


class EmbeddingEntry(TypedDict):
    """The input embedding that was compared with all of W."""

    name: str
    file: str
    begin: int
    end: int
    content_id: str


class TensorEntry(TypedDict):
    """The tensor that W is, and why."""

    name: str
    """As stored in the checkpoint."""
    reason: str
    """Why it is this tensor."""
    chosen_by_user: bool
    """Whether the list named the tensor or the file."""
    tied: bool
    """Whether the checkpoint stores one matrix for both head and embedding."""
    tie: NotRequired[Tie]
    tie_evidence: NotRequired[str]
    embedding: NotRequired[EmbeddingEntry | None]
    """The embedding that all of W was compared with; null where none was."""
    dtype: str
    shape: list[int]
    """Rows (one for each token id), columns."""
    strides: NotRequired[list[int] | None]
    """Items from one index to the next; null where rows lie one after another."""
    nbytes: int
    file: str
    begin: int
    end: int
    """W is bytes begin to end of the file, half-open."""
    content_id: str
    """An id of that file which changes when its bytes do."""


class TokenizerEntry(TypedDict):
    """The tokenizer that named the tokens, or why none did."""

    files: dict[str, str]
    """The files it was read from, with their content ids."""
    kind: NotRequired[str]
    """The library and class that read it."""
    n_tokens: NotRequired[int]
    rows_beyond: NotRequired[int]
    """Rows of W that no token of the tokenizer has."""
    unusable: NotRequired[str]
    """Why the tokens are not named; absent where they are."""


class CheckpointEntry(TypedDict):
    """What the survey read of the checkpoint."""

    nbytes: int
    """Of the whole checkpoint."""
    bytes_fetched: int


class Comparison(TypedDict):
    """How the black holes differ from those of the newest earlier survey of another commit."""

    commit: str
    published_at: str
    black_holes: int
    """How many that survey found."""
    black_hole_tokens: int
    same_black_holes: bool
    joined: list[int]
    """The ids of the tokens that are in a hole now and were in none."""
    left: list[int]
    """The ids of the tokens that were in a hole and are in none now."""


class ToolEntry(TypedDict):
    """What wrote the manifest."""

    name: str
    version: str


class _Results(TypedDict):
    statistics: Statistics
    black_holes: list[BlackHole]
    artifacts: dict[str, ArtifactEntry]
    """What is published, by name: W, mu, gamma_centered, black_holes, report."""


class FromW(_Results):
    """The fields that follow from W's bytes, so that they hold for every commit that has the same W."""

    w_sha256: str
    """Of W's bytes, row after row."""


class Shown(_Results):
    """The fields that a run's summary shows."""

    tensor: TensorEntry
    checkpoint: CheckpointEntry
    warnings: list[str]
    """What a reader should know before trusting the numbers."""


class Manifest(FromW, Shown):
    """What is said of one survey. It is written last: where it exists, everything that it names is whole."""

    schema_version: Literal[1]
    model: str
    """``org/name``, or ``local/<name>`` for a checkpoint that is not on the Hub."""
    source: NotRequired[str]
    """Where it was read from."""
    revision: NotRequired[str | None]
    """As asked; null where none was."""
    commit: str
    """As pinned: the Hub's commit, or an id derived from the files' own identity."""
    followed_from: NotRequired[list[str]]
    """The adapters that led to this model, as ``repo_id@commit``, the one that was asked for first."""
    tokenizer: TokenizerEntry
    tool: NotRequired[ToolEntry]
    seconds: NotRequired[dict[str, float]]
    """By stage."""
    published_at: str
    """ISO 8601, in UTC."""
    previous: NotRequired[Comparison | None]
    """How the black holes changed; null where no other commit was surveyed."""


def from_w_of(manifest: Manifest) -> FromW:
    """The fields that follow from W's bytes."""
    return {
        "w_sha256": manifest["w_sha256"],
        "statistics": manifest["statistics"],
        "black_holes": manifest["black_holes"],
        "artifacts": dict(manifest["artifacts"]),
    }


def shown_of(manifest: Shown, black_holes: list[BlackHole]) -> Shown:
    """The fields that a run's summary shows, with as much of the black holes as it shows of them."""
    return {
        "tensor": manifest["tensor"],
        "statistics": manifest["statistics"],
        "black_holes": black_holes,
        "checkpoint": manifest["checkpoint"],
        "warnings": manifest["warnings"],
        "artifacts": manifest["artifacts"],
    }


@cache
def _adapter() -> "TypeAdapter[Manifest]":
    from pydantic import TypeAdapter  # only a run that reads a manifest needs it

    return TypeAdapter(Manifest)


def checked_manifest(value: object) -> Manifest:
    """The value, once it is sure that it is a manifest. Fields that are unknown here stay in it.

    Raises:
        ValueError: a field is missing or of another type.
    """
    _adapter().validate_python(value, strict=True)
    return cast("Manifest", value)


def json_schema() -> dict[str, object]:
    """The shape as JSON Schema (draft 2020-12)."""
    from pydantic import ConfigDict, TypeAdapter

    # In a tuple, because pydantic takes this setting for what is in something, and not for a TypedDict itself.
    shapes = tuple[Manifest, _Results, FromW, Shown, Counts, Norms]
    definitions = TypeAdapter(shapes, config=ConfigDict(use_attribute_docstrings=True)).json_schema()["$defs"]
    # pydantic describes a field by the docstring below it, but not where a class inherits the field.
    for heir, base in (
        ("Statistics", "Counts"),
        ("CountsByValue", "Counts"),
        ("CentroidSummary", "Norms"),
        ("Manifest", "_Results"),
        ("Manifest", "FromW"),
        ("Manifest", "Shown"),
    ):
        for name, field in definitions[base]["properties"].items():
            definitions[heir]["properties"][name] |= {key: field[key] for key in ("description",) if key in field}
    for base in ("_Results", "FromW", "Shown", "Counts"):
        del definitions[base]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/Manifest",
        "$defs": definitions,
    }
