"""One survey as a row of surveys.parquet: what its manifest says, in short. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from job.manifest.schema import BlackHole, Manifest, Norms
from job.store.json_file import json_value

MAX_TEXT: Final = 1_000
"""The length of a text in a row. Names are shorter; what is longer is cut."""
MAX_TOKENS: Final = 1_000
"""The number of tokens in holes that a row lists: some kilobytes, so that those of 1,000 surveys fit into memory."""
MAX_TOKENS_OF_HOLE: Final = 100
MAX_TOKEN: Final = 60
"""The length of a token in a row."""
_MAX_INTEGER: Final = 2**63 - 1
_FAMILY: Final = re.compile(r"[^\W\d_]+")
_PAGES: Final = ("report.html", "report.md")


@dataclass(frozen=True)
class SurveyRow:
    """A survey. A number that the manifest does not state is None."""

    key: str
    """The key of the manifest, relative to OUTPUT."""
    mark: str | None
    """What the listing said of the manifest when it was read; another mark means that it was written again."""
    model: str
    organisation: str
    name: str
    family: str
    """The organisation, and the first word of the name, in lower case and without digits: models that are likely to
    share a tokenizer."""
    commit: str
    revision: str | None
    """The revision that was asked for."""
    revisions: str | None
    """All names of the commit that an entry for many revisions matches, with commas between them."""
    is_latest: bool
    """Whether it is the newest survey of its model, of the tensor that the job chose."""
    released: str | None
    """When the repository was created, as the Hub says: ISO 8601."""
    committed: str | None
    """When the files of the revision were changed last, as the Hub says: ISO 8601."""
    published_at: str
    sequence: int
    """Orders the surveys of one model."""
    source: str | None
    tensor: str
    chosen_by_user: bool
    """Whether the list named the tensor or the file."""
    tie: str | None
    dtype: str
    n_rows: int
    hidden_size: int
    unique_rows: int
    duplicate_rows: int
    black_holes: int
    black_hole_tokens: int
    share_of_rows: float
    largest: int
    """The population of the largest hole."""
    mu_norm: float | None
    mean_row_norm: float | None
    mean_gamma_centered_norm: float | None
    mean_black_hole_row_norm: float | None
    n_tokens: int | None
    """The number of tokens of the tokenizer."""
    unreachable: int | None
    not_round_tripping: int | None
    beyond_tokenizer: int | None
    reserved: int | None
    reserved_in_black_hole: int | None
    valid_ids: int | None
    w_sha256: str
    w_nbytes: int
    tool_version: str | None
    bytes_fetched: int
    checkpoint_nbytes: int | None
    seconds: float | None
    n_warnings: int
    previous_commit: str | None
    """The commit that the survey was compared with."""
    changed: bool | None
    """Whether the holes differ from those of that commit; None if there was no comparison."""
    joined: int | None
    """How many tokens are in a hole now, and were in none."""
    left: int | None
    """The reverse."""
    page: str
    """The key of the survey's page."""
    hole_populations: tuple[int, ...]
    """The populations of the holes that ``hole_tokens`` is of, the largest hole first."""
    hole_listed: tuple[int, ...]
    """How many tokens of each of these holes are listed: at most 100."""
    hole_tokens: tuple[str, ...]
    """The tokens of these holes, hole after hole, at most 1,000: each as the vocabulary has it, or ``#id``."""


