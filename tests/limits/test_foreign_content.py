"""Files that are not what their names say are called what they are, in every format that is read, with what to do."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from job.checkpoints.formats.foreign_content import recognise
from job.checkpoints.head.unembedding import find_unembedding
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, ModelError, UnsupportedCheckpoint
from job.tokens.files import fetch_tokenizer
from job.tokens.naming import name_tokens

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
SOUND = safetensors.torch.save({"lm_head.weight": torch.ones(6, 4)})


def in_a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("model.safetensors")
        member.size = len(SOUND)
        tar.addfile(member, io.BytesIO(SOUND))
    return buffer.getvalue()


def in_a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.safetensors", SOUND)
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 1000000000\n"
FOREIGN = {
    "a git-lfs pointer": (LFS, "a git-lfs pointer, .* `git lfs pull`"),
    "a git-annex pointer": (b"/annex/objects/SHA256E-s100--abc\n", "a git-annex pointer, .* `git annex get`"),
    "a page": (b"<!DOCTYPE html>\n<html><title>Log in</title>", r"a web page .*Log in.* token or password"),
    "a page after spaces": (b"\xef\xbb\xbf\r\n <HTML><body>Sign in" + b" " * 9_000, "a web page"),
    "an error of S3": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
    "an error in JSON": (b'{"error":"Repository not found"}', r"an error of a server .*Repository not found"),
    "another error in JSON": (b'{"message": "Not Found", "status": "404"}', "an error of a server"),
    "gzip": (gzip.compress(SOUND), "compressed with gzip, .* `gunzip`"),
    "xz": (lzma.compress(SOUND), "compressed with xz"),
    "bzip2": (bz2.compress(SOUND), "compressed with bzip2"),
    "a tar": (in_a_tar(), "a tar"),
    "nothing": (b"", "an empty file, .* finish the download"),
    "zeros": (bytes(5_000), "nothing but zeros .* finish the download"),
    "zeros, then something": (bytes(4_096) + b"x" * 100, "nothing but zeros"),
}
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "m-F16.gguf")


@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_weights_that_are_something_else_are_called_what_they_are(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    if not file.endswith(".gguf"):
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / file).write_bytes(content)
    with pytest.raises((CorruptCheckpoint, UnsupportedCheckpoint), match=f"{file}: found .*{message}"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json", "adapter_config.json"])
@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if not kind.startswith(("a tar", "zeros, then"))])
def test_json_files_that_are_something_else_are_called_what_they_are(tmp_path: Path, file: str, kind: str) -> None:
    content, message = FOREIGN[kind]
    if file != "adapter_config.json":
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        shard = "model-00001-of-00001.safetensors" if "index" in file else "model.safetensors"
        (tmp_path / shard).write_bytes(SOUND)
    (tmp_path / file).write_bytes(content)
    with pytest.raises((CorruptCheckpoint, UnsupportedCheckpoint), match=f"{file}: found .*{message}"):
        find_unembedding(open_folder(tmp_path), None)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"GGUF\3\0\0\0" + bytes(100), "a GGUF file, .* ends in .gguf"),
        ("model.safetensors", in_a_zip(), "a zip file, .* ends in .bin"),
        ("m.gguf", in_a_zip(), "a zip file"),
        ("m.gguf", SOUND, "a safetensors file, .* ends in .safetensors"),
        ("pytorch_model.bin", SOUND, "a safetensors file"),
        ("pytorch_model.bin", b"GGUF\3\0\0\0" + bytes(100), "a GGUF file"),
    ],
)
def test_weights_with_the_name_of_another_format_are_told_their_own(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UnsupportedCheckpoint, match=f"{file}: found .*{message}"):
        find_unembedding(open_folder(tmp_path), None)


def test_a_config_with_an_error_among_its_settings_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"error": "none", "message": "hello"}))
    (tmp_path / "model.safetensors").write_bytes(SOUND)
    assert find_unembedding(open_folder(tmp_path), None).name == "lm_head.weight"


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer.model"])
def test_a_tokenizer_that_is_a_pointer_costs_the_names_and_is_called_a_pointer(tmp_path: Path, file: str) -> None:
    checkpoint, scratch = tmp_path / "checkpoint", tmp_path / "scratch"
    checkpoint.mkdir()
    scratch.mkdir()
    (checkpoint / file).write_bytes(LFS)
    files = fetch_tokenizer(open_folder(checkpoint), "model.safetensors", None, scratch, rows_are_not_tokens=None)
    named = name_tokens(files, scratch, n_rows=6)
    assert named.unusable.startswith(f"{file}: found a git-lfs pointer")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["m.Q8_0.gguf.part1of2", "m.Q8_0.gguf.part2of2"], "pieces of a file .* `cat`"),
        (["m.gguf-split-a", "m.gguf-split-b"], "pieces of a file"),
        (["model.safetensors.001", "model.safetensors.002"], "pieces of a file"),
        (["pytorch_model.bin.partaa", "pytorch_model.bin.partab"], "pieces of a file"),
        (["model.safetensors.part"], "an unfinished download"),
        (["m.gguf.aria2"], "an unfinished download"),
        (["model-00001-of-00002.safetensors.5f9d3a1b.partial"], "an unfinished download"),
        (["README.md"], "no weights, .* `hf download`"),
    ],
)
def test_pieces_and_unfinished_downloads_alone_are_refused_with_what_to_do(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedCheckpoint, match=f"found .*{message}"):
        find_unembedding(open_folder(tmp_path), None)


@given(st.binary(max_size=700), st.integers(0, 2**40))
def test_any_bytes_are_recognised_or_not(first: bytes, beyond: int) -> None:
    error = recognise(first, len(first) + beyond, "here")
    assert error is None or (isinstance(error, ModelError) and str(error).startswith("here: found "))
