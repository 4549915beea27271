"""Pickles that would run code, fill the memory or take for ever: each is refused, soon, and nothing happens."""

import builtins
import copyreg
import io
import os
import pickle
import pickletools
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from job.checkpoints.formats.torch_globals import PickledTensor, Storage
from job.checkpoints.formats.unpickler import unpickle
from job.errors import CorruptCheckpoint, ModelError, UnsupportedCheckpoint
from tests.pickles import HOOKS, PROTO, REBUILD, STORAGE, name, tensor, text

# ``pickletools`` looks for escapes in a name, as no pickler writes them, and warns of those that are none.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")


def test_a_plain_tensor_is_understood_without_torch() -> None:
    stored = PickledTensor(Storage("0", "F32", 12), "F32", 0, (3, 4), (4, 1))
    assert unpickle(PROTO + b"}" + text("w") + tensor() + b"s.", "here") == {"w": stored}


class RunsWhenLoaded:
    """Pickles itself as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class TouchesAFile:
    """What ``pickle`` builds by calling ``__setstate__``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Path]) -> None:
        state["path"].touch()


def attacks(path: Path) -> dict[str, bytes]:
    """Pickles that make ``path`` when Python loads them."""
    touch = f"touch {path}"
    code = f"open({str(path)!r}, 'w').close()"
    copyreg.add_extension("os", "system", 0xBEEF)
    calls = {
        "os.system": pickle.dumps(RunsWhenLoaded(os.system, touch), 2),
        "eval": pickle.dumps(RunsWhenLoaded(builtins.eval, code), 2),
        "exec": pickle.dumps(RunsWhenLoaded(builtins.exec, code), 2),
        "subprocess": pickle.dumps(RunsWhenLoaded(subprocess.call, ["touch", str(path)]), 2),
        "by way of torch": name("torch.serialization", "os.system") + b"(" + text(touch) + b"tR.",
        "an object's state": pickle.dumps(TouchesAFile(path), 2),
        "a name on the stack": pickle.dumps(RunsWhenLoaded(builtins.eval, code), 4),
        "the text protocol": pickle.dumps(RunsWhenLoaded(os.system, touch), 0),
        "INST": b"(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(" + name("os", "system") + text(touch) + b"o.",
        "NEWOBJ": name("builtins", "map") + b"(" + name("os", "system") + b"(" + text(touch) + b"ltt\x81.",
        "EXT": b"\x83\xef\xbe" + b"(" + text(touch) + b"tR.",
        "after a sound tensor": PROTO + tensor() + b"0" + name("os", "system") + b"(" + text(touch) + b"tR.",
        "as hooks": PROTO + tensor().replace(HOOKS, name("os", "system") + b"(" + text(touch) + b"tR") + b".",
    }
    copyreg.remove_extension("os", "system", 0xBEEF)
    return calls


@pytest.mark.parametrize("attack", attacks(Path("a")))
def test_a_pickle_that_runs_code_does_not(attack: str, tmp_path: Path) -> None:
    path = tmp_path / "made-by-the-pickle"
    with pytest.raises(UnsupportedCheckpoint, match=r"^here: .*nothing was executed"):
        unpickle(attacks(path)[attack], "here")
    assert not path.exists()


