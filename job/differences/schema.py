"""What is said of how two surveys differ, A and B: the JSON of ``compare --format json``, and what text and page show.

A field that cannot be told is null, and ``cannot_be_told`` has a sentence for each. What is longer than its limit is
cut, and its count stays whole.
"""

from typing import Final, Literal

from typing_extensions import TypedDict

from job.differences.holes import Fate
from job.differences.ids import MappedBy

DIFFERENCE_VERSION: Final = 1
"""A later version with the same number has the same fields, and perhaps more."""
MAX_TOKENS: Final = 1_000
"""The number of tokens in each list."""
MAX_EVENTS: Final = 1_000
"""The number of changes of holes that are listed."""
MAX_TOKENS_OF_EVENT: Final = 50
MAX_NORMS: Final = 20
"""The number of tokens whose norm changed most."""

Number = float | int | str | None


class SurveyName(TypedDict):
    """Which survey A is, or B."""

    model: str
    commit: str
    revision: str | None
    """The revision that was asked for; null if none was."""
    published_at: str
    folder: str
    """Below OUTPUT."""
    page: str | None
    """The key of the page that shows it."""
    tensor: str


class Statistic(TypedDict):
    """A number of both surveys, side by side."""

    name: str
    a: Number
    b: Number


class DifferentToken(TypedDict):
    """A token in one of the surveys, or in both."""

    a: int | None
    """Its id in A; null if it has none there, or none that maps."""
    b: int | None
    piece: str | None
    """As B has it, or else A; null if no tokens are published."""
    text: str | None


class TokenList(TypedDict):
    """Some tokens."""

    count: int
    tokens: list[DifferentToken]
    """The first of them, by id."""


class WDifference(TypedDict):
    """Whether W is the same."""

    same: bool
    sha256: list[str]
    """Of W's bytes, in A and B."""
    same_rows: int | None
    """How many mapped rows are bit-for-bit identical."""
    compared_rows: int | None
    """How many rows were compared; null if ``same_rows`` is."""


class TokenizerDifference(TypedDict):
    """Whether the tokens are the same."""

    same: bool | None
    """Whether each id has the same token in both surveys."""
    evidence: str
    same_files: bool
    kind: list[str | None]
    n_tokens: list[int | None]


class IdsDifference(TypedDict):
    """How the ids of A map to those of B."""

    by: MappedBy
    mapped: int
    moved: int
    """Tokens that have another id in B."""
    only_a: TokenList
    only_b: TokenList
    ambiguous: list[int]
    """Rows left out, because one side has their token more than once; in A and in B."""
    without_token: list[int]
    """Rows left out, because no token stands for them; in A and in B."""


class HoleEventEntry(TypedDict):
    """What became of some holes, which share tokens with each other and with no others."""

    fate: Fate
    a: list[int]
    """The numbers of the holes in A."""
    b: list[int]
    rows: list[int]
    """In these holes, of A and of B."""
    entered: TokenList
    """Tokens that were in no hole of A."""
    left: TokenList
    """Tokens that are in no hole of B."""
    examples: list[DifferentToken]
    """The first tokens of the largest of these holes."""


class HolesDifference(TypedDict):
    """How the black holes differ."""

    fates: dict[Fate, int]
    """The number of events by fate."""
    events: list[HoleEventEntry]
    """The largest first, those that changed before those that were kept."""
    entered: TokenList
    """Mapped tokens that are in a hole of B, and in none of A."""
    left: TokenList
    """The reverse."""
    unmapped_a: TokenList
    """Tokens in a hole of A that do not map."""
    unmapped_b: TokenList


class CentroidDifference(TypedDict):
    """How far mu moved. A number that is not finite is null."""

    shift: float | None
    """The norm of the difference."""
    angle_degrees: float | None
    norms: list[float | None]
    """Of mu, in A and B."""


class NormChange(TypedDict):
    """A token whose norm changed."""

    token: DifferentToken
    before: float
    after: float
    change: float


class NormsDifference(TypedDict):
    """How the norms of mapped rows changed, from A to B."""

    rows: int
    changed: int
    not_finite: int
    """Rows of which a norm is no finite number in A or B; they are left out."""
    mean: float | None
    rms: float | None
    quantiles: dict[str, float] | None
    """Of the changes: from ``0`` (the smallest) to ``1``."""
    edges: list[float]
    """Of the bins of a histogram of the changes."""
    counts: list[int]
    most: list[NormChange]


class ClassCount(TypedDict):
    """The rows of a class."""

    name: str
    a: int
    b: int


class ClassMove(TypedDict):
    """Mapped tokens whose class changed."""

    a: str
    b: str
    tokens: TokenList


class ClassesDifference(TypedDict):
    """How the classes of tokens differ."""

    counts: list[ClassCount]
    moves: list[ClassMove]


class ValidIdsDifference(TypedDict):
    """How the valid ids of mapped tokens differ."""

    counts: list[int]
    """All valid ids of A and of B."""
    became_valid: TokenList
    became_invalid: TokenList


class SurveyDifference(TypedDict):
    """How two surveys differ."""

    schema_version: Literal[1]
    changed: bool
    """Whether anything differs, as far as can be told. The exit status says the same."""
    a: SurveyName
    b: SurveyName
    cannot_be_told: list[str]
    statistics: list[Statistic]
    w: WDifference
    tokenizer: TokenizerDifference
    ids: IdsDifference | None
    holes: HolesDifference | None
    centroid: CentroidDifference | None
    norms: dict[Literal["norm", "gamma_norm"], NormsDifference] | None
    classes: ClassesDifference | None
    valid_ids: ValidIdsDifference | None


_Fact = Literal["norm", "gamma_norm"]
NORMS: Final[tuple[_Fact, ...]] = ("norm", "gamma_norm")
