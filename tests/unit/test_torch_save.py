"""Files by torch.save, read by range and held against what torch.load gives of the same bytes."""

import io
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.serialization import config as torch_config

from job.checkpoints.checkpoint import Checkpoint, StoredFile, TensorLocation
from job.checkpoints.head.headers import MAX_LOCAL_HEADERS, read_header, read_safetensors, read_torch_save
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.head.weights import open_weights
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, ModelError, UnsupportedCheckpoint
from tests.checkpoints import recorded

# ``pickletools`` looks for escapes in a name, as no pickler writes them, and warns of those that are none.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")

FILE = "pytorch_model.bin"

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip


def checkpoint_of(content: bytes, file: str = FILE, requests: list[tuple[int, int]] | None = None) -> Checkpoint:
    files = {file: StoredFile(len(content), "id")}

    def fill(_name: str, begin: int, buffer: memoryview) -> None:
        end = begin + len(buffer)
        if requests is not None:
            requests.append((begin, end))
        buffer[:] = content[begin:end]

    return Checkpoint("local/here", None, "0" * 40, "here", files, fill)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read(content: bytes) -> dict[str, TensorLocation]:
    return read_torch_save(checkpoint_of(content), FILE)


def tensor_at(location: TensorLocation, content: bytes) -> torch.Tensor:
    """The tensor made of the location's bytes alone."""
    dtype = DTYPES[location.dtype]
    stored = bytearray(content[location.begin : location.end])
    if location.strides is None:
        return torch.frombuffer(stored, dtype=dtype).reshape(location.shape)
    return torch.frombuffer(stored, dtype=dtype).as_strided(location.shape, location.strides)


