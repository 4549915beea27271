"""References and lists of models: what parses prints back, what does not is named with its line."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.command_line.values import parse_output
from job.errors import ConfigError
from job.models.lists import parse_line, read_list, unique, warn_of_shared_names
from job.models.references import ModelRef, parse_reference

REFERENCES = {
    "hub": ("Qwen/Qwen3-4B", ModelRef("hub", "Qwen/Qwen3-4B")),
    "hub-revision": ("Qwen/Qwen3-4B@v1.0", ModelRef("hub", "Qwen/Qwen3-4B", "v1.0")),
    "hub-pull-request": ("org/name@refs/pr/7", ModelRef("hub", "org/name", "refs/pr/7")),
    "hub-dots": ("01-ai/Yi-1.5-9B_x", ModelRef("hub", "01-ai/Yi-1.5-9B_x")),
    "folder": ("./models/mine", ModelRef("folder", "./models/mine")),
    "folder-with-space": ("/data/my models/one", ModelRef("folder", "/data/my models/one")),
    "folder-home": ("~/models/mine", ModelRef("folder", "~/models/mine")),
    "here": (".", ModelRef("folder", ".")),
    "s3": ("s3://bucket-1/some/prefix", ModelRef("s3", "s3://bucket-1/some/prefix")),
    "http": ("https://models.example.org/a/model", ModelRef("http", "https://models.example.org/a/model")),
    "http-slash": ("https://example.org:8443/model/", ModelRef("http", "https://example.org:8443/model/")),
    "http-here": ("http://127.0.0.1:8000/model", ModelRef("http", "http://127.0.0.1:8000/model")),
    "http-localhost": ("http://localhost/model", ModelRef("http", "http://localhost/model")),
    "cache": ("~/hub/models--org--name", ModelRef("folder", "~/hub/models--org--name")),
    "cache-revision": ("/hub/models--org--name@refs/pr/7", ModelRef("folder", "/hub/models--org--name", "refs/pr/7")),
    "folder-with-at": ("./models/a@b", ModelRef("folder", "./models/a@b")),
}


@pytest.mark.parametrize(("text", "reference"), REFERENCES.values(), ids=REFERENCES)
def test_a_reference_parses_and_prints_back(text: str, reference: ModelRef) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == text


PART = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,20}[A-Za-z0-9_])?", fullmatch=True)


@given(
    PART,
    PART,
    st.none()
    | st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,9}(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,9}){0,3}", fullmatch=True),
)
def test_every_hub_reference_survives_the_round_trip(org: str, name: str, revision: str | None) -> None:
    reference = ModelRef("hub", f"{org}/{name}", revision)
    assert parse_reference(str(reference)) == reference


NO_MIRRORS = {
    "clear-text": "http://example.org/model",
    "no-path": "https://example.org/",
    "password": "https://user:secret@example.org/model",
    "query": "https://example.org/model?token=secret",
    "dots": "https://example.org/a/../../model",
    "a-page-of-the-hub": "https://huggingface.co/org/name",
    "not-quite-loopback": "http://127.0.0.1.example.org/model",
}


@pytest.mark.parametrize("text", NO_MIRRORS.values(), ids=NO_MIRRORS)
def test_an_address_that_cannot_be_trusted_or_filed_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"https://host/path"):
        parse_reference(text)


NAMES_NO_KEY_OR_HOST = {
    "s3-dot": "s3://bucket/dir/.",
    "s3-dots": "s3://bucket/..",
    "s3-dots-inside": "s3://bucket/a/../b",
    "http-dots": "https://host/..",
    "http-quoted-dots": "https://host/%2e%2E",
    "http-quoted-slash": "https://host/a%2f..",
    "hub-dots": "org/..",
    "hub-dotted-owner": "../..@main/..\0",
    "bucket-alone-with-dot": "s3://bucket/.",
    "nul-in-a-folder": "/data/a\0b",
    "nul-in-a-prefix": "s3://bucket/a\0b",
    "control-character": "https://host/a\x01b",
    "not-utf8-on-s3": "s3://bucket/a\udcff",
    "not-utf8-revision": "org/name@a\udcff",
    "surrogate-in-a-folder": "./a\ud800",
    "half-an-ipv6": "https://[::1/x",
    "port-in-letters": "https://host:abc/x",
    "port-too-large": "https://host:99999/x",
    "label-too-long": f"https://{'a' * 300}/x",
}


@pytest.mark.parametrize("text", NAMES_NO_KEY_OR_HOST.values(), ids=NAMES_NO_KEY_OR_HOST)
def test_a_text_that_makes_no_key_and_no_address_is_refused_where_it_is_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected org/name.*https://host/path"):
        parse_reference(text)
    path = tmp_path / "models.yaml"
    path.write_text(f"- a/b\n- {json.dumps(text)}\n")
    with pytest.raises(ConfigError, match="line 2: "):
        read_list(path)


NO_REVISIONS = [
    "..",
    ".",
    "a/..",
    "../..",
    "/",
    "a//b",
    "refs/./pr",
    "%2e%2e",
    "a/%2E.",
    "%252e%252e",
    "..%2f..",
    "a\\..",
    "a%5c..",
]


@pytest.mark.parametrize("revision", NO_REVISIONS)
def test_a_revision_that_leads_to_another_address_is_refused(tmp_path: Path, revision: str) -> None:
    with pytest.raises(ValueError, match=r"found the revision .*, expected a branch, a tag or a commit"):
        parse_reference(f"org/name@{revision}")
    with pytest.raises(ValueError, match=r"found the revision"):
        parse_reference(f"/hub/models--org--name@{revision}")
    path = tmp_path / "models.yaml"
    path.write_text(f"- model: org/name\n  revision: {json.dumps(revision)}\n")
    with pytest.raises(ConfigError, match=r"line 1: .* found the revision"):
        read_list(path)


@pytest.mark.parametrize("revision", ["v1.0..2", "...", "release-1.", ".hidden", "50%", "a%20b", "größe"])
def test_a_revision_with_dots_or_odd_letters_may_be_asked_for(revision: str) -> None:
    assert parse_reference(f"org/name@{revision}").revision == revision


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a//b", "s3://bucket/.../x..y", "./bytes-\udcff", "/a\\b", "s3://b-1/模型　一", "https://[::1]/x"],
)
def test_an_odd_name_that_can_be_read_and_filed_is_a_reference(text: str) -> None:
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize("text", ["~/model", "~/hub/models--org--name@main"])
def test_a_home_folder_that_nobody_knows_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # a container's user without an entry in passwd
    with pytest.raises(ValueError, match="found '~' for a user without a home folder, expected a path"):
        parse_reference(text)
    with pytest.raises(ConfigError, match="OUTPUT: found '~/surveys' for a user without a home folder"):
        parse_output("OUTPUT", "~/surveys")


def test_a_page_of_the_hub_is_refused_with_the_name_to_use() -> None:
    with pytest.raises(ValueError, match=r"write a model of the Hub as org/name$"):
        parse_reference("https://huggingface.co/org/name/tree/main")


@pytest.mark.parametrize(
    "text", ["gpt2", "a/b/c", "org/", "/".join(["", "x"])[1:], "org/name@", "s3://", "http://x/y", "-a/b", "a/b c", ""]
)
def test_what_is_no_reference_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected org/name"):
        parse_reference(text)


def test_a_line_is_split_at_spaces_commas_and_new_lines() -> None:
    assert [str(ref) for ref in parse_line("a/b, c/d\n./e\tf/g@h,", "MODELS")] == ["a/b", "c/d", "./e", "f/g@h"]


def test_a_bad_entry_of_a_line_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"MODELS, line 2: 'gpt2' is not a model reference: expected org/name"):
        parse_line("a/b\ngpt2", "MODELS")


def test_a_text_file_holds_a_reference_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "models.txt"
    path.write_text("# my models\na/b@main  # pinned\n\n./my folder\n")
    assert read_list(path) == [ModelRef("hub", "a/b", "main"), ModelRef("folder", "./my folder")]


@pytest.mark.parametrize("header", ["models:\n", ""], ids=["mapping", "list"])
def test_a_yaml_file_gives_options_for_each_model(tmp_path: Path, header: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        header + "- a/b\n- model: c/d\n  revision: 1.10\n  tensor: lm_head.weight\n  note: odd\n  file: a.gguf\n"
    )
    assert read_list(path) == [
        ModelRef("hub", "a/b"),
        ModelRef("hub", "c/d", "1.10", "lm_head.weight", "odd", file="a.gguf"),
    ]


@pytest.mark.parametrize("location", ["./final", "s3://bucket/final", "https://host/final"])
def test_a_local_checkpoint_may_be_given_a_name(tmp_path: Path, location: str) -> None:
    (tmp_path / "a.yaml").write_text(f"- {location}\n- model: {location}\n  name: run-b\n")
    assert [ref.local_name for ref in read_list(tmp_path / "a.yaml") if isinstance(ref, ModelRef)] == ["final", "run-b"]


def test_checkpoints_of_one_name_from_several_places_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    places = ["/a/final", "/b/final/", "https://host/final"]
    warn_of_shared_names(
        [*map(parse_reference, places), ModelRef("folder", "/c/final", name="c"), ModelRef("hub", "x/final")]
    )
    (message,) = caplog.messages
    assert message.startswith(f"local/final: found 3 checkpoints for this name ({', '.join(places)}), expected one")
    caplog.clear()
    warn_of_shared_names(map(parse_reference, ["/a/final", "/a/final", "/b/other", "/x/models--a--b/snapshots/final"]))
    assert not caplog.messages


def test_null_is_as_if_it_were_not_there_and_a_byte_order_mark_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("models:\n- model: a/b\n  tensor: ~\n  revision: null\n")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfa/b\n")
    assert read_list(tmp_path / "a.yaml") == read_list(tmp_path / "b.txt") == [ModelRef("hub", "a/b")]


@pytest.mark.parametrize(("text", "follows"), [("true", True), ("True", True), ("false", False)])
def test_a_yaml_entry_says_whether_an_adapter_is_followed_to_its_base(tmp_path: Path, text: str, follows: bool) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(f"- model: a/b\n  follow_base: {text}\n")
    assert read_list(path) == [ModelRef("hub", "a/b", follow_base=follows)]


def test_a_hash_inside_of_a_name_is_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "models.txt"
    path.write_bytes(b"\xef\xbb\xbf#first\r\n/x/run#3\r\n\t./a#b c\t# one\r\n  # two\r\n./c #\n/x/d\xc2\x85e\n")
    assert [str(entry) for entry in read_list(path)] == ["/x/run#3", "./a#b c", "./c", "/x/d\x85e"]
    (tmp_path / "models.yaml").write_text("models:\n- /x/run#3\n- ./c # one\n")
    assert [str(entry) for entry in read_list(tmp_path / "models.yaml")] == ["/x/run#3", "./c"]


@pytest.mark.parametrize("content", ["", "\n \t\r\n", "# all of it\n", "\ufeff"])
def test_a_text_file_without_an_entry_is_a_config_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "models.txt"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"models.txt: found no entry, expected one or more"):
        read_list(path)


@pytest.mark.parametrize("content", [b"a/b\0\n", "a/b\n".encode("utf-16-le"), "a/b\n".encode("utf-16"), b"./a\0\n"])
def test_a_text_file_of_another_encoding_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "models.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"models.txt"):
        read_list(path)


BAD_FILES = {
    "two-lists": ("models:\n- a/b\nmodels:\n- c/d\n", "'models' in line 1 and again in line 3, expected it once"),
    "two-lists-one-quoted": ("models: [a/b]\n'models': [c/d]\n", "'models' in line 1 and again in line 2"),
    "two-models-in-an-entry": ("- model: a/b\n  model: c/d\n", "'model' in line 1 and again in line 2"),
    "two-notes": ("- model: a/b\n  note: x\n  tensor: y\n  note: z\n", "'note' in line 2 and again in line 4"),
    "two-nulls-of-a-key": ("- {model: a/b, file: ~, file: x}\n", "'file' in line 1 and again in line 1"),
    "two-queries": ("- query: {author: a}\n  query: {author: b}\n", "'query' in line 1 and again in line 2"),
    "null-and-author": ("- query:\n    author: ~\n    author: b\n", "'author' in line 2 and again in line 3"),
    "two-excludes": ("- query: {author: a, exclude: x, exclude: y}\n", "'exclude' in line 1 and again"),
    "merge-key": ("- &one {model: a/b, note: x}\n- <<: *one\n  model: c/d\n", "line 2: found an entry with"),
    "merge-key-in-a-query": ("- query: &one {author: a}\n- query: {<<: *one, name: x}\n", "not a text"),
    "two-documents": ("models: [a/b]\n---\nmodels: [c/d]\n", "not YAML"),
    "list-within-itself": ("models: &all [a/b, *all]\n", "found an entry"),
    "empty-list": ("models: []\n", "found no entry, expected one or more models"),
    "null-list": ("models:\n", "found no list"),
    "empty-file": ("# models:\n# - a/b\n", "found no list"),
    "number": ("- a/b\n- 7\n", "line 2: '7' is not a model reference"),
    "null-entry": ("- a/b\n-\n", "line 2: '' is not a model reference"),
    "nul": ('- "a/b\\0"\n', "line 1: .* is not a model reference"),
    "raw-nul": ("- a/b\0\n", "not YAML"),
    "tab": ("models:\n\t- a/b\n", "not YAML"),
    "no-truth": ("models:\n- model: a/b\n  follow_base: yes please\n", "follow_base is 'yes please', expected true"),
    "not-yaml": ("models: [a/b", "not YAML"),
    "no-list": ("models: 3", "found no list"),
    "other-key": ("model: [a/b]", "expected only 'models'"),
    "bad-reference": ("models:\n- a/b\n- gpt2\n", "line 3: 'gpt2' is not a model reference"),
    "unknown-key": (
        "models:\n- model: a/b\n  dtype: x\n",
        "line 2: found an entry with .*'dtype'.*expected a reference",
    ),
    "nested": ("models:\n- model: a/b\n  tensor: [x]\n", "line 2: found an entry"),
    "list-in-list": ("models:\n- [a/b]\n", "line 2: found an entry"),
    "revision-of-a-folder": ("models:\n- model: ./x\n  revision: v1\n", "only models on the Hub have revisions"),
    "key-is-a-list": ("? [a]\n: b\n", "expected only 'models'"),
    "entry-key-is-a-list": ("models:\n- {? [a] : b}\n", "line 2: found an entry"),
    "name-of-a-hub-model": ("models:\n- model: a/b\n  name: c\n", "found the name 'c', expected none"),
    "name-in-the-cache": ("models:\n- model: /x/models--a--b\n  name: c\n", "found the name 'c', expected none"),
    "name-with-a-slash": ("models:\n- model: ./x\n  name: a/b\n", "found the name 'a/b', expected up to 96 letters"),
    "name-that-leads-up": ("models:\n- model: ./x\n  name: ..\n", "found the name '..', expected up to 96 letters"),
    "two-revisions": ("models:\n- model: a/b@v1\n  revision: v2\n", "two revisions"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_a_config_error_that_names_the_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "models.yml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_list(path)


def test_a_revision_may_be_given_of_the_hubs_cache(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("- model: /hub/models--org--name\n  revision: v1\n")
    assert read_list(path) == [ModelRef("folder", "/hub/models--org--name", "v1")]


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.txt cannot be read"):
        read_list(tmp_path / "nothing.txt")


def test_a_model_named_twice_is_surveyed_once() -> None:
    assert unique(parse_line("a/b c/d a/b", "MODELS")) == parse_line("a/b c/d", "MODELS")
