"""The Hub's answers as typed values, from JSON that may hold anything. Sends no request."""

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Self, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from job.models.revisions import REF_NAME

logger = logging.getLogger(__name__)


class _Answer(BaseModel):
    """A JSON object. A text stays a text and a number a number; other keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class LfsPointer(_Answer):
    """What Git LFS says about a file."""

    size: NonNegativeInt
    sha256: str


class Sibling(_Answer):
    """A file of a repository."""

    rfilename: str
    size: NonNegativeInt | None = None
    blob_id: Annotated[str | None, Field(alias="blobId")] = None
    lfs: LfsPointer | None = None


def _date(value: object) -> str | None:
    """A date as ISO 8601 in UTC; None for what is no date, since nothing but pages shows it."""
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(value)
            return time.astimezone(UTC).isoformat(timespec="seconds") if time.tzinfo else None
    return None


class ModelAnswer(_Answer):
    """A repository at a revision, with its files."""

    id: str
    sha: str | None = None
    created_at: Annotated[str | None, BeforeValidator(_date), Field(alias="createdAt")] = None
    last_modified: Annotated[str | None, BeforeValidator(_date), Field(alias="lastModified")] = None
    siblings: list[Sibling]


class ListedAnswer(_Answer):
    """A repository in a list."""

    id: str
    sha: str | None = None
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    downloads: NonNegativeInt | None = None
    trending_score: Annotated[FiniteFloat | None, Field(alias="trendingScore")] = None
    pipeline_tag: str | None = None


class CollectionItem(_Answer):
    """A model, data set, paper or other thing in a collection."""

    type: str
    id: str | None = None

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if self.type == "model" and self.id is None:
            raise ValueError("a model without an id")
        return self


class CollectionAnswer(_Answer):
    """A collection."""

    items: list[JsonValue]


class NamedRef(_Answer):
    """A branch, a tag or a pull request."""

    name: Annotated[str, Field(pattern=f"^{REF_NAME}$")]
    ref: Annotated[str, Field(pattern=f"^refs/{REF_NAME}$")]
    target_commit: Annotated[str, Field(alias="targetCommit", pattern=r"^[0-9a-f]{40}$")]


class RefsAnswer(_Answer):
    """The branches and tags of a repository. Pull requests are there if they were asked for."""

    branches: list[JsonValue]
    tags: list[JsonValue]
    pull_requests: Annotated[list[JsonValue], Field(alias="pullRequests")] = []


class NotAHubsAnswer(Exception):
    """The answer is not what a Hub answers. The message says where, without the answer's own text."""

    def __init__(self, message: str, *, is_json: bool = True) -> None:
        super().__init__(message)
        self.is_json = is_json
        """Whether it is JSON. If not, it may be cut short, or come from a proxy in trouble."""


_Value = TypeVar("_Value")


def parse_answer(expected: TypeAdapter[_Value], content: bytes) -> _Value:
    """The value that an answer's JSON stands for.

    Raises:
        NotAHubsAnswer: it stands for none.
    """
    try:
        return expected.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise NotAHubsAnswer(
            f"{place}: {first['msg']}" if place else first["msg"], is_json=first["type"] != "json_invalid"
        ) from error


def parse_items(expected: TypeAdapter[_Value], items: list[JsonValue], where: str) -> list[_Value]:
    """The values of those items that stand for one. The others are warned of.

    Raises:
        NotAHubsAnswer: there are items, and none stands for a value.
    """
    values: list[_Value] = []
    first_error: NotAHubsAnswer | None = None
    for number, item in enumerate(items, 1):
        try:
            values.append(parse_answer(expected, json.dumps(item).encode()))
        except NotAHubsAnswer as error:
            first_error = first_error or error
            logger.warning("%s: item %d of a page cannot be read (%s); it is passed over", where, number, error)
    if first_error and not values:
        raise first_error
    return values


MODEL = TypeAdapter(ModelAnswer)
LISTED = TypeAdapter(ListedAnswer)
PAGE = TypeAdapter(list[JsonValue])
COLLECTION = TypeAdapter(CollectionAnswer)
ITEM = TypeAdapter(CollectionItem)
REFS = TypeAdapter(RefsAnswer)
REF = TypeAdapter(NamedRef)