def as_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def repacked(content: bytes, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same archive written by Python's zipfile, with some entries changed, added, or (None) left out."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries: dict[str, bytes | None] = {name: old.read(name) for name in old.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as new:
        for name, data in (entries | changes).items():
            if data is not None:
                new.writestr(name, data)
    return buffer.getvalue()


def a_matrix(n_rows: int = 6, n_columns: int = 4) -> torch.Tensor:
    return torch.arange(n_rows * n_columns, dtype=torch.float32).reshape(n_rows, n_columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_dtype_has_the_name_and_bytes_that_safetensors_gives_it(dtype: str) -> None:
    tensor = torch.arange(64, dtype=torch.uint8).view(torch.bool if dtype == "BOOL" else DTYPES[dtype]).view(2, -1)
    content, other = saved({"w": tensor}), safetensors.torch.save({"w": tensor})
    location, expected = read(content)["w"], read_safetensors(checkpoint_of(other), FILE)["w"]
    assert (location.dtype, location.shape, location.strides) == (expected.dtype, expected.shape, None)
    assert content[location.begin : location.end] == other[expected.begin : expected.end]


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "all of it": lambda t: t,
    "rows cut off": lambda t: t[:4],
    "rows from the middle": lambda t: t[2:5],
    "columns cut off": lambda t: t[:, :3],
    "columns from the middle": lambda t: t[1:4, 1:3],
    "transposed": lambda t: t.t(),
    "every other row": lambda t: t[::2],
    "a single row": lambda t: t[3:4, :2],
    "a single column": lambda t: t[:, 1:2],
    "a row as a vector": lambda t: t[2],
    "no rows": lambda t: t[:0],
    "a single number": lambda t: t[5, 3],
    "more dimensions": lambda t: t.view(2, 3, 2, 2).permute(3, 1, 0, 2),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_exactly_the_bytes_it_spans(view: str) -> None:
    tensor = VIEWS[view](a_matrix())
    content = saved({"other": torch.ones(3), "w": tensor})
    location = read(content)["w"]
    assert location.shape == tuple(tensor.shape)
    assert (location.strides is None) == tensor.is_contiguous()
    if tensor.numel():
        assert torch.equal(tensor_at(location, content), tensor)
        n_spanned = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        assert location.nbytes == 4 * n_spanned
    else:
        assert location.nbytes == 0


@given(st.data())
def test_any_view_of_any_storage_is_what_torch_loads(data: st.DataObject) -> None:
    tensor = torch.arange(60, dtype=torch.int16)[data.draw(st.integers(0, 59)) :]
    for _ in range(data.draw(st.integers(0, 4))):
        divisors = [n for n in range(1, len(tensor) + 1) if len(tensor) % n == 0] if tensor.dim() else []
        if divisors and tensor.dim() == 1:
            tensor = tensor.view(data.draw(st.sampled_from(divisors)), -1)
        dimension = data.draw(st.integers(0, tensor.dim() - 1))
        tensor = tensor.movedim(dimension, 0)
        begin = data.draw(st.integers(0, len(tensor) - 1))
        tensor = tensor[begin : data.draw(st.integers(begin + 1, len(tensor))) : data.draw(st.integers(1, 3))]
    content = saved({"w": tensor, "storage": torch.ones(2)})
    location = read(content)["w"]
    assert torch.equal(tensor_at(location, content), torch.load(io.BytesIO(content))["w"])
    assert (location.strides is None) == tensor.is_contiguous()


def test_tensors_that_share_a_storage_share_bytes() -> None:
    tied = a_matrix()
    found = read(saved({"lm_head.weight": tied, "wte.weight": tied, "untied": tied.clone()}))
    assert found["lm_head.weight"] == found["wte.weight"] != found["untied"]


def test_all_that_a_state_dict_holds_besides_plain_tensors_is_passed_over() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state: dict[str, object] = OrderedDict(model.state_dict())
    with_attributes = torch.nn.Parameter(a_matrix())
    with_attributes.tensor_model_parallel = True  # type: ignore[attr-defined]  # as Megatron does
    state |= {
        "parameter": torch.nn.Parameter(a_matrix()),
        "with attributes": with_attributes,
        "extra": {"size": torch.Size([2, 3]), "device": torch.device("cpu"), "dtype": torch.float16, "n": 2**40},
        "list": [1.5, None, True, ("a", "b", "c"), [torch.ones(2)]],
    }
    content = saved(state)
    found = read(content)
    loaded = torch.load(io.BytesIO(content))
    assert found.keys() == {name for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    assert found.keys() == {*model.state_dict(), "parameter", "with attributes"}
    for name in found:
        assert torch.equal(tensor_at(found[name], content), loaded[name].detach())


def test_the_state_dict_itself_with_its_metadata_is_read() -> None:
    content = saved(torch.nn.Linear(3, 2).state_dict())
    assert {name: location.shape for name, location in read(content).items()} == {"weight": (2, 3), "bias": (2,)}


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "model_state_dict"])
def test_weights_among_the_rest_of_a_training_run_are_found(wrapper: str) -> None:
    run = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "lr": 0.1}, "best": None}
    assert read(saved(run | {wrapper: {"lm_head.weight": a_matrix()}})).keys() == {"lm_head.weight"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param({"model": {"w": a_matrix()}, "state_dict": {"w": a_matrix()}}, "model", id="two wrappers"),
        pytest.param({"model": {"w": a_matrix()}, "b": a_matrix()}, "the file itself, model", id="some wrapped"),
        pytest.param({"epoch": 3, "elsewhere": {"w": a_matrix()}}, "'epoch', 'elsewhere'", id="an unknown wrapper"),
        pytest.param({}, "no tensors", id="nothing"),
        pytest.param([a_matrix()], "found a list", id="a list"),
        pytest.param(a_matrix(), "found a tensor, expected a dict", id="a tensor"),
    ],
)
def test_anything_but_one_dict_of_tensors_is_refused(content: object, found: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=found):
        read(saved(content))


def test_a_tensor_that_repeats_its_numbers_says_so_by_its_strides() -> None:
    found = read(saved({"repeated": torch.ones(1, 4).expand(1000, 4), "once": torch.ones(1, 4).expand(1, 4)}))
    assert (found["repeated"].shape, found["repeated"].strides, found["repeated"].nbytes) == ((1000, 4), (0, 1), 16)
    assert found["once"].strides is None


OVERLAPPING: dict[str, Callable[[], torch.Tensor]] = {
    "a row repeated": lambda: torch.ones(1, 4).expand(6, 4),
    "a column repeated": lambda: torch.ones(6, 1).expand(6, 4),
    "a sliding window": lambda: torch.ones(9).unfold(0, 4, 1),
    "rows that reach into the next": lambda: torch.ones(60).as_strided((6, 4), (3, 2)),
}


@pytest.mark.parametrize("view", OVERLAPPING)
def test_a_head_whose_numbers_are_not_stored_once_each_is_refused_and_not_passed_over(
    tmp_path: Path, view: str
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true}')
    torch.save({"model.embed_tokens.weight": a_matrix(), "lm_head.weight": OVERLAPPING[view]()}, tmp_path / FILE)
    with pytest.raises(UnsupportedCheckpoint, match=r"lm_head.weight in .*: found a view of shape \[6, 4\]"):
        find_unembedding(open_folder(tmp_path), None)


