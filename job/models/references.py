"""The reference to a model: parsed from a text and printed back to the same text. Does not look the model up."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

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
"""A revision of a repository in the Hub's cache. Names on the Hub hold no @, so names of cache folders hold none."""
# Without TLS only from this machine itself, where nobody can change the bytes on their way.
_HTTP: Final = re.compile(
    r"(?:https://[^\s/@?#]+|http://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?)(?P<path>(?:/[^\s/?#]+)+)/?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HUB_PAGE: Final = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<rest>.*)")


@dataclass(frozen=True)
class ModelRef:
    """A model, as a list or a query names it. The text of a reference holds only ``location`` and ``revision``."""

    source: Literal["hub", "folder", "s3", "http"]
    location: str
    """``org/name``, a folder's path, ``s3://bucket/prefix`` or ``https://host/path``."""
    revision: str | None = None
    """A branch, tag or commit of a model on the Hub or in its cache; None for the main branch."""
    tensor: str | None = None
    """The stored name of the tensor to take as W; None if the survey chooses it."""
    note: str | None = None
    """A warning for readers of the survey, written by the author of the list."""
    follow_base: bool = False
    """Whether to survey the base model instead, if this model is an adapter."""
    file: str | None = None
    """The name of the weight file to take W from; None if the survey chooses it."""
    commit: str | None = None
    """The commit that the revision was pinned to when the list was resolved; None before that."""
    found_by: str | None = None
    """The text of the query that found this model; None if a list names it."""
    name: str | None = None
    """The name under ``local/`` to file the survey under; None for the last part of the location."""
    revisions: tuple[str, ...] = ()
    """All names of the commit that an entry for many revisions matches, with ``revision`` as the first; empty if the
    list names the revision itself, or none."""

    def __str__(self) -> str:
        return f"{self.location}@{self.revision}" if self.revision else self.location

    @property
    def path(self) -> Path:
        """The folder of a local checkpoint."""
        return Path(self.location).expanduser()

    @property
    def is_in_hub_cache(self) -> bool:
        """Whether the folder's name is that of a model in the Hub's cache, or of a snapshot of one."""
        names = (self.path.name, self.path.parent.parent.name if self.path.parent.name == "snapshots" else "")
        return self.source == "folder" and any(name.startswith("models--") for name in names)

    @property
    def local_name(self) -> str | None:
        """The name under ``local/`` that the survey is filed under; None if it is filed as on the Hub."""
        if self.source == "hub" or self.is_in_hub_cache:
            return None
        location = os.path.abspath(self.path) if self.source == "folder" else self.location  # noqa: PTH100 - keeps links
        return self.name or location.rstrip("/").rpartition("/")[2]


def parse_reference(text: str) -> ModelRef:
    """The reference that a text stands for. ``str()`` of the reference gives the text back.

    Raises:
        ValueError: the text is not a reference; the message says what is expected.
    """
    _check_characters(text)
    if _S3.fullmatch(text):
        if {".", ".."} & set(text.split("/")):
            raise ValueError(f"found '.' or '..' between its slashes, {EXPECTED}; write the prefix without them")
        return ModelRef("s3", text)
    if page := _HUB_PAGE.fullmatch(text):
        raise ValueError(
            f"{EXPECTED}; write a model of the Hub as {'/'.join(page['rest'].split('/')[:2]) or 'org/name'}"
        )
    if (address := _HTTP.fullmatch(text)) and not {".", ".."} & set(unquote(address["path"]).split("/")):
        _check_host(text)
        return ModelRef("http", text)
    if cached := _CACHED.fullmatch(text):
        return _with_home(ModelRef("folder", cached["folder"], checked_revision(cached["revision"])))
    if _FOLDER.fullmatch(text):
        return _with_home(ModelRef("folder", text))
    if hub := _HUB.fullmatch(text):
        return ModelRef("hub", hub["repo_id"], checked_revision(hub["revision"]))
    raise ValueError(EXPECTED)


def checked_revision(text: str | None) -> str | None:
    """The same revision, if it is one that git can name: no part that leads elsewhere, no wildcard.

    Raises:
        ValueError: it is not.
    """
    if text is None:
        return None
    checked_parts(text)
    if has_wildcard(text):
        raise ValueError(
            f"found the revision {text!r}, expected a branch, a tag or a commit; write patterns in a YAML list, as "
            f"revisions: [{text!r}]"
        )
    return text


