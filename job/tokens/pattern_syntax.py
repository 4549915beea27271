"""Reads the regular expressions of pre-tokenizers (Oniguruma's syntax, as far as they use it) as automata."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

MAX_STATES: Final = 5_000
"""Of an automaton. Patterns in use have about a hundred."""
_UNBOUNDED: Final = -1

_LOOK_AROUND: Final = re.compile(r"\(\?(=|!|<=|<!)")
_GROUP: Final = re.compile(r"\(\?(i?)(?:-i)?(?::|(>))|\((?!\?)")
_ESCAPED_CLASS: Final = re.compile(
    r"\\[pP]\{\^?\w+\}|\\x\{[0-9A-Fa-f]+\}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[sSdDwWhH]"
)
_ANCHOR: Final = re.compile(r"\\[bBAzZG]|[\^$]")
_ESCAPED_CHARACTER: Final = re.compile(r"\\[^\w]|\\[rntfv]", re.ASCII)
_PLAIN_ATOM: Final = re.compile(r"\[[A-Za-z]+\]|[A-Za-z0-9_ ']")
"""An atom that means the same whether case is ignored or not, but for the case of its letters."""
_COUNT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")

Node = Callable[["Automaton", int], int]
"""Adds a part of the expression that begins in this state; gives the state in which it ends."""


class UnknownSyntax(Exception):
    """The expression has something that is not read here; the message quotes it."""


@dataclass
class Automaton:
    """States, with the edges out of each: over one atom, or over nothing."""

    atoms: list[str] = field(default_factory=list)
    """Expressions that match a single character."""
    edges: list[list[tuple[int, int]]] = field(default_factory=list)
    """By state: an atom's number, and the state that it leads to."""
    empty_edges: list[list[int]] = field(default_factory=list)
    start: int = 0
    end: int = 0
    plain_alternatives: list[str] = field(default_factory=list)
    """The alternatives of the whole expression that have no look-around and no anchor."""

    def add_state(self) -> int:
        if len(self.edges) >= MAX_STATES:
            raise UnknownSyntax(f"more than {MAX_STATES:,} states")
        self.edges.append([])
        self.empty_edges.append([])
        return len(self.edges) - 1

    def add_atom(self, atom: str, begin: int) -> int:
        if atom not in self.atoms:
            self.atoms.append(atom)
        end = self.add_state()
        self.edges[begin].append((self.atoms.index(atom), end))
        return end


def read_pattern(pattern: str) -> Automaton:
    """The automaton of an expression.

    Raises:
        UnknownSyntax: it has something that is not read here.
    """
    reader = _Reader(pattern)
    automaton = Automaton()
    automaton.start = automaton.add_state()
    if pattern.startswith("(?i)"):
        reader.position = 4
    node = reader.alternatives(ignore_case=pattern.startswith("(?i)"), top=True)
    if reader.position != len(pattern):
        raise UnknownSyntax(pattern[reader.position :])
    automaton.end = node(automaton, automaton.start)
    prefix = "(?i)" if pattern.startswith("(?i)") else ""
    automaton.plain_alternatives = [f"{prefix}{text}" for text in reader.plain]
    return automaton