def test_two_or_three_requests_tell_where_everything_lies() -> None:
    requests: list[tuple[int, int]] = []
    tensors = {f"layers.{n}.weight": torch.full((n % 7, 100), n) for n in range(900)}
    content = saved(tensors)
    found = read_torch_save(checkpoint_of(content, requests=requests), FILE)
    assert len(requests) <= 3
    assert sum(end - begin for begin, end in requests) < 300_000 < len(content)
    for name, tensor in tensors.items():
        assert content[found[name].begin : found[name].end] == as_bytes(tensor)


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_storages_are_found_however_torch_aligns_them(alignment: int) -> None:
    before = torch_config.save.storage_alignment
    torch_config.save.storage_alignment = alignment
    try:
        content = saved({f"{n}": torch.full((n,), n, dtype=torch.uint8) for n in range(1, 200)})
    finally:
        torch_config.save.storage_alignment = before
    found = read(content)
    assert [content[found[f"{n}"].begin : found[f"{n}"].end] for n in range(1, 200)] == [
        bytes([n]) * n for n in range(1, 200)
    ]


def test_an_archive_that_another_program_packed_again_is_read() -> None:
    content = saved({"w": a_matrix(), "empty": torch.ones(0, 3), "b": torch.ones(3)})
    packed = repacked(content, {"archive/byteorder": None, "archive/.format_version": None})
    found = read(packed)
    assert torch.equal(tensor_at(found["w"], packed), a_matrix())
    assert torch.load(io.BytesIO(packed)).keys() == found.keys()


def test_an_archive_behind_other_bytes_is_read() -> None:
    content = b"#!/bin/sh\n" + saved({"w": a_matrix()})
    assert torch.equal(tensor_at(read(content)["w"], content), a_matrix())


def test_a_file_beyond_four_gigabytes_is_read(tmp_path: Path) -> None:
    """Sparse on the disk: torch leaves the place of the numbers empty, and writes the records beyond 32 bits."""
    with torch.serialization.skip_data():
        torch.save(
            {"big": torch.empty(2**32 + 5, dtype=torch.uint8), "w": torch.empty(6, 4), "v": torch.empty(3)},
            tmp_path / FILE,
        )
    reader = torch._C.PyTorchFileReader(str(tmp_path / FILE))
    folder, requests = recorded(open_folder(tmp_path))
    found = read_torch_save(folder, FILE)
    assert len(requests) <= 3
    begins = [reader.get_record_offset(f"data/{n}") for n in range(3)]  # type: ignore[attr-defined]  # the stubs lack it
    assert [found[name].begin for name in ("big", "w", "v")] == begins
    assert found["big"].nbytes == 2**32 + 5
    assert found["w"].begin > 2**32


SOUND = saved({"w": a_matrix(), "v": torch.ones(3)})


def in_the_form_before_1_6() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": a_matrix()}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def in_a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(in_the_form_before_1_6(), "before 1.6.*safetensors", id="the form before 1.6"),
        pytest.param(in_a_tar(), "a tar.*safetensors", id="a tar"),
        pytest.param(repacked(SOUND, {}, zipfile.ZIP_DEFLATED), "compressed", id="compressed"),
        pytest.param(repacked(SOUND, {"archive/byteorder": b"big"}), "'big'", id="big-endian"),
        pytest.param(repacked(SOUND, {"archive/constants.pkl": b""}), "TorchScript", id="TorchScript"),
        pytest.param(repacked(SOUND, {"archive/data.pkl": None}), "0 data.pkl", id="another zip"),
        pytest.param(repacked(SOUND, {"b/data.pkl": b"."}), "2 data.pkl", id="two archives"),
        pytest.param(repacked(SOUND, {"archive/data.pkl": None, "a/b/data.pkl": b"."}), "only folder", id="deeper"),
        pytest.param(safetensors.torch.save({"w": a_matrix()}), "safetensors", id="safetensors"),
        pytest.param(b"GGUF\x03\0\0\0", "GGUF", id="GGUF"),
        pytest.param(b"\1" * 99, "found b'.x01.*' at the start", id="something unknown"),
    ],
)
def test_another_form_is_refused_with_what_was_found(content: bytes, found: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"here: {FILE}: .*{found}"):
        read(content)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_program_is_refused() -> None:
    buffer = io.BytesIO()
    program = torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3))  # type: ignore[no-untyped-call]
    torch.jit.save(program, buffer)
    with pytest.raises(UnsupportedCheckpoint, match="TorchScript"):
        read(buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(SOUND[:-1], "cut off", id="the last byte missing"),
        pytest.param(SOUND[:200], "cut off", id="the end missing"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs", id="a pointer"),
        pytest.param(b"", "found an empty file, .* finish the download", id="an empty file"),
        pytest.param(repacked(SOUND, {"archive/data/0": None}), "no entry 'archive/data/0'", id="a storage missing"),
        pytest.param(
            repacked(SOUND, {"archive/data/0": b"x"}),
            "found 1 bytes in its storage '0', expected 96",
            id="a storage too short",
        ),
        pytest.param(
            repacked(SOUND, {"archive/data/1": b"x" * 13}),
            "found 13 bytes in its storage '1', expected 12",
            id="a storage too long",
        ),
        pytest.param(
            repacked(SOUND, {"archive/byteorder": b"little" * 9}),
            "found 54 bytes in archive/byteorder",
            id="a long byte order",
        ),
        pytest.param(repacked(SOUND, {"archive/data.pkl": b"\x80\x02"}), "found an invalid pickle", id="a cut pickle"),
    ],
)
def test_a_file_that_contradicts_itself_is_corrupt(content: bytes, found: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=f"here: {FILE}: .*{found}"):
        read(content)


