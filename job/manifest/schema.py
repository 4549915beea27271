"""The schema of ``manifest.json`` as types. All code that writes, reads or shows a manifest uses these types.

``ResultsOfW`` holds the fields that follow from W's bytes, ``SummaryFields`` those that a run's summary shows, and
``Manifest`` all fields. ``json_schema`` returns the same as JSON Schema, for ``docs/manifest.schema.json``.
"""

from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NotRequired, cast

from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from job.checkpoints.checkpoint import IdSource
from job.checkpoints.head.tie import Tie

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION: Final = 1
"""Later versions of the tool read every earlier schema."""


class Counts(TypedDict):
    """Numbers of rows and black holes."""

    unique_rows: int
    duplicate_rows: int
    """All rows minus unique rows."""
    black_holes: int
    black_hole_tokens: int
    """Rows in a black hole."""


class CountsByValue(Counts):
    """The same counts, with rows compared by value as ``torch.unique`` does: −0 equals +0, and a NaN equals nothing."""

    agrees: bool
    """Whether comparing by value finds the same holes as comparing by bytes."""


class Norms(TypedDict):
    """A summary of norms. ``std`` is the sample standard deviation (n − 1). NaN and infinity are null."""

    mean: float | None
    std: float | None
    min: float | None
    median: float | None
    max: float | None


class CentroidSummary(Norms):
    """The norm of μ, and a summary of its components."""

    norm: float | None


class ExplainedVariance(TypedDict):
    """How much of the variance of γ′'s rows lies along its three principal directions. NaN and infinity are null."""

    explained_variance: list[float | None]
    """The mean square of the rows' coordinates along each direction."""
    share_of_variance: list[float | None]
    """The same, divided by the mean square of the norms of γ′'s rows."""


class Statistics(Counts):
    """All numbers that a survey measures."""

    share_of_rows: float
    """Rows in a black hole, divided by all rows."""
    largest: int
    """The largest population of a hole; 0 if there are no holes."""
    smallest: int
    """The smallest population of a hole; 0 if there are no holes."""
    mean_population: float | None
    median_population: float | None
    distribution: dict[str, int]
    """Population → number of holes with that population. The largest population comes first."""
    by_value: CountsByValue
    rows_with_negative_zero: int
    rows_with_nan: int
    rows_with_infinity: int
    mu: CentroidSummary
    row_norm: Norms | None
    """Norms of W's rows."""
    black_hole_row_norm: Norms | None
    """Norms of the rows in black holes; null if there are no holes."""
    gamma_centered_norm: Norms | None
    """Norms of the rows of γ′ = W − μ."""
    gamma_centered_norm_of_first_rows: list[float | None]
    """Norms of rows 0 to 9 of γ′."""
    projection: NotRequired[ExplainedVariance | None]
    """Of ``projection.safetensors``; null if it is not published."""


class TokenName(TypedDict):
    """A row of W and its token."""

    id: int
    """The row's index, which is the token's id."""
    piece: str | None
    """The token in the vocabulary; null if the tokenizer has no such token, or there is no tokenizer."""
    text: str | None
    """The token, decoded alone."""


class BlackHole(TypedDict):
    """Rows that are bit-for-bit identical."""

    id: int
    """1 for the hole with the most rows, 2 for the next, and so on."""
    population: int
    """The number of rows in the hole."""
    row_norm: float | None
    tokens: list[TokenName]
    """The first rows of the hole; all of them where there are not too many."""


class ArtifactEntry(TypedDict):
    """A published object."""

    key: str
    """Relative to OUTPUT."""
    size: int
    """In bytes."""
    sha256: str


class EmbeddingEntry(TypedDict):
    """The input embedding, if it was compared with all of W."""

    name: str
    file: str
    begin: int
    end: int
    content_id: str


class TensorEntry(TypedDict):
    """The tensor that was taken as W, and why."""

    name: str
    """Its name in the checkpoint."""
    reason: str
    """Why this tensor was chosen."""
    chosen_by_user: bool
    """Whether the list named the tensor or the file."""
    tied: bool
    """Whether the checkpoint stores one matrix as both head and embedding."""
    tie: NotRequired[Tie]
    tie_evidence: NotRequired[str]
    embedding: NotRequired[EmbeddingEntry | None]
    """The input embedding that all of W was compared with; null if there was no such comparison."""
    dtype: str
    shape: list[int]
    """The number of rows (one per token id) and of columns."""
    strides: NotRequired[list[int] | None]
    """Items from one index to the next, for each dimension; null if the rows are stored one after another."""
    nbytes: int
    file: str
    begin: int
    end: int
    """W is stored in the file's bytes from ``begin`` to ``end``, without ``end`` itself."""
    content_id: str
    """An id of the file that changes only if the file's bytes change."""
    content_id_from: NotRequired[IdSource]
    """What ``content_id`` follows from: what the server says; all bytes of the file; samples of it, and all of W; or
    its name in the Hub's cache, and all of W."""