def survey_row(key: str, mark: str | None, manifest: Manifest) -> SurveyRow:
    """The row of a checked manifest. ``is_latest`` stays False: other rows decide on it.

    Raises:
        ValueError: a number is out of range.
    """
    statistics, tensor, previous = manifest["statistics"], manifest["tensor"], manifest.get("previous")
    if len(tensor["shape"]) != 2:
        raise ValueError(f"{key}: found a W of {len(tensor['shape'])} dimensions, expected two")
    counts, dates, activity = manifest.get("token_counts"), manifest.get("hub_dates"), manifest.get("activity_seconds")
    dead: dict[str, int | None] = counts["dead_tokens"] if counts else {}
    model = _text(manifest["model"])
    organisation, _, name = model.rpartition("/")
    populations, listed, tokens = _heads(manifest["black_holes"])
    return SurveyRow(
        key=_text(key),
        mark=mark,
        model=model,
        organisation=organisation,
        name=name,
        family=family_of(model),
        commit=_text(manifest["commit"]),
        revision=_text_or_none(manifest.get("revision")),
        revisions=_text(", ".join(names)) if (names := manifest.get("revisions")) else None,
        is_latest=False,
        released=_text_or_none(dates["created_at"]) if dates else None,
        committed=_text_or_none(dates["last_modified"]) if dates else None,
        published_at=_text(manifest["published_at"]),
        sequence=_integer(manifest.get("sequence", 0)),
        source=_text_or_none(manifest.get("source")),
        tensor=_text(tensor["name"]),
        chosen_by_user=tensor["chosen_by_user"],
        tie=tensor.get("tie"),
        dtype=_text(tensor["dtype"]),
        n_rows=_integer(tensor["shape"][0]),
        hidden_size=_integer(tensor["shape"][1]),
        unique_rows=_integer(statistics["unique_rows"]),
        duplicate_rows=_integer(statistics["duplicate_rows"]),
        black_holes=_integer(statistics["black_holes"]),
        black_hole_tokens=_integer(statistics["black_hole_tokens"]),
        share_of_rows=_number(statistics["share_of_rows"]) or 0.0,
        largest=_integer(statistics["largest"]),
        mu_norm=_number(statistics["mu"]["norm"]),
        mean_row_norm=_mean(statistics["row_norm"]),
        mean_gamma_centered_norm=_mean(statistics["gamma_centered_norm"]),
        mean_black_hole_row_norm=_mean(statistics["black_hole_row_norm"]),
        n_tokens=_integer_or_none(manifest["tokenizer"].get("n_tokens")),
        unreachable=_integer_or_none(dead.get("unreachable")),
        not_round_tripping=_integer_or_none(dead.get("not_round_tripping")),
        beyond_tokenizer=_integer_or_none(dead.get("beyond_tokenizer")),
        reserved=_integer_or_none(dead.get("reserved")),
        reserved_in_black_hole=_integer_or_none(dead.get("reserved_in_black_hole")),
        valid_ids=_integer_or_none(counts["valid_ids"]) if counts else None,
        w_sha256=_text(manifest["w_sha256"]),
        w_nbytes=_integer(tensor["nbytes"]),
        tool_version=_text_or_none(manifest["tool"]["version"]) if "tool" in manifest else None,
        bytes_fetched=_integer(manifest["checkpoint"]["bytes_fetched"]),
        checkpoint_nbytes=_integer_or_none(manifest["checkpoint"]["nbytes"]),
        seconds=_number(activity["source"] + activity["computing"] + activity["store"]) if activity else None,
        n_warnings=len(manifest["warnings"]),
        previous_commit=_text(previous["commit"]) if previous else None,
        changed=not previous["same_black_holes"] if previous else None,
        joined=_integer(previous.get("n_joined", len(previous["joined"]))) if previous else None,
        left=_integer(previous.get("n_left", len(previous["left"]))) if previous else None,
        page=_page(key, manifest),
        hole_populations=populations,
        hole_listed=listed,
        hole_tokens=tokens,
    )


def family_of(model: str) -> str:
    """The family of a model: ``qwen/qwen`` for Qwen/Qwen2.5-7B-Instruct. The holes of its members are compared by the
    tokens' texts, so that it does no harm if their tokenizers differ."""
    organisation, _, name = model.rpartition("/")
    word = _FAMILY.search(name)
    return f"{organisation}/{word[0] if word else name}".casefold()


def _page(key: str, manifest: Manifest) -> str:
    """The page beside a manifest that it names: nothing else, whatever the manifest says."""
    folder = key.rpartition("/")[0]
    named = manifest.get("pages", {}).values()
    return _text(next((page for name in _PAGES if (page := f"{folder}/{name}") in named), f"{folder}/{_PAGES[-1]}"))


def _heads(holes: Sequence[BlackHole]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """``hole_populations``, ``hole_listed`` and ``hole_tokens``."""
    populations, listed, tokens = list[int](), list[int](), list[str]()
    for hole in holes:
        head = hole["tokens"][: min(MAX_TOKENS_OF_HOLE, MAX_TOKENS - len(tokens))]
        if not head:
            break
        populations.append(_integer(hole["population"]))
        listed.append(len(head))
        tokens += [f"#{token['id']}" if token["piece"] is None else _text(token["piece"], MAX_TOKEN) for token in head]
    return tuple(populations), tuple(listed), tuple(tokens)


def _mean(norms: Norms | None) -> float | None:
    return _number(norms["mean"]) if norms else None


def _text(text: str, limit: int = MAX_TEXT) -> str:
    """The text as a file in UTF-8 can have it."""
    return str(json_value(text if len(text) <= limit else f"{text[:limit]}…"))


def _text_or_none(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _integer(value: int) -> int:
    if abs(value) > _MAX_INTEGER:
        raise ValueError("found an integer of more than 64 bits, expected a count")
    return value


def _integer_or_none(value: int | None) -> int | None:
    return None if value is None else _integer(value)


def _number(value: float | None) -> float | None:
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None
