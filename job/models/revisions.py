"""Many revisions of one model as one entry of a list: which names its patterns match, and in which order.

Does not ask the Hub.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from job.models.references import ModelRef, can_have_revisions, checked_parts, has_wildcard

MAX_REVISIONS: Final = 1_000
"""How many commits an entry may stand for. An entry that stands for more is probably a mistake."""

REF_NAME: Final = r"[^\x00-\x20\x7f~^:?*\[\\]{1,255}"
"""What git allows in a name (git-check-ref-format), near enough: no blank, control character or wildcard."""

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelRevisions:
    """The revisions of one model whose names match patterns."""

    model: ModelRef
    """The model with all that the list says of it, but without a revision."""
    patterns: tuple[str, ...]
    """Shell patterns, case-sensitive; ``*`` also matches a slash. A pattern without a wildcard is a revision."""

    def __str__(self) -> str:
        return f"{self.model} (revisions {', '.join(self.patterns)})"

    @property
    def has_patterns(self) -> bool:
        """Whether it stands for more than the revisions that it names."""
        return any(map(has_wildcard, self.patterns))

    @property
    def asks_for_pull_requests(self) -> bool:
        """Whether a pattern is for pull requests. Otherwise they need not be listed."""
        return any(pattern.startswith("refs/pr/") for pattern in self.patterns if has_wildcard(pattern))


@dataclass(frozen=True)
class NamedCommit:
    """A branch, a tag or a pull request, and its newest commit."""

    name: str
    """``v1.0``; of a pull request ``refs/pr/7``."""
    ref: str
    """Its whole name in git: ``refs/tags/v1.0``."""
    commit: str


def is_ref_name(name: str) -> bool:
    """Whether a text can be the name of a branch or a tag, in UTF-8."""
    return bool(re.fullmatch(REF_NAME, name)) and not re.search("[\ud800-\udfff]", name)


def with_revisions(model: ModelRef, patterns: Sequence[str]) -> ModelRevisions:
    """The entry for a model and the patterns of its revisions.

    Raises:
        ValueError: the checkpoint cannot have revisions, the list names a revision too, or a pattern is none.
    """
    if not can_have_revisions(model):
        raise ValueError(
            "found 'revisions', expected none, because only models on the Hub and in its cache have revisions; write "
            "an entry for each checkpoint"
        )
    if model.revision is not None:
        raise ValueError(
            f"found the revision {model.revision!r} and 'revisions', expected one of them; move it into 'revisions'"
        )
    if not patterns:
        raise ValueError("'revisions' is empty, expected one or more, such as [\"step*\", main]; add them")
    for pattern in patterns:
        checked_parts(pattern)
        if not re.fullmatch(r"[^\x00-\x20\x7f]+", pattern):
            raise ValueError(
                f"found {pattern!r:.80} in 'revisions', expected a branch, a tag, a commit or a pattern such as step*; "
                "correct it"
            )
    return ModelRevisions(model, tuple(patterns))


def expand(entry: ModelRevisions, listed: Iterable[NamedCommit]) -> list[ModelRef]:
    """The revisions that an entry stands for, each commit once with all its names, if ``listed`` is all there is.

    The order is that of the patterns, and within a pattern that of the names, with numbers in them as numbers: what
    is counted up during training comes out oldest first. A pattern or name that matches nothing stays as it is, without
    a commit: the Hub knows revisions by other names too, such as a short id. What does not exist is refused when it is
    opened.
    """
    in_order = sorted(listed, key=lambda named: (natural_order(named.name), named.ref))
    names: dict[str, list[str]] = {}  # by commit, or by the pattern if there is none
    for pattern in entry.patterns:
        found = [(named.name, named.commit) for named in in_order if _matches(pattern, named)]
        for name, commit in found or [(pattern, pattern)]:
            if name not in names.setdefault(commit, []):
                names[commit].append(name)
    return [
        replace(
            entry.model,
            revision=of_commit[0],
            commit=commit if _COMMIT.fullmatch(commit) else None,
            revisions=tuple(of_commit),
        )
        for commit, of_commit in names.items()
    ]


def natural_order(name: str) -> tuple[tuple[str, int, str], ...]:
    """A sort key by which step2 comes before step10. Numbers may have any length."""
    parts = re.split(r"([0-9]+)", name)
    digits = [part.lstrip("0") or "0" for part in parts[1::2]] + [""]
    return (*((text, len(number), number) for text, number in zip(parts[::2], digits, strict=True)), (name, 0, ""))


def _matches(pattern: str, named: NamedCommit) -> bool:
    """Whether a pattern matches a name. Pull requests are matched only by patterns for them, or by their own name."""
    if not has_wildcard(pattern):
        return pattern in (named.name, named.ref)
    if pattern.startswith("refs/"):
        return fnmatchcase(named.ref, pattern)
    return not named.ref.startswith("refs/pr/") and fnmatchcase(named.name, pattern)