class TokenizerEntry(TypedDict):
    """The tokenizer, or why the tokens have no names."""

    files: dict[str, str]
    """The tokenizer's files, with their content ids."""
    kind: NotRequired[str]
    """The library and class that read the tokenizer."""
    n_tokens: NotRequired[int]
    """The number of tokens, including added ones."""
    n_ids: NotRequired[int]
    """One more than the highest id of a token; more than ``n_tokens`` if the tokenizer leaves ids out."""
    rows_beyond: NotRequired[int]
    """The number of rows of W beyond the tokenizer's last token: the rows minus ``n_ids``."""
    unusable: NotRequired[str]
    """Why the tokens have no names; absent if they have names."""


class TokenCounts(TypedDict):
    """How many rows stand for what. The counts of one survey's tokens.parquet, dead_tokens.json and valid_ids."""

    classes: dict[str, int] | None
    """By class: ordinary, special, reserved, byte, partial_utf8, beyond_tokenizer; null without a tokenizer."""
    dead_tokens: dict[str, int | None]
    """How many ids each list of dead_tokens.json holds; null where the list is null."""
    valid_ids: int | None
    """How many rows valid_ids marks; null without a tokenizer."""


class CheckpointEntry(TypedDict):
    """The checkpoint's size, and how much of it the survey read."""

    nbytes: int | None
    """The size of the whole checkpoint in bytes; null if the server lists files without their sizes."""
    bytes_fetched: int
    """How many bytes the survey read."""


class Comparison(TypedDict):
    """A comparison with the newest earlier survey of another commit."""

    commit: str
    """The commit of the earlier survey."""
    published_at: str
    """When the earlier survey was published."""
    black_holes: int
    """The number of black holes in the earlier survey."""
    black_hole_tokens: int
    """The number of rows in black holes in the earlier survey."""
    same_black_holes: bool
    """Whether the black holes are the same groups of rows in both surveys."""
    joined: list[int]
    """The ids of the tokens that are in a hole now, but were in none before."""
    left: list[int]
    """The ids of the tokens that were in a hole before, but are in none now."""
    n_joined: NotRequired[int]
    """The number of tokens that joined; ``joined`` lists at most 10,000 of them."""
    n_left: NotRequired[int]
    """The number of tokens that left; ``left`` lists at most 10,000 of them."""


class HubDates(TypedDict):
    """When the Hub says a model was released. ISO 8601, in UTC; null where the Hub does not say."""

    created_at: str | None
    """When the repository was created."""
    last_modified: str | None
    """When its files were changed last, as of the surveyed revision."""


class ToolEntry(TypedDict):
    """The program that wrote the manifest."""

    name: str
    version: str


class ActivitySeconds(TypedDict):
    """The seconds that a survey spent on each of its activities. They tell what bounds it."""

    source: float
    """Waiting for the checkpoint's bytes, and finding W."""
    computing: float
    """Measuring and hashing rows, in as far as the source and the store did not have to be waited for."""
    store: float
    """Waiting until the store had taken bytes."""


class _Results(TypedDict):
    statistics: Statistics
    black_holes: list[BlackHole]
    artifacts: dict[str, ArtifactEntry]
    """The published files by name: W, mu, gamma_centered, black_holes, tokens, dead_tokens, valid_ids, projection,
    covariance."""


class ResultsOfW(_Results):
    """The fields that follow from W's bytes. They are the same for every commit with the same W."""

    w_sha256: str
    """The sha-256 of W's bytes, row after row."""


class SummaryFields(_Results):
    """The fields that a run's summary shows."""

    tensor: TensorEntry
    checkpoint: CheckpointEntry
    pages: NotRequired[dict[str, str]]
    """The keys of the pages by name: ``report`` is text, ``html`` has pictures, ``changes`` tells what changed since
    the previous survey. A page is made of the manifest and of what it names, and may be made again at any time."""
    warnings: list[str]
    """What a reader of the results should know."""
    activity_seconds: NotRequired[ActivitySeconds]


