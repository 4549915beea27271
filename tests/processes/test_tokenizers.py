"""What the rows of W are named: gaps in the ids, missing vocabularies, rows that are no tokens, and files that make the
library fail, panic or abort."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import save_file

from job.tokens.naming import TokenNames
from job.tokens.process import describe_in_process
from job.tokens.tokenizer import Token
from tests.checkpoints import planted, write_checkpoint
from tests.ggufs import planted_rows, write_gguf
from tests.surveys import survey_with_tensors

ROOT = Path(__file__).parents[2]
N_ROWS = 40
GROUPS = [[3, 38], [10, 11]]


def tokenizer_json(vocab: Mapping[str, int], added: Mapping[str, int] | None = None, **parts: object) -> bytes:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokens = [{"id": id, "content": token, "special": True, **flags} for token, id in (added or {}).items()]
    names = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}
    document = {"version": "1.0", "added_tokens": tokens, "model": model, **dict.fromkeys(names), **parts}
    return json.dumps(document).encode()


def words(n: int) -> dict[str, int]:
    return {f"t{id}": id for id in range(n)}


def checkpoint_with(folder: Path, files: Mapping[str, bytes], n_rows: int = N_ROWS) -> Path:
    write_checkpoint(folder, planted(n_rows, 8, [group for group in GROUPS if max(group) < n_rows]))
    configure(folder, num_attention_heads=2)  # of a hidden size of 8
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def configure(folder: Path, **settings: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def named(folder: Path) -> tuple[dict[str, Any], dict[int, str | None]]:
    """The manifest of a survey, and the pieces by row."""
    manifest, _ = survey_with_tensors(folder, folder.with_name("out"))
    return manifest, {token["id"]: token["piece"] for hole in manifest["black_holes"] for token in hole["tokens"]}


def check_unnamed(folder: Path, reason: str) -> None:
    manifest, pieces = named(folder)
    assert reason in manifest["tokenizer"]["unusable"]
    assert set(pieces.values()) == {None}
    assert "rows_beyond" not in manifest["tokenizer"]
    assert any(reason in warning and "have no names" in warning for warning in manifest["warnings"])


GPT2 = {
    "config.json": json.dumps(
        {"model_type": "ctrl", "vocab_size": N_ROWS, "architectures": ["LlamaForCausalLM"]}
    ).encode(),
    "tokenizer_config.json": b'{"tokenizer_class": "CTRLTokenizer", "unk_token": "t0"}',
    "merges.txt": b"#version: 0.2\n",
}
GAPS = {
    "added tokens after a gap": (
        {"tokenizer.json": tokenizer_json(words(20) | {"<a>": 38, "<b>": 39}, {"<a>": 38, "<b>": 39})},
        {3: "t3", 38: "<a>", 10: "t10", 11: "t11"},
        22,
        40,
    ),
    "a gap in the vocabulary": (
        {"tokenizer.json": tokenizer_json({f"t{id}": id for id in range(N_ROWS) if id not in (10, 38)})},
        {3: "t3", 38: None, 10: None, 11: "t11"},
        38,
        40,
    ),
    "only the last id": ({"tokenizer.json": tokenizer_json({"t0": 0, "z": 39})}, dict.fromkeys((3, 38, 10, 11)), 2, 40),
    "a class in Python": (
        {**GPT2, "vocab.json": json.dumps(words(11) | {"x": 38, "z": 39}).encode()},
        {3: "t3", 38: "x", 10: "t10", 11: None},
        13,
        40,
    ),
}


@pytest.mark.parametrize(("files", "pieces", "n_tokens", "n_ids"), GAPS.values(), ids=GAPS)
def test_a_tokenizer_with_gaps_ends_at_its_highest_id(
    tmp_path: Path, files: dict[str, bytes], pieces: dict[int, str | None], n_tokens: int, n_ids: int
) -> None:
    manifest, found = named(checkpoint_with(tmp_path / "model", files))
    assert found == pieces
    entry = manifest["tokenizer"]
    assert (entry["n_tokens"], entry["n_ids"], entry["rows_beyond"]) == (n_tokens, n_ids, N_ROWS - n_ids)


def test_a_last_unigram_that_is_there_twice_counts(tmp_path: Path) -> None:
    vocab = [[f"t{id}", 0.0] for id in range(N_ROWS - 1)] + [["t3", -1.0]]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocab}
    manifest, _ = named(checkpoint_with(tmp_path / "model", {"tokenizer.json": tokenizer_json({}, model=model)}))
    assert manifest["tokenizer"]["rows_beyond"] == 0


def test_an_added_token_that_the_library_gives_another_id_than_the_file_has_no_name(tmp_path: Path) -> None:
    file = tokenizer_json(words(10), {"<a>": 38})
    loaded = tokenizers.Tokenizer.from_str(file.decode())
    assert loaded.token_to_id("<a>") == 10
    manifest, pieces = named(checkpoint_with(tmp_path / "model", {"tokenizer.json": file}))
    assert pieces == {3: "t3", 38: None, 10: None, 11: None}
    assert manifest["tokenizer"]["rows_beyond"] == 1


CLASSES = ("LlamaTokenizer", "T5Tokenizer", "PreTrainedTokenizerFast")
WITHOUT_VOCABULARY = {
    **{name: {"tokenizer_config.json": json.dumps({"tokenizer_class": name}).encode()} for name in CLASSES},
    "special tokens": {"special_tokens_map.json": b"{}", "added_tokens.json": b'{"<a>": 3}'},
    "merges only": {"merges.txt": b"#version: 0.2\n"},
    "another class's vocabulary": {
        "tokenizer_config.json": b'{"tokenizer_class": "T5Tokenizer"}',
        "vocab.json": json.dumps(words(40)).encode(),
    },
}


@pytest.mark.parametrize("files", WITHOUT_VOCABULARY.values(), ids=WITHOUT_VOCABULARY)
def test_without_a_vocabulary_no_token_is_named(tmp_path: Path, files: dict[str, bytes]) -> None:
    check_unnamed(checkpoint_with(tmp_path / "model", files), "found no vocabulary file for ")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"vocab.json": b"{}", "merges.txt": b"#version: 0.2\n"}, "special tokens and no others"),
        ({"vocab.json": b'{"<|endoftext|>": 0}', "merges.txt": b"#version: 0.2\n"}, "special tokens and no others"),
        ({"tokenizer.json": tokenizer_json({}, {"<a>": 0})}, "found an empty vocabulary"),
    ],
    ids=["empty", "one special token", "tokenizer.json"],
)
def test_a_vocabulary_without_tokens_names_nothing(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    config = {"tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer"}'}
    check_unnamed(checkpoint_with(tmp_path / "model", config | files), reason)


def test_a_class_for_bytes_needs_no_vocabulary_file(tmp_path: Path) -> None:
    files = {"tokenizer_config.json": b'{"tokenizer_class": "ByT5Tokenizer"}'}
    _, pieces = named(checkpoint_with(tmp_path / "model", files, n_rows=384))
    assert pieces == {3: "\0", 38: "#", 10: "\7", 11: "\b"}


def test_the_rows_of_a_drafter_have_no_names(tmp_path: Path) -> None:
    folder = checkpoint_with(tmp_path / "model", {"tokenizer.json": tokenizer_json(words(400))})
    w = planted(N_ROWS, 8, GROUPS)
    save_file({"lm_head.weight": w, "d2t": torch.arange(N_ROWS) * 9}, folder / "model.safetensors")
    check_unnamed(folder, "d2t says which token each row stands for")


@pytest.mark.parametrize("setting", ["draft_vocab_size", "audio_vocab_size"])
def test_the_rows_of_a_head_that_config_calls_no_text_head_have_no_names(tmp_path: Path, setting: str) -> None:
    folder = checkpoint_with(tmp_path / "model", {"tokenizer.json": tokenizer_json(words(N_ROWS))})
    configure(folder, vocab_size=60, **{setting: N_ROWS})
    check_unnamed(folder, f"sets {setting} to {N_ROWS}")


def test_a_gguf_drafter_has_no_names(tmp_path: Path) -> None:
    rows = (planted_rows("F32", N_ROWS, GROUPS), "F32")
    write_gguf(tmp_path / "model" / "m.gguf", {"output.weight": rows}, tokens=[f"t{id}" for id in range(400)])
    check_unnamed(tmp_path / "model", "W has 40 rows of the 400")


MISFITS = {
    "another model's vocabulary": ({"tokenizer.json": tokenizer_json(words(N_ROWS + 1))}, N_ROWS),
    "the last id only": ({"tokenizer.json": tokenizer_json(words(10) | {"z": 32_000})}, N_ROWS),
    "a class in Python": ({**GPT2, "vocab.json": json.dumps(words(50)).encode()}, N_ROWS),
    "far more rows": ({"tokenizer.json": tokenizer_json(words(20))}, 20),
    "more rows": ({"tokenizer.json": tokenizer_json(words(30))}, 30),
}


@pytest.mark.parametrize(("files", "stated"), MISFITS.values(), ids=MISFITS)
def test_rows_that_cannot_be_the_tokenizers_tokens_have_no_names(
    tmp_path: Path, files: dict[str, bytes], stated: int
) -> None:
    folder = checkpoint_with(tmp_path / "model", files)
    configure(folder, vocab_size=stated)
    check_unnamed(folder, "nothing says that row i of W is token i")


@pytest.mark.parametrize(
    ("vocab", "added", "stated"),
    [
        (words(40), {"<pad>": 40}, 40),
        (words(38) | {"<a>": 38, "<b>": 39, "<c>": 40}, {"<a>": 38, "<b>": 39, "<c>": 40}, 40),
        (words(39), {"<pad>": 39}, 39),
        (words(37), {}, 37),
        (words(20), {}, 40),
    ],
    ids=["an added token more", "added tokens in the vocabulary", "a row of padding", "padded", "many rows of padding"],
)
def test_rows_and_tokens_that_differ_as_in_sound_models_are_named(
    tmp_path: Path, vocab: dict[str, int], added: dict[str, int], stated: int
) -> None:
    folder = checkpoint_with(tmp_path / "model", {"tokenizer.json": tokenizer_json(vocab, added)})
    configure(folder, vocab_size=stated)
    manifest, pieces = named(folder)
    assert (pieces[3], pieces[10]) == ("t3", "t10")
    assert manifest["tokenizer"]["rows_beyond"] == N_ROWS - min(N_ROWS, len(vocab | added))


CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": None}
STRIP = {"type": "Strip", "content": "z", "start": 0, "stop": 9}
PANICS = {
    "at load": tokenizer_json(words(40), normalizer=CHARSMAP),
    "inside a sequence": tokenizer_json(words(40), normalizer={"type": "Sequence", "normalizers": [CHARSMAP]}),
    "at decode": tokenizer_json({f"t{id}" if id != 3 else "z": id for id in range(40)}, decoder=STRIP),
    "a list": b"[1, 2]",
    "nested": b"[" * 3_000_000,
    "an id of more than 32 bits": tokenizer_json({"t0": 0, "z": 1 << 40}),
}


@pytest.mark.parametrize("content", PANICS.values(), ids=PANICS)
def test_a_file_that_makes_the_library_panic_costs_only_the_names(tmp_path: Path, content: bytes) -> None:
    folder = checkpoint_with(tmp_path / "model", {"tokenizer.json": content})
    command = [sys.executable, "entrypoint.py", str(folder), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "panicked" not in done.stdout + done.stderr
    (path,) = (tmp_path / "out" / "local" / "model").glob("*/manifest.json")
    assert "cannot be read" in json.loads(path.read_text())["tokenizer"]["unusable"]


def test_a_tokenizer_that_takes_all_memory_ends_its_own_process_only(tmp_path: Path) -> None:
    growing = [{"type": "Replace", "pattern": {"String": "t"}, "content": "t" * 100}] * 8
    content = tokenizer_json(words(40), decoder={"type": "Sequence", "decoders": growing})
    (tmp_path / "tokenizer.json").write_bytes(content)
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_DATA, (400_000_000, 400_000_000))
from pathlib import Path
from typing import Any
from job.tokens.process import describe_in_process
from job.tokens.tokenizer import TokenizerUnusable
try:
    describe_in_process(Path({str(tmp_path)!r}), None, 40, Path({str(tmp_path / "tokens.arrow")!r}))
except TokenizerUnusable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the tokenizer cannot be read (the library ended with SIGABRT, as it may with only ")
    assert done.stdout.endswith(" MB of memory left for it); check its files\n")
    assert done.stderr == ""


def test_tokens_that_would_fill_the_manifest_have_no_names_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = {f"{index}{'é' * 60_000}": index for index in range(40)}
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json({**long, "t0": 40}))
    columns = tmp_path / "tokens.arrow"
    described = describe_in_process(tmp_path, None, 41, columns)
    names = TokenNames({}, described.info, "", columns)
    assert names.of(range(30)) == {id: Token(id, piece, piece) for piece, id in list(long.items())[:30]}
    assert caplog.messages == []
    of_all = names.of(range(41))
    assert [id for id, token in of_all.items() if token.piece is None] == list(range(33, 40))
    assert of_all[40] == Token(40, "t0", "t0")
    assert "more than 4,000,000 characters in all, expected shorter ones: the manifest lists 7 of them" in caplog.text


def test_a_folder_with_modules_of_the_libraries_names_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint_with(tmp_path / "model", {"tokenizer.json": tokenizer_json(words(40))})
    (folder / "tokenizers.py").write_text("raise RuntimeError")
    monkeypatch.chdir(folder)
    _, pieces = named(folder)
    assert pieces[3] == "t3"


def in_a_subfolder(tmp_path: Path, root_tokens: Mapping[str, int]) -> Path:
    """The weights of a model in the only folder that has some; the root has a tokenizer."""
    folder = checkpoint_with(tmp_path / "model" / "small", {})
    (tmp_path / "model" / "tokenizer.json").write_bytes(tokenizer_json(root_tokens))
    return folder


def test_rows_are_named_by_the_tokenizer_in_the_weights_own_folder(tmp_path: Path) -> None:
    folder = in_a_subfolder(tmp_path, {f"other{id}": id for id in range(N_ROWS)})
    (folder / "tokenizer.json").write_bytes(tokenizer_json(words(N_ROWS)))
    manifest, pieces = named(tmp_path / "model")
    assert pieces == {3: "t3", 38: "t38", 10: "t10", 11: "t11"}
    assert set(manifest["tokenizer"]["files"]) == {"small/tokenizer.json", "small/config.json"}


def test_a_model_of_its_own_in_a_folder_is_not_named_by_the_roots_tokenizer(tmp_path: Path) -> None:
    in_a_subfolder(tmp_path, words(N_ROWS))
    check_unnamed(tmp_path / "model", "small/ in the checkpoint has no tokenizer")


def test_weights_in_a_folder_without_a_config_are_the_roots(tmp_path: Path) -> None:
    folder = in_a_subfolder(tmp_path, words(N_ROWS))
    (folder / "config.json").rename(tmp_path / "model" / "config.json")
    _, pieces = named(tmp_path / "model")
    assert pieces[3] == "t3"


def in_config(ids: Mapping[str, int]) -> dict[str, bytes]:
    """A tokenizer_config.json that adds tokens."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    decoder = {str(id): {"content": token, "special": True, **flags} for token, id in ids.items()}
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": decoder}
    return {"tokenizer_config.json": json.dumps(content).encode()}


