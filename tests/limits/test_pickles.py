"""Pickles that are made to cost much time or memory."""

from collections.abc import Callable

import pytest

from job.checkpoints.formats.unpickler import MAX_OPCODES
from tests.limits.limited import run_limited
from tests.pickles import PROTO, REBUILD, name, text

N = MAX_OPCODES


LONG = b"(" + b"N" * (N // 2) + b"tq\x01"


INNER_CALL = (
    name("torch._tensor", "_rebuild_from_type_v2")
    + b"("
    + name("torch._utils", "_rebuild_tensor_v3")
    + name("torch", "Tensor")
    + b"h\x01NtR"
)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a tuple a million deep": lambda: b")" + b"\x85" * (N - 10) + b".",
    "a dict with a key a million deep": lambda: b"})" + b"\x85" * (N - 10) + b"Ns.",
    "a list a million deep": lambda: b"]" * (N // 2) + b"a" * (N // 2 - 10) + b".",
    "a dict a million deep": lambda: b"}" + (text("") + b"}") * (N // 3) + b"s" * (N // 3) + b".",
    "a list in itself": lambda: b"]q\x01h\x01a.",
    "all doubled a million times": lambda: b")" + b"q\x01h\x01\x86" * (N // 3 - 10) + b".",
    "empty dicts": lambda: b"}" * 20_000_000,
    "marks": lambda: b"(" * 20_000_000,
    "everything kept": lambda: b"".join(b"}r%b" % n.to_bytes(4, "little") for n in range(N // 2 - 10)) + b".",
    "a number as the place to keep": lambda: b"N" + b"r\xff\xff\xff\xff" * 100 + b".",
    "a long tuple as a size": lambda: LONG + (name("torch", "Size") + b"h\x01\x85R") * (N // 10) + b".",
    "a long tuple as arguments": lambda: LONG + REBUILD + b"q\x02" + b"h\x02h\x01R" * (N // 10) + b".",
    "a long tuple as inner arguments": lambda: LONG + INNER_CALL * (N // 20) + b".",
    "a long tuple as a storage": lambda: LONG + b"h\x01Q.",
    "keys of one hash": lambda: b"}(" + b"".join(b"\x8a\x0b%bN" % of_one_hash(n) for n in range(N // 3)) + b"u.",
    "integers": lambda: b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 77_000 + b"t.",
    "a long text": lambda: text("a" * 19_000_000) + b".",
    "names": lambda: name("torch", "device") * N + b".",
}
"""Each within the length that is allowed, and most within the number of opcodes."""


def of_one_hash(n: int) -> bytes:
    """An integer that Python's hash takes to zero."""
    return (n * (2**61 - 1)).to_bytes(11, "little")


UNPICKLE = """
from job.checkpoints.formats.unpickler import unpickle
from job.errors import ModelError
try:
    unpickle(sys.stdin.buffer.read(), "here")
except ModelError as error:
    assert len(str(error)) < 1000
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_pickle_takes_long_or_much_memory(bomb: str) -> None:
    content = PROTO + BOMBS[bomb]()
    assert len(content) < 21_000_000
    run_limited(UNPICKLE, content)