def checked_parts(revision: str) -> None:
    """Check that a revision has no ``.`` or ``..`` between slashes, also not as ``%2e``.

    A server or proxy may take such parts for a way to another address.

    Raises:
        ValueError: it has.
    """
    decoded = unquote(unquote(revision))  # a proxy and a server behind it may both decode it
    if {"", ".", ".."} & set(re.split(r"[/\\]", decoded)):
        raise ValueError(f"found the revision {revision!r}, expected a branch, a tag or a commit; correct it")


def has_wildcard(revision: str) -> bool:
    """Whether a revision is a shell pattern. git allows none of these characters in a name."""
    return bool(re.search(r"[*?\[]", revision))


def can_have_revisions(ref: ModelRef) -> bool:
    """Whether a checkpoint has revisions, and its location does not name one."""
    return ref.source == "hub" or (ref.source == "folder" and ref.path.name.startswith("models--"))


def _check_characters(text: str) -> None:
    """Check that files and addresses can have the text in their names.

    Raises:
        ValueError: they cannot. A folder's name may have any bytes but NUL, an address no control characters.
    """
    is_folder = text.startswith(("/", "./", "../", "~/"))
    try:
        content = os.fsencode(text) if is_folder else text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"found {text[error.start]!r}, {EXPECTED}, as UTF-8; correct it") from error
    if b"\0" in content or (not is_folder and _CONTROL.search(text)):
        raise ValueError(f"found a control character, {EXPECTED}; remove it")


def _check_host(address: str) -> None:
    """Check that an address names a host and a port that can be asked.

    Raises:
        ValueError: it does not.
    """
    try:
        parts = urlsplit(address)
        (parts.hostname or "").encode("idna")
        is_sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # also what encoding raises
        is_sound = False
    if not is_sound:
        raise ValueError(f"found no host and port that can be asked, {EXPECTED}; correct the address")


def _with_home(ref: ModelRef) -> ModelRef:
    """The same reference to a folder, whose path is known.

    Raises:
        ValueError: it begins with ``~``, and this user has no home folder.
    """
    try:
        ref.path  # noqa: B018 - whether it can be told
    except RuntimeError as error:
        raise ValueError(
            "found '~' for a user without a home folder, expected a path; write it whole, or set HOME"
        ) from error
    return ref


def with_options(
    ref: ModelRef,
    revision: str | None = None,
    tensor: str | None = None,
    note: str | None = None,
    follow_base: str = "false",
    file: str | None = None,
    name: str | None = None,
) -> ModelRef:
    """The reference with its options from a list.

    Raises:
        ValueError: the checkpoint cannot have a revision or a name, two revisions differ, the name has other
            characters than names on the Hub, or follow_base is not true or false.
    """
    if name is not None:
        if ref.local_name is None:
            raise ValueError(
                f"found the name {name!r}, expected none, because a model of the Hub is filed under its own; remove it"
            )
        if not re.fullmatch(HUB_PART, name):
            raise ValueError(
                f"found the name {name!r}, expected up to 96 letters, digits, '-', '_' and '.', with a letter, digit "
                "or '_' at both ends; correct it"
            )
    if revision is not None:
        if not can_have_revisions(ref):
            raise ValueError(
                f"found the revision {revision!r}, expected none, because only models on the Hub have revisions; "
                "remove it"
            )
        checked_revision(revision)
        if ref.revision not in (None, revision):
            raise ValueError(f"found two revisions, {ref.revision!r} and {revision!r}, expected one; keep only one")
    return replace(
        ref,
        revision=revision or ref.revision,
        tensor=tensor,
        note=note,
        follow_base=parse_follow_base(follow_base),
        file=file,
        name=name,
    )


def parse_follow_base(text: str) -> bool:
    """The value of ``follow_base`` in a list or a query.

    Raises:
        ValueError: the text is not true or false.
    """
    if text.lower() not in ("true", "false"):
        raise ValueError(f"follow_base is {text!r}, expected true or false")
    return text.lower() == "true"
