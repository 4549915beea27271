"""The Hub's answers as typed values, from JSON that may hold anything. Sends no request."""

from typing import Annotated, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
)


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


class ModelAnswer(_Answer):
    """A repository at a revision, with its files."""

    id: str
    sha: str | None = None
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


class CollectionAnswer(_Answer):
    """A collection."""

    items: list[CollectionItem]


class NotAHubsAnswer(Exception):
    """The JSON is not what a Hub answers. The message says where, without the answer's own text."""


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
        raise NotAHubsAnswer(f"{place}: {first['msg']}" if place else first["msg"]) from error


MODEL = TypeAdapter(ModelAnswer)
LISTED = TypeAdapter(ListedAnswer)
PAGE = TypeAdapter(list[ListedAnswer])
COLLECTION = TypeAdapter(CollectionAnswer)