PICKLE = zipfile.ZipFile(io.BytesIO(SOUND)).read("archive/data.pkl")


def with_pickle(old: bytes, new: bytes) -> bytes:
    assert PICKLE.count(old) == 1
    return repacked(SOUND, {"archive/data.pkl": PICKLE.replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"K\x06K\x04\x86", b"K\x07K\x04\x86", id="one row more"),
        pytest.param(b"K\x00K\x06K\x04\x86", b"K\x01K\x06K\x04\x86", id="one number further on"),
        pytest.param(b"K\x04K\x01\x86", b"K\x05K\x01\x86", id="rows wider apart"),
        pytest.param(b"K\x06K\x04\x86", b"K\x06\x8a\x08" + b"\xff" * 7 + b"\x7f\x86", id="a number beyond all files"),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_corrupt(old: bytes, new: bytes) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"tensor 'w': found items .* of its storage, expected at most 24"):
        read(with_pickle(old, new))


def test_a_storage_that_reaches_into_the_next_is_corrupt() -> None:
    content = with_pickle(b"K\x18tq", b"K\x28tq")
    with pytest.raises(CorruptCheckpoint, match="found archive/data/0 at bytes"):
        read(patched_directory(content, b"archive/data/0", 20, (160).to_bytes(4, "little") * 2))


def test_a_tensor_that_torch_would_negate_is_refused() -> None:
    with pytest.raises(UnsupportedCheckpoint, match="_rebuild_tensor_v2 with other arguments"):
        read(saved({"w": torch._neg_view(a_matrix())}))


def test_a_file_that_is_not_there_is_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match=r"found no file .* which the index names"):
        read_header(checkpoint_of(SOUND, "other.bin"), FILE)


def with_duplicate_names() -> bytes:
    buffer = io.BytesIO(repacked(SOUND, {"archive/data/7": b"7"}))
    return buffer.getvalue().replace(b"archive/data/7", b"archive/data/0")


def test_two_entries_of_one_name_are_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match="9 entries in its zip directory with 8 names at 9 places"):
        read(with_duplicate_names())


