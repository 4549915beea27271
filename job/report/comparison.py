"""Prints how two surveys differ: as text for a terminal, or as one JSON document for machines."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from job.differences.schema import (
    NORMS,
    ClassesDifference,
    DifferentToken,
    HoleEventEntry,
    HolesDifference,
    IdsDifference,
    NormsDifference,
    Number,
    SurveyDifference,
    SurveyName,
    TokenList,
)
from job.report.text import escape
from job.report.wording import CLASS_TITLES
from job.store.json_file import json_value

_MAX_EVENTS: Final = 20
_MAX_TOKENS: Final = 8
_MAX_TEXT: Final = 24
"""The number of characters of a token."""

NORM_TITLES: Final = {"norm": "Norms of rows of W", "gamma_norm": "Norms of rows of γ′ = W − μ"}

FATE_TEXTS: Final = {
    "merged": "merged",
    "split": "split",
    "regrouped": "regrouped",
    "changed": "changed",
    "appeared": "appeared",
    "vanished": "vanished",
    "unmapped": "without a counterpart, since their tokens have none",
    "kept": "kept",
}


def comparison_as_json(difference: SurveyDifference) -> str:
    """The comparison as one JSON document in ASCII."""
    return json.dumps(json_value(difference), indent=1, allow_nan=False)


def print_comparison(console: Console, difference: SurveyDifference) -> None:
    """Print how two surveys differ, what matters most first."""
    a, b = difference["a"], difference["b"]
    console.print(Text(headline(difference), "bold"), soft_wrap=True)
    for name, survey in (("A", a), ("B", b)):
        console.print(Text.assemble((f"{name}  ", "cyan"), _survey(survey)), soft_wrap=True)
    console.print()
    _print_facts(console, facts(difference))
    if holes := difference["holes"]:
        _print_holes(console, holes)
    if ids := difference["ids"]:
        _print_lists(console, (("Only in A", ids["only_a"]), ("Only in B", ids["only_b"])))
    if norms := difference["norms"]:
        for name in NORMS:
            _print_norms(console, NORM_TITLES[name], norms[name])
    if classes := difference["classes"]:
        _print_classes(console, classes)
    if valid := difference["valid_ids"]:
        _print_lists(console, (("Became valid", valid["became_valid"]), ("Became invalid", valid["became_invalid"])))
    _print_statistics(console, difference)
    for sentence in difference["cannot_be_told"]:
        console.print(Text.assemble(("Cannot be told", "yellow"), f"  {escape(sentence)}"), soft_wrap=True)


def headline(difference: SurveyDifference) -> str:
    """What came out, in a sentence."""
    if not difference["changed"]:
        return "Nothing changed" + (", as far as can be told" if difference["cannot_be_told"] else "")
    parts = [
        "W" if not difference["w"]["same"] else "",
        _tokenizer_part(difference["tokenizer"]["same"]) if is_tokenizer_changed(difference) else "",
        "the black holes" if are_holes_changed(difference) else "",
        "what is said of the tokens" if _are_tokens_changed(difference) else "",
    ]
    named = [part for part in parts if part]
    text = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return f"Changed: {text}"


def _tokenizer_part(same: bool | None) -> str:
    return "the files of the tokenizer" if same is None else "the tokenizer"


def is_tokenizer_changed(difference: SurveyDifference) -> bool:
    """Whether the tokens changed, or else the tokenizer's files, where nothing more is known."""
    tokenizer = difference["tokenizer"]
    return tokenizer["same"] is False or (tokenizer["same"] is None and not tokenizer["same_files"])


def are_holes_changed(difference: SurveyDifference) -> bool:
    """Whether any hole is not one with the same tokens."""
    holes = difference["holes"]
    return holes is not None and (
        sum(holes["fates"].values()) > holes["fates"]["kept"]
        or bool(holes["unmapped_a"]["count"] or holes["unmapped_b"]["count"])
    )


def _are_tokens_changed(difference: SurveyDifference) -> bool:
    classes, valid = difference["classes"], difference["valid_ids"]
    return bool(
        (classes and (classes["moves"] or any(count["a"] != count["b"] for count in classes["counts"])))
        or (valid and (valid["became_valid"]["count"] or valid["became_invalid"]["count"]))
    )