@pytest.mark.parametrize("attack", ["os.system", "eval", "an object's state", "INST", "OBJ", "the text protocol"])
def test_the_same_pickle_does_run_code_in_python(attack: str, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    path = tmp_path / "made-by-the-pickle"
    pickle.loads(attacks(path)[attack])  # noqa: S301 - on purpose
    assert path.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(name("os", "system") + b".", "'os.system'", id="a function"),
        pytest.param(name("torch", "load") + b".", "'torch.load'", id="another of torch's"),
        pytest.param(name("torch._utils", "_rebuild_qtensor") + b".", "_rebuild_qtensor", id="a quantised tensor"),
        pytest.param(name("numpy.core.multiarray", "_reconstruct") + b".", "numpy", id="an array of numpy"),
        pytest.param(b"c" + b"x" * 5000 + b"\n" + b"y" * 5000 + b"\n.", "'xxx", id="a very long name"),
        pytest.param(b"I5\n.", "INT", id="an opcode of protocol 0"),
        pytest.param(b"\x8c\x01a.", "SHORT_BINUNICODE", id="an opcode of protocol 4"),
        pytest.param(HOOKS[:-2] + b"]\x85R.", "OrderedDict", id="a dict from a list"),
        pytest.param(tensor(shape=b"K\x03]\x86"), "a shape", id="a shape of lists"),
        pytest.param(tensor(shape=b"K\x03\x88\x86"), "a shape", id="a shape of booleans"),
        pytest.param(tensor(shape=b"K\x03\x85"), "a shape", id="fewer sizes than strides"),
        pytest.param(tensor(shape=b"K\x03J\xff\xff\xff\xff\x86"), "a shape", id="a negative size"),
        pytest.param(tensor(strides=b"K\x03J\xff\xff\xff\xff\x86"), "a shape", id="a negative stride"),
        pytest.param(tensor(offset=b"J\xff\xff\xff\xff"), "a shape", id="a negative offset"),
        pytest.param(tensor(offset=b"\x8a\x09" + b"\0" * 8 + b"\x01"), "a shape", id="an offset beyond 64 bits"),
        pytest.param(tensor(b"(" + b"K\x01" * 65 + b"t", b"(" + b"K\x01" * 65 + b"t"), "a shape", id="65 dimensions"),
        pytest.param(REBUILD + b"(NNNNNNt" + b"R.", "other arguments", id="no storage"),
        pytest.param(REBUILD + b"(" + b"N" * 20 + b"tR.", "other arguments", id="too many arguments"),
    ],
)
def test_what_no_plain_tensor_needs_is_refused_by_name(content: bytes, found: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"^here: .*{found}") as refusal:
        unpickle(PROTO + content, "here")
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(PROTO, id="no end"),
        pytest.param(PROTO + b".", id="no value"),
        pytest.param(PROTO + b"\x86.", id="a tuple of nothing"),
        pytest.param(PROTO + b"t.", id="a tuple without mark"),
        pytest.param(PROTO + b"h\x05.", id="a value that was never kept"),
        pytest.param(PROTO + b"q\x05.", id="nothing to keep"),
        pytest.param(PROTO + b"NK\x01a.", id="appending to no list"),
        pytest.param(PROTO + b"N" + text("a") + b"Ns.", id="setting an item of no dict"),
        pytest.param(PROTO + b"}(N" + b"u.", id="a key without value"),
        pytest.param(PROTO + b"}" + (text("a") + b"Ns") * 2 + b".", id="a key twice"),
        pytest.param(PROTO + b"N)R.", id="calling no function"),
        pytest.param(PROTO + REBUILD + b"NR.", id="calling with no tuple"),
        pytest.param(PROTO + name("torch", "FloatStorage") + b")R.", id="calling a storage"),
        pytest.param(PROTO + b"NNb.", id="attributes of None"),
        pytest.param(PROTO + tensor() + b"}b.", id="attributes of a tensor"),
        pytest.param(PROTO + b"NQ.", id="no storage"),
        pytest.param(PROTO + STORAGE.replace(b"FloatStorage", b"float32") + b".", id="a storage of no type"),
        pytest.param(PROTO + STORAGE.replace(b"K\x0c", b"J\xff\xff\xff\xff") + b".", id="a negative length"),
        pytest.param(PROTO + b"X\xff\xff\xff\xffabc.", id="a text longer than the file"),
        pytest.param(PROTO + b"X\x01\0\0\0\xff.", id="a text that is none"),
        pytest.param(PROTO + b"\xff.", id="no opcode"),
        pytest.param(b"\x95" + b"\xff" * 8 + b".", id="a frame beyond all memory"),
        pytest.param(b"\x8e" + b"\xff" * 7 + b"\x0f.", id="bytes beyond all memory"),
        pytest.param(b"\x96" + b"\xff" * 7 + b"\x0f.", id="a bytearray beyond all memory"),
        pytest.param(b"\x8b" + b"\xff\xff\xff\x7f.", id="an integer beyond all memory"),
        pytest.param(b"L" + b"9" * 1_000_000 + b"L\n.", id="an integer of a million digits"),
    ],
)
def test_an_unsound_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^here: "):
        unpickle(content, "here")


def test_unsound_is_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match="here: found an invalid pickle: the key 'a' occurs twice"):
        unpickle(PROTO + b"}" + (text("a") + b"Ns") * 2 + b".", "here")


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
ARGUMENTS = st.one_of(
    st.just(b""), st.binary(max_size=9), st.sampled_from([text("a"), REBUILD[1:], HOOKS[1:-2], STORAGE[1:], b"\x01"])
)


@given(st.lists(st.tuples(st.sampled_from(OPCODES), ARGUMENTS), max_size=30))
def test_any_opcodes_are_understood_or_refused(opcodes: list[tuple[bytes, bytes]]) -> None:
    try:
        unpickle(b"".join(code + argument for code, argument in opcodes), "here")
    except ModelError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - either outcome is right


PARTS = [
    *(b"(", b")", b"]", b"}", b"N", b"\x88", b"K\x03", b"t", b"\x85", b"\x86", b"\x87", b"R", b"Q", b"b", b"s", b"u"),
    *(b"a", b"e", b"q\x01", b"h\x01", text("a"), text("storage"), STORAGE, REBUILD, HOOKS, tensor()),
    *(name("torch._utils", function) for function in ("_rebuild_tensor_v3", "_rebuild_parameter")),
    *(name("torch", function) for function in ("Size", "float16", "FloatStorage")),
    name("torch._tensor", "_rebuild_from_type_v2"),
]


@given(st.lists(st.sampled_from(PARTS), max_size=40))
def test_any_sequence_of_sound_parts_is_understood_or_refused(parts: list[bytes]) -> None:
    try:
        unpickle(PROTO + b"".join(parts) + b".", "here")
    except ModelError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - either outcome is right


def saved_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.nn.Parameter(torch.ones(2, 3)), "h": torch.ones(3).to(torch.float8_e5m2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read("archive/data.pkl")


SAVED = saved_pickle()


@given(st.integers(0, len(SAVED)), st.binary(max_size=5), st.integers(0, 5))
def test_a_changed_pickle_is_understood_or_refused(at: int, change: bytes, n_removed: int) -> None:
    try:
        unpickle(SAVED[:at] + change + SAVED[at + n_removed :], "here")
    except ModelError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - either outcome is right
