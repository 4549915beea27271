"""Reads the pickles that ``torch.save`` writes without executing them: it imports, builds and calls nothing.

It interprets the few opcodes that torch needs, as ``pickletools`` splits them. It does not use Python's own unpickler,
which can run code, allocate as much as a number in the file says, and hash a tuple that is nested a million times.
"""

import pickletools
from collections.abc import Callable, Mapping

from job.checkpoints.formats.torch_globals import (
    ALLOWED,
    FUNCTIONS,
    STORAGES,
    Global,
    Storage,
    UnexpectedArguments,
    is_size,
)
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint
from job.limits.memory import claim_memory

MAX_OPCODES = 1_000_000
"""torch writes 17 for each tensor, so these are 58,000 tensors. A million opcodes take 1 to 2 seconds and 100 MB."""

CONVERT_ADVICE = "load it with torch where it is trusted, and save its tensors with safetensors"


def unpickle(pickle: bytes, where: str) -> object:
    """The content of a pickle by ``torch.save``: dicts, lists, tuples, numbers, strings and ``PickledTensor``.

    Dict keys that are not strings are dropped, and so are the attributes of a dict.

    Raises:
        UnsupportedCheckpoint: the pickle needs a function, class or opcode that no plain tensor needs. Nothing was
            executed.
        CorruptCheckpoint: the pickle is invalid.
    """
    claim_memory(4 * len(pickle) + 80 * min(len(pickle), MAX_OPCODES), where)
    machine = _Machine(where)
    try:
        for n_opcodes, (opcode, argument, position) in enumerate(pickletools.genops(pickle)):
            if opcode.name == "STOP":
                return machine.pop()
            if n_opcodes >= MAX_OPCODES:
                raise UnsupportedCheckpoint(
                    f"{where}: found more than {MAX_OPCODES:,} opcodes in its pickle, expected fewer (58,000 tensors);"
                    f" {CONVERT_ADVICE}"
                )
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise UnsupportedCheckpoint(
                    f"{where}: found the opcode {opcode.name} at byte {position} of its pickle, expected those that"
                    f" torch.save writes for tensors; nothing was executed; {CONVERT_ADVICE}"
                )
            action(machine, argument)
    except (ValueError, IndexError, KeyError) as error:
        raise machine.invalid(f"{type(error).__name__} {error!s:.200}") from None
    raise machine.invalid("it has no end")


class _Machine:
    """Pickle's stack, marks and memo. Values may be nested deeply, so only strings are compared, hashed or printed."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[object, object] = {}

    def invalid(self, why: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"{self._where}: found an invalid pickle: {why}; get the file again")

    def pop(self) -> object:
        return self._stack.pop()

    def push(self, value: object) -> None:
        self._stack.append(value)

    def protocol(self, version: object) -> None:
        """Ignore the version: an opcode that is not in ``_ACTIONS`` is refused whatever the version."""

    def mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[object]:
        begin = self._marks.pop()
        values = self._stack[begin:]
        del self._stack[begin:]
        return values

    def put(self, index: object) -> None:
        self._memo[index] = self._stack[-1]

    def get(self, index: object) -> None:
        self.push(self._memo[index])

    def name(self, argument: object) -> None:
        name = str(argument).replace(" ", ".")
        if name not in ALLOWED:
            raise UnsupportedCheckpoint(
                f"{self._where}: found {name!r:.200} in its pickle, which no plain tensor needs; nothing was executed;"
                f" {CONVERT_ADVICE}"
            )
        self.push(Global(name))

    def tuple_since_mark(self, _: object) -> None:
        self.push(tuple(self.since_mark()))

    def tuple_of(self, length: int) -> None:
        if len(self._stack) < length:
            raise IndexError("a tuple of more items than the stack has")
        values = tuple(self._stack[-length:])
        del self._stack[-length:]
        self.push(values)

    def append(self, values: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise self.invalid(f"it appends to a {type(target).__name__}")
        target.extend(values)

    def set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise self.invalid(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                if key in target:
                    raise self.invalid(f"the key {key!r:.200} occurs twice")
                target[key] = value

    def build(self, _: object) -> None:
        """Drop the attributes of a dict. A state dict keeps the versions of its modules there."""
        self.pop()
        if not isinstance(self._stack[-1], dict):
            raise self.invalid(f"it gives a {type(self._stack[-1]).__name__} attributes")

    def persistent(self, _: object) -> None:
        match self.pop():
            case ("storage", Global(name), str(key), str(), n_items) if name in STORAGES and is_size(n_items):
                self.push(Storage(key, STORAGES[name], n_items))
            case _:
                raise self.invalid("it describes a storage by something else than type, key, device and length")

    def reduce(self, _: object) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or function.name not in FUNCTIONS or not isinstance(arguments, tuple):
            raise self.invalid("it calls something that is no function")
        try:
            self.push(FUNCTIONS[function.name](arguments))
        except UnexpectedArguments as error:
            raise UnsupportedCheckpoint(
                f"{self._where}: found a call of {function.name} {error} in its pickle, expected one that torch.save"
                f" writes for a plain tensor; {CONVERT_ADVICE}"
            ) from None


_ACTIONS: Mapping[str, Callable[[_Machine, object], None]] = {
    "PROTO": _Machine.protocol,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _Machine.push),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
"""What each opcode does, for those of protocol 2 that torch.save writes. All others are refused."""