def facts(difference: SurveyDifference) -> list[tuple[str, str]]:
    """What came out of each part, in a line each: its name and a sentence."""
    tokenizer, w = difference["tokenizer"], difference["w"]
    same = {True: "the same tokens", False: "not the same tokens", None: "the same or not, cannot be told"}
    if tokenizer["same"] is None and tokenizer["same_files"]:
        same[None] = "none"
    found = [("tokenizer", f"{same[tokenizer['same']]}: {tokenizer['evidence']}")]
    if ids := difference["ids"]:
        found.append(("ids", _ids(ids)))
    rows = ""
    if w["same_rows"] is not None and w["compared_rows"] is not None and not w["same"]:
        rows = f": {w['same_rows']:,} of {w['compared_rows']:,} mapped rows are bit-for-bit identical"
    found.append(("W", "the same, bit for bit" if w["same"] else f"another one{rows}"))
    if holes := difference["holes"]:
        found.append(("black holes", _fates(holes)))
        found.append(("tokens in holes", _tokens_in_holes(holes)))
    if centroid := difference["centroid"]:
        shift, angle = (number_text(centroid[name]) for name in ("shift", "angle_degrees"))
        norms = " → ".join(map(number_text, centroid["norms"]))
        found.append(("centroid μ", f"moved by {shift}, at an angle of {angle}°; norm {norms}"))
    if norms_of := difference["norms"]:
        found += [(name, _norms(norms_of[key])) for name, key in (("norms of W", NORMS[0]), ("norms of γ′", NORMS[1]))]
    return found


def _ids(ids: IdsDifference) -> str:
    by = "each id to itself" if ids["by"] == "id" else "by the bytes of tokens"
    parts = [
        f"{ids['mapped']:,} mapped, {by}",
        f"{ids['moved']:,} of them moved" if ids["moved"] else "",
        f"{ids['only_a']['count']:,} only in A" if ids["only_a"]["count"] else "",
        f"{ids['only_b']['count']:,} only in B" if ids["only_b"]["count"] else "",
        *(
            f"{a:,} of A and {b:,} of B {what}" if a or b else ""
            for (a, b), what in (
                (ids["ambiguous"], "left out as ambiguous"),
                (ids["without_token"], "stand for no token"),
            )
        ),
    ]
    return ", ".join(filter(None, parts))


def _fates(holes: HolesDifference) -> str:
    found = [f"{count:,} {FATE_TEXTS[fate]}" for fate, count in holes["fates"].items() if count]
    return ", ".join(found) or "none in either"


def _tokens_in_holes(holes: HolesDifference) -> str:
    found = [f"{holes['entered']['count']:,} entered, {holes['left']['count']:,} left"]
    for name, tokens in (("A", holes["unmapped_a"]), ("B", holes["unmapped_b"])):
        if tokens["count"]:
            found.append(f"{tokens['count']:,} in a hole of {name} are not mapped")
    return "; ".join(found)


def _norms(norms: NormsDifference) -> str:
    return f"{norms['changed']:,} of {norms['rows']:,} changed; {_spread(norms)}"


def _spread(norms: NormsDifference) -> str:
    quantiles = norms["quantiles"]
    left_out = f"; {norms['not_finite']:,} rows without a number left out" if norms["not_finite"] else ""
    if quantiles is None or not norms["changed"]:
        return f"no change to tell{left_out}" if quantiles is None else f"the others are the same{left_out}"
    low, middle, high = (signed(quantiles[share]) for share in ("0.05", "0.5", "0.95"))
    return f"5 %, median, 95 % of the change: {low}, {middle}, {high}{left_out}"


def _survey(survey: SurveyName) -> str:
    revision = f", asked for as {survey['revision']}" if survey["revision"] else ""
    return escape(f"{survey['model']}@{survey['commit']}{revision}, published {survey['published_at']}")