def in_a_list(ids: Mapping[str, int]) -> dict[str, bytes]:
    return {"added_tokens.json": json.dumps(ids).encode()}


@pytest.mark.parametrize("beside", [in_config, in_a_list])
def test_added_tokens_beside_tokenizer_json_have_names_unless_they_contradict_it(
    tmp_path: Path, beside: Callable[[Mapping[str, int]], dict[str, bytes]]
) -> None:
    file = {"tokenizer.json": tokenizer_json(words(38))}
    manifest, pieces = named(checkpoint_with(tmp_path / "a", file | beside({"<a>": 38, "<b>": 39})))
    assert pieces == {3: "t3", 38: "<a>", 10: "t10", 11: "t11"}
    assert (manifest["tokenizer"]["n_tokens"], manifest["tokenizer"]["rows_beyond"]) == (40, 0)
    _, pieces = named(checkpoint_with(tmp_path / "b", file | beside({"<a>": 10, "t11": 3})))
    assert pieces == {3: None, 38: None, 10: None, 11: None}


@pytest.mark.parametrize(("file", "kind"), [("tokenizer.model", "LlamaTokenizer"), ("spiece.model", "T5Tokenizer")])
def test_sentencepiece_files_alone_are_said_not_to_be_read(tmp_path: Path, file: str, kind: str) -> None:
    # Three pieces, as SentencePiece stores them.
    pieces = b"".join(b"\x0a" + bytes([len(p) + 2]) + b"\x0a" + bytes([len(p)]) + p for p in (b"a", b"b", b"c"))
    files = {file: pieces, "tokenizer_config.json": json.dumps({"tokenizer_class": kind}).encode()}
    check_unnamed(
        checkpoint_with(tmp_path / "model", files), f"SentencePiece files ({file}) are not read; a tokenizer.json is"
    )
