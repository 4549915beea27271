"""How a model is named: parsed from a text, printed back to the same text. Nothing is looked up."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

EXPECTED: Final = (
    "expected org/name, org/name@revision, a local folder (/path, ./path, ../path or ~/path), s3://bucket/prefix or "
    "https://host/path"
)

# The Hub's own rule for names: letters, digits, '-', '_' and '.', not starting or ending with '-' or '.', at most 96.
HUB_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
HUB_NAME: Final = re.compile(f"{HUB_PART}/{HUB_PART}")
_HUB: Final = re.compile(rf"(?P<repo_id>{HUB_NAME.pattern})(?:@(?P<revision>[^\s@]+))?")
_S3: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/.*)?")
_FOLDER: Final = re.compile(r"(?:/|\./|\.\./|~/).*|\.|\.\.")
_CACHED: Final = re.compile(r"(?P<folder>(?:/|\./|\.\./|~/)(?:.*/)?models--[^/@\s]+)@(?P<revision>[^\s@]+)")
"""A revision of a repository in the Hub's cache. A name on the Hub holds no @, so no such folder does."""
# In clear text only from this machine itself, where nobody can change it on the way.
_HTTP: Final = re.compile(
    r"(?:https://[^\s/@?#]+|http://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?)(?P<path>(?:/[^\s/?#]+)+)/?"
)
_HUB_PAGE: Final = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<rest>.*)")


@dataclass(frozen=True)
class ModelRef:
    """A model as somebody named it."""

    source: Literal["hub", "folder", "s3", "http"]
    location: str
    """``org/name``, a folder's path, ``s3://bucket/prefix`` or ``https://host/path``."""
    revision: str | None = None
    """A branch, tag or commit of a model on the Hub, or in its cache; None for its main branch."""
    tensor: str | None = None
    """The tensor to take for W, by its name on disk, where the choice is not left to the survey. Not in the text."""
    note: str | None = None
    """What whoever made the list wants readers of the survey to know. Not in the text."""
    follow_base: bool = False
    """Whether, where this is an adapter, the model that it adapts is surveyed instead. Not in the text."""
    file: str | None = None
    """The weight file to take W from, by its name in the checkpoint, where there are several. Not in the text."""
    commit: str | None = None
    """The commit that the revision was pinned to when a list was resolved; None until then. Not in the text."""
    found_by: str | None = None
    """The query that found it, as text, where nobody named the model. Not in the text."""

    def __str__(self) -> str:
        return f"{self.location}@{self.revision}" if self.revision else self.location

    @property
    def path(self) -> Path:
        """The folder of a local checkpoint."""
        return Path(self.location).expanduser()


def parse_reference(text: str) -> ModelRef:
    """The reference that a text stands for; ``str()`` of it gives the text back.

    Raises:
        ValueError: the text names no model; the message says what was expected.
    """
    if _S3.fullmatch(text):
        return ModelRef("s3", text)
    if page := _HUB_PAGE.fullmatch(text):
        raise ValueError(
            f"{EXPECTED}; a model of the Hub is named {'/'.join(page['rest'].split('/')[:2]) or 'org/name'}"
        )
    if (address := _HTTP.fullmatch(text)) and not {".", ".."} & set(address["path"].split("/")):
        return ModelRef("http", text)
    if cached := _CACHED.fullmatch(text):
        return ModelRef("folder", cached["folder"], cached["revision"])
    if _FOLDER.fullmatch(text):
        return ModelRef("folder", text)
    if hub := _HUB.fullmatch(text):
        return ModelRef("hub", hub["repo_id"], hub["revision"])
    raise ValueError(EXPECTED)


def with_options(
    ref: ModelRef,
    revision: str | None = None,
    tensor: str | None = None,
    note: str | None = None,
    follow_base: str = "false",
    file: str | None = None,
) -> ModelRef:
    """The reference with what a list says of it beside its name.

    Raises:
        ValueError: a revision for a checkpoint that has none, or two different ones; a follow_base that is neither true
            nor false.
    """
    if follow_base.lower() not in ("true", "false"):
        raise ValueError(f"follow_base is {follow_base!r}, expected true or false")
    if revision is not None:
        if ref.source != "hub" and not (ref.source == "folder" and ref.path.name.startswith("models--")):
            raise ValueError(f"revision {revision!r} was given, but only models on the Hub have revisions; remove it")
        if ref.revision not in (None, revision):
            raise ValueError(f"two revisions were given, {ref.revision!r} and {revision!r}; keep one")
    return replace(
        ref,
        revision=revision or ref.revision,
        tensor=tensor,
        note=note,
        follow_base=follow_base.lower() == "true",
        file=file,
    )