class Manifest(ResultsOfW, SummaryFields):
    """The description of one survey. It is written last: if it exists, everything that it names is complete."""

    schema_version: Literal[1]
    model: str
    """``org/name``, or ``local/<name>`` for a checkpoint that is not on the Hub."""
    source: NotRequired[str]
    """Where the checkpoint was read from."""
    revision: NotRequired[str | None]
    """The requested revision; null if none was requested."""
    revisions: NotRequired[list[str]]
    """All names that the commit had when it was surveyed, of those that patterns in the list match; ``revision`` comes
    first. Absent if the list has no patterns."""
    commit: str
    """The surveyed commit: the Hub's commit, or an id that is derived from the files' identities."""
    hub_dates: NotRequired[HubDates | None]
    """When the model was released; null if it was not read from the Hub."""
    followed_from: NotRequired[list[str]]
    """The adapters that led to this base model, as ``repo_id@commit``. The requested one comes first."""
    tokenizer: TokenizerEntry
    token_counts: NotRequired[TokenCounts | None]
    """How many rows stand for what; null if ``tokens`` is not published."""
    tool: NotRequired[ToolEntry]
    examined_by: NotRequired[str]
    """The last later version of the tool that looked into the checkpoint again, and chose the same tensor."""
    seconds: NotRequired[dict[str, float]]
    """The duration of each stage, and of what the process of the tokenizer did meanwhile."""
    published_at: str
    """The time of publication in UTC, as ISO 8601."""
    sequence: NotRequired[int]
    """One more than that of every survey of the model that was known when this one was made: it orders them where
    clocks disagree."""
    previous: NotRequired[Comparison | None]
    """A comparison with the newest earlier survey; null if no other commit was surveyed before."""


def results_of_w(manifest: Manifest) -> ResultsOfW:
    """The fields of a manifest that follow from W's bytes."""
    return {
        "w_sha256": manifest["w_sha256"],
        "statistics": manifest["statistics"],
        "black_holes": manifest["black_holes"],
        "artifacts": dict(manifest["artifacts"]),
    }


def summary_fields(manifest: SummaryFields, black_holes: list[BlackHole]) -> SummaryFields:
    """The fields of a manifest that a run's summary shows, with these black holes in place of the manifest's."""
    fields: SummaryFields = {
        "tensor": manifest["tensor"],
        "statistics": manifest["statistics"],
        "black_holes": black_holes,
        "checkpoint": manifest["checkpoint"],
        "pages": manifest.get("pages", {}),
        "warnings": manifest["warnings"],
        "artifacts": manifest["artifacts"],
    }
    if "activity_seconds" in manifest:
        fields["activity_seconds"] = manifest["activity_seconds"]
    return fields


@cache
def _adapter() -> "TypeAdapter[Manifest]":
    from pydantic import TypeAdapter  # imported here, because only a run that reads a manifest needs it

    return TypeAdapter(Manifest)


def checked_manifest(value: object) -> Manifest:
    """The same value, checked to be a manifest. It keeps fields that this version does not know.

    Raises:
        ValueError: a field is missing or has another type.
    """
    _adapter().validate_python(value, strict=True)
    manifest = cast("Manifest", value)
    # Earlier versions named the page with its hash, among the artifacts.
    if page := manifest["artifacts"].pop("report", None):
        manifest["pages"] = {"report": page["key"]}
    return manifest


def json_schema() -> dict[str, object]:
    """The manifest's schema as JSON Schema (draft 2020-12)."""
    from pydantic import ConfigDict, TypeAdapter

    # In a tuple, because pydantic applies this setting to the items of a type, and not to a TypedDict itself.
    shapes = tuple[Manifest, _Results, ResultsOfW, SummaryFields, Counts, Norms]
    definitions = TypeAdapter(shapes, config=ConfigDict(use_attribute_docstrings=True)).json_schema()["$defs"]
    # pydantic takes a field's docstring as its description, but does not inherit descriptions.
    for heir, base in (
        ("Statistics", "Counts"),
        ("CountsByValue", "Counts"),
        ("CentroidSummary", "Norms"),
        ("Manifest", "_Results"),
        ("Manifest", "ResultsOfW"),
        ("Manifest", "SummaryFields"),
    ):
        for name, field in definitions[base]["properties"].items():
            definitions[heir]["properties"][name] |= {key: field[key] for key in ("description",) if key in field}
    for base in ("_Results", "ResultsOfW", "SummaryFields", "Counts"):
        del definitions[base]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/Manifest",
        "$defs": definitions,
    }