class _Reader:
    """Where the reading of an expression stands."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.plain: list[str] = []
        self._conditions = 0  # look-arounds and anchors so far

    def alternatives(self, *, ignore_case: bool, top: bool = False) -> Node:
        choices: list[Node] = []
        while True:
            begin, conditions = self.position, self._conditions
            choices.append(self._sequence(ignore_case))
            if top and conditions == self._conditions and self.position > begin:
                self.plain.append(self.pattern[begin : self.position])
            if not self._take("|"):
                return _any_of(choices)

    def _sequence(self, ignore_case: bool) -> Node:
        parts: list[Node] = []
        literal = ""
        while self.position < len(self.pattern) and self.pattern[self.position] not in "|)":
            begin = self.position
            part = self._part(ignore_case)
            text = self.pattern[begin : self.position]
            literal = literal[-1:] + text[:1]  # of a class or a group only its bracket
            if ignore_case and len(literal) == 2 and ({*"[("} & {*literal} or literal.lower() in _folded_pairs()):
                raise UnknownSyntax(f"(?i){literal}")  # one character, such as ß, may stand for both
            parts.append(self._repeated(part))
        return _in_order(parts)

    def _part(self, ignore_case: bool) -> Node:
        if self._match(_LOOK_AROUND):
            self._conditions += 1
            self._group(ignore_case)
            return _nothing
        if group := self._match(_GROUP):
            return self._group(ignore_case or bool(group[1]))
        if self._match(_ANCHOR):
            self._conditions += 1
            return _nothing
        begin = self.position
        if self.pattern[begin] == "[":
            self.position = _end_of_class(self.pattern, begin)
        elif not (self._match(_ESCAPED_CLASS) or self._match(_ESCAPED_CHARACTER)):
            if self.pattern[begin] in "\\*+?(":
                raise UnknownSyntax(self.pattern[begin:])
            self.position += 1
        atom = self.pattern[begin : self.position]
        if ignore_case:
            if not _PLAIN_ATOM.fullmatch(atom):
                raise UnknownSyntax(f"(?i){atom}")
            atom = f"(?i:{atom})"
        return lambda automaton, state: automaton.add_atom(atom, state)

    def _group(self, ignore_case: bool) -> Node:
        node = self.alternatives(ignore_case=ignore_case)
        if not self._take(")"):
            raise UnknownSyntax(self.pattern)
        return node

    def _repeated(self, node: Node) -> Node:
        while True:
            if self._take("*"):
                least, most = 0, _UNBOUNDED
            elif self._take("+"):
                least, most = 1, _UNBOUNDED
            elif self._take("?"):
                least, most = 0, 1
            elif (count := self._match(_COUNT)) and (count[1] or count[3]):
                least = int(count[1] or 0)
                most = int(count[3]) if count[3] else _UNBOUNDED if count[2] else least
            else:
                return node
            if not self._take("+"):  # possessive
                self._take("?")  # lazy
            node = _repeat(node, least, most)

    def _match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        found = expression.match(self.pattern, self.position)
        if found:
            self.position = found.end()
        return found

    def _take(self, char: str) -> bool:
        taken = self.pattern.startswith(char, self.position)
        self.position += len(char) if taken else 0
        return taken


def _end_of_class(pattern: str, begin: int) -> int:
    """Where a class in brackets ends; it may hold others."""
    depth, position = 0, begin
    while position < len(pattern):
        char = pattern[position]
        depth += (char == "[") - (char == "]")
        position += 2 if char == "\\" else 1
        if depth == 0:
            return position
    raise UnknownSyntax(pattern[begin:])


def _nothing(_: Automaton, state: int) -> int:
    return state


def _in_order(parts: list[Node]) -> Node:
    def add(automaton: Automaton, state: int) -> int:
        for part in parts:
            state = part(automaton, state)
        return state

    return add


def _any_of(choices: list[Node]) -> Node:
    def add(automaton: Automaton, state: int) -> int:
        end = automaton.add_state()
        for choice in choices:
            begin = automaton.add_state()
            automaton.empty_edges[state].append(begin)
            automaton.empty_edges[choice(automaton, begin)].append(end)
        return end

    return add


def _repeat(node: Node, least: int, most: int) -> Node:
    def add(automaton: Automaton, state: int) -> int:
        for _ in range(least):
            state = node(automaton, state)
        if most == _UNBOUNDED:
            loop = automaton.add_state()
            automaton.empty_edges[state].append(loop)
            automaton.empty_edges[node(automaton, loop)].append(loop)
            return loop
        end = automaton.add_state()
        automaton.empty_edges[state].append(end)
        for _ in range(most - least):
            state = node(automaton, state)
            automaton.empty_edges[state].append(end)
        return end

    return add


@cache
def _folded_pairs() -> frozenset[str]:
    """The first two letters of what single characters are taken for where case is ignored: ss for ß, fi for ﬁ."""
    folded = (chr(code).casefold() for code in range(0x80, 0x10000))
    return frozenset(text[:2] for text in folded if len(text) > 1 and text.isascii())