def patched_directory(content: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """``value`` at ``offset`` of the directory's record of an entry."""
    at = content.rindex(name) - 46 + offset
    assert content[at - offset : at - offset + 4] == b"PK\1\2"
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize("content", [SOUND, repacked(SOUND, {})], ids=["by torch", "by another program"])
@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(24, (96 + 64).to_bytes(4, "little"), id="two sizes"),
        pytest.param(20, (96 + 64).to_bytes(4, "little") * 2, id="a size that reaches into the next"),
        pytest.param(24, b"\xfe\xff\xff\xff", id="a size beyond the file"),
        pytest.param(20, (96 - 4).to_bytes(4, "little"), id="two other sizes"),
        pytest.param(42, b"\0\0\0\0", id="another entry's place"),
        pytest.param(42, b"\xfe\xff\xff\xff", id="a place beyond the file"),
        pytest.param(42, b"\x01\x02\0\0", id="a place within another"),
        pytest.param(6, b"\xff\xff", id="a version of the future"),
        pytest.param(28, b"\xff\xff", id="a name longer than the directory"),
        pytest.param(46, b"\xff\xff", id="a name that is no text"),
        pytest.param(0, b"PK\3\4", id="another record"),
    ],
)
def test_a_directory_that_lies_is_corrupt(content: bytes, offset: int, value: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        read(patched_directory(content, b"archive/data/0", offset, value))


def test_more_requests_than_a_sound_file_needs_are_not_made() -> None:
    requests: list[tuple[int, int]] = []
    content = repacked(saved({f"{n}": torch.ones(1) for n in range(MAX_LOCAL_HEADERS + 10)}), {})
    with pytest.raises(UnsupportedCheckpoint, match="save it again"):
        read_torch_save(checkpoint_of(content, requests=requests), FILE)
    assert len(requests) <= MAX_LOCAL_HEADERS + 3


def test_an_entry_is_not_believed_to_be_where_another_is() -> None:
    content = repacked(SOUND, {})
    assert content.count(b"archive/data/1") == 2
    with pytest.raises(CorruptCheckpoint, match="no header of b'archive/data/1' at byte"):
        read(content.replace(b"archive/data/1", b"archive/data/8", 1))


def test_what_only_looks_as_torch_writes_it_is_looked_at_closely() -> None:
    """A descriptor without signature is 4 bytes shorter than torch's, and here puts the content at 60 of 64."""
    content = io.BytesIO()
    directory = b""
    with zipfile.ZipFile(io.BytesIO(SOUND)) as sound:
        for name in sound.namelist():
            data, begin = sound.read(name), content.tell()
            facts = struct.pack("<HHHHHLLL", 20, 0x808, 0, 0, 0x5A21, 0, len(data), len(data))
            n_extra = (-(begin + 30 + len(name)) + 4) % 64
            content.write(b"PK\3\4" + facts + struct.pack("<HH", len(name), n_extra) + name.encode() + bytes(n_extra))
            assert content.tell() % 64 == 4
            content.write(data + bytes(12))
            directory += (
                b"PK\1\2\0\0" + facts + struct.pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, begin) + name.encode()
            )
    n_entries, directory_begin = len(sound.namelist()), content.tell()
    content.write(directory)
    content.write(struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, n_entries, n_entries, len(directory), directory_begin, 0))
    assert torch.equal(tensor_at(read(content.getvalue())["w"], content.getvalue()), a_matrix())


@given(st.integers(0, len(SOUND)), st.binary(max_size=9), st.sampled_from([SOUND, repacked(SOUND, {})]))
def test_a_changed_file_is_read_or_refused(at: int, change: bytes, sound: bytes) -> None:
    content = sound[:at] + change + sound[at + len(change) :]
    try:
        found = read(content)
    except ModelError as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - either outcome is right
    else:
        assert all(0 <= location.begin <= location.end <= len(content) for location in found.values())


@given(st.integers(0, len(SOUND)))
def test_a_cut_file_is_refused(length: int) -> None:
    if length < len(SOUND):
        with pytest.raises(ModelError, match=r"^here: "):
            read(SOUND[:length])


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\3\4", SOUND[:300]]), st.booleans())
def test_any_bytes_are_refused(junk: bytes, before: bytes, with_end: bool) -> None:
    end = SOUND[SOUND.rindex(b"PK\5\6") :] if with_end else b""
    with pytest.raises(ModelError, match=r"^here: "):
        read(before + junk + end)


@pytest.mark.xdist_group("model_classes")  # as in test_unembedding.py
def test_an_index_of_bin_files_is_followed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    torch.save({"lm_head.weight": a_matrix()}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"transformer.wte.weight": a_matrix()}, tmp_path / "pytorch_model-00002-of-00002.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"lm_head.weight": "pytorch_model-00001-of-00002.bin",'
        ' "transformer.wte.weight": "pytorch_model-00002-of-00002.bin"}}'
    )
    location = find_unembedding(open_folder(tmp_path), None).location
    content = (tmp_path / location.file).read_bytes()
    assert location.file == "pytorch_model-00001-of-00002.bin"
    assert torch.equal(tensor_at(location, content), a_matrix())


def test_safetensors_come_before_the_same_weights_as_bin(tmp_path: Path) -> None:
    torch.save({"w": a_matrix()}, tmp_path / FILE)
    assert open_weights(open_folder(tmp_path)).chosen.files == (FILE,)
    safetensors.torch.save_file({"w": a_matrix()}, tmp_path / "model.safetensors")
    assert open_weights(open_folder(tmp_path)).chosen.files == ("model.safetensors",)