def number_text(value: Number) -> str:
    """A number or a text of a manifest."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return escape(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def signed(value: float) -> str:
    """A change."""
    return f"{value:+.4g}" if value else "0"


def token_text(token: DifferentToken) -> str:
    """A token by its id in A and B, and its text."""
    ids = {token["a"], token["b"]} - {None}
    id = " → ".join(str(id) for id in (token["a"], token["b"]) if id is not None) if len(ids) > 1 else str(*ids)
    text = token["text"] if token["text"] is not None else token["piece"]
    if text is None:
        return id
    return f'{id} "{escape(text[:_MAX_TEXT])}{"…" if len(text) > _MAX_TEXT else ""}"'


def _tokens(tokens: Iterable[DifferentToken], count: int) -> str:
    found = [token_text(token) for token, _ in zip(tokens, range(_MAX_TOKENS), strict=False)]
    n_more = count - len(found)
    return "  ".join(found) + (f"  … {n_more:,} more" if n_more else "")


def _print_facts(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    table = _table(("", "left"), ("", "left"))
    for name, text in lines:
        table.add_row(Text(name, "cyan"), Text(text))
    console.print(table)


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(title for title, _ in columns))
    for title, justify in columns:
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, "bold"))


def _print_holes(console: Console, holes: HolesDifference) -> None:
    events = [event for event in holes["events"] if event["fate"] != "kept" or event["rows"][0] != event["rows"][1]]
    if events:
        _title(console, "Black holes")
        table = _table(("", "left"), ("in A", "left"), ("in B", "left"), ("rows", "right"), ("tokens", "left"))
        for event in events[:_MAX_EVENTS]:
            table.add_row(*map(Text, _event_cells(event)))
        console.print(table)
        n_all = sum(count for fate, count in holes["fates"].items() if fate != "kept")
        if n_all > _MAX_EVENTS:
            console.print(f"… {n_all - _MAX_EVENTS:,} more; --format json has up to 1,000")
    _print_lists(
        console,
        (
            ("Entered a hole", holes["entered"]),
            ("Left the holes", holes["left"]),
            ("In a hole of A, not mapped", holes["unmapped_a"]),
            ("In a hole of B, not mapped", holes["unmapped_b"]),
        ),
    )


def _event_cells(event: HoleEventEntry) -> tuple[str, ...]:
    rows = " → ".join(f"{rows:,}" for rows in event["rows"])
    moved = [
        f"{verb} {_tokens(tokens['tokens'][:3], tokens['count'])}"
        for verb, tokens in (("entered", event["entered"]), ("left", event["left"]))
        if tokens["count"] and event["fate"] == "changed"
    ]
    examples = "  ".join(map(token_text, event["examples"][:3]))
    return event["fate"], hole_numbers(event["a"]), hole_numbers(event["b"]), rows, "; ".join(moved) or examples


def hole_numbers(numbers: Sequence[int], limit: int = 6) -> str:
    """The numbers of some holes."""
    more = f" and {len(numbers) - limit:,} more" if len(numbers) > limit else ""
    return ", ".join(map(str, numbers[:limit])) + more or "–"


def _print_lists(console: Console, lists: Iterable[tuple[str, TokenList]]) -> None:
    for title, tokens in lists:
        if tokens["count"]:
            _title(console, f"{title}: {tokens['count']:,}")
            console.print(Text(_tokens(tokens["tokens"], tokens["count"])))


def _print_norms(console: Console, title: str, norms: NormsDifference) -> None:
    if not norms["most"]:
        return
    _title(console, f"{title}, changed most")
    table = _table(("token", "left"), ("in A", "right"), ("in B", "right"), ("change", "right"))
    for change in norms["most"]:
        numbers = (f"{change[name]:.9g}" for name in ("before", "after"))
        table.add_row(*map(Text, (token_text(change["token"]), *numbers, signed(change["change"]))))
    console.print(table)


def _print_classes(console: Console, classes: ClassesDifference) -> None:
    counts = [count for count in classes["counts"] if count["a"] != count["b"]]
    if counts:
        _title(console, "Classes of tokens")
        table = _table(("class", "left"), ("in A", "right"), ("in B", "right"), ("change", "right"))
        for count in counts:
            change = f"{count['b'] - count['a']:+,}"
            table.add_row(*map(Text, (_class_title(count["name"]), f"{count['a']:,}", f"{count['b']:,}", change)))
        console.print(table)
    _print_lists(
        console,
        ((f"From {_class_title(move['a'])} to {_class_title(move['b'])}", move["tokens"]) for move in classes["moves"]),
    )


def _class_title(name: str) -> str:
    return escape(CLASS_TITLES.get(name, name))


def _print_statistics(console: Console, difference: SurveyDifference) -> None:
    _title(console, "Side by side")
    table = _table(("", "left"), ("A", "right"), ("B", "right"))
    for row in difference["statistics"]:
        style = "" if row["a"] == row["b"] else "bold"
        cells = (number_text(row["a"]), number_text(row["b"]))
        table.add_row(row["name"], *(Text(cell, style) for cell in cells))
    console.print(table)
    console.print()
