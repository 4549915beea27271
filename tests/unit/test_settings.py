"""Settings: where each comes from, what wins, and what a wrong one says."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from job import __version__
from job.command_line.options import Option, Variable, heeds, option_name, options_of, variables_of
from job.errors import ConfigError
from job.settings import DEFAULT_TENSORS, VERBS, Settings, Verb, read_settings

ROOT = Path(__file__).parents[2]
HelpOf = Callable[[list[str]], str]
DECLARED: list[Option | Variable] = [*options_of(Settings).values(), *variables_of(Settings)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELS", "MODELS_FILE", "OUTPUT", "TENSORS", "DEDUP", "HF_TOKEN", "HF_ENDPOINT", "SCRATCH"):
        monkeypatch.delenv(name, raising=False)


def names(arguments: list[str]) -> list[str]:
    return [str(model) for model in read_settings(arguments).models]


def test_defaults_publish_everything_to_a_folder_nearby() -> None:
    settings = read_settings(["a/b"])
    assert (settings.output, settings.tensors, settings.dedup) == ("./surveys", frozenset(DEFAULT_TENSORS), "byte-hash")


def test_every_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = {
        "MODELS": "a/b,c/d@v1",
        "OUTPUT": "s3://bucket/surveys",
        "TENSORS": "mu black_holes",
        "DEDUP": "torch-unique",
        "SHOW_TOKENS": "20",
        "LOG_FORMAT": "json",
        "SCRATCH": str(tmp_path),
        "CONNECTIONS": "7",
        "PARTS": "5",
        "READ_TIMEOUT": "2.5",
        "MODEL_DEADLINE": "3600",
        "PLAN_CONCURRENCY": "3",
        "FORMAT": "json",
        "HF_ENDPOINT": "http://127.0.0.1:8000/",
        "HF_TOKEN": "hf_secret",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read_settings([])
    assert [str(model) for model in settings.models] == ["a/b", "c/d@v1"]
    assert settings.output == "s3://bucket/surveys"
    assert settings.tensors == {"mu", "black_holes"}
    assert (settings.dedup, settings.show_tokens, settings.log_format) == ("torch-unique", 20, "json")
    assert (settings.scratch, settings.connections, settings.parts) == (tmp_path, 7, 5)
    assert settings.read_timeout == 2.5
    assert settings.model_deadline == 3600.0
    assert (settings.verb, settings.plan_concurrency, settings.format) == ("survey", 3, "json")
    assert (settings.hf_endpoint, settings.hf_token) == ("http://127.0.0.1:8000", "hf_secret")


def test_what_is_typed_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "from/environment")
    monkeypatch.setenv("DEDUP", "torch-unique")
    settings = read_settings(["typed/model", "--dedup", "byte-hash"])
    assert ([str(model) for model in settings.models], settings.dedup) == (["typed/model"], "byte-hash")


def test_plan_before_the_models_asks_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(["plan", "a/b", "--format", "json"])
    assert (settings.verb, [str(model) for model in settings.models], settings.format) == ("plan", ["a/b"], "json")
    monkeypatch.setenv("MODELS", "from/environment")
    assert read_settings(["plan"]).verb == "plan"
    assert names(["plan"]) == ["from/environment"]


def test_models_and_models_file_add_up_and_each_model_counts_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("c/d\na/b\n")
    monkeypatch.setenv("MODELS", "a/b")
    monkeypatch.setenv("MODELS_FILE", str(tmp_path / "list.txt"))
    assert names([]) == ["a/b", "c/d"]


def test_models_typed_beside_a_file_typed_are_refused_because_one_would_be_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("c/d\n")
    with pytest.raises(ConfigError, match=r"found models and --models-file .*list.txt on the command line"):
        read_settings(["a/b", "--models-file", str(tmp_path / "list.txt")])
    monkeypatch.setenv("MODELS_FILE", str(tmp_path / "list.txt"))
    assert names(["a/b"]) == ["a/b"]


def test_one_file_for_the_message_and_the_metrics_is_refused_however_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "told")
    with pytest.raises(ConfigError, match="expected two files"):
        read_settings(
            ["org/name", "--termination-message", str(tmp_path / "told"), "--metrics-file", str(tmp_path / "link")]
        )


@pytest.mark.parametrize("content", ["", "models: []", "models:"])
def test_a_list_without_an_entry_is_refused_even_beside_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    (tmp_path / "list.yaml").write_text(content)
    monkeypatch.setenv("MODELS", "a/b")
    monkeypatch.setenv("MODELS_FILE", str(tmp_path / "list.yaml"))
    with pytest.raises(ConfigError, match=r"list.yaml: found no (entry|list)"):
        read_settings([])


@pytest.mark.parametrize("text", ["", " ", ",\n,"])
def test_an_empty_variable_is_no_list(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MODELS", text)
    with pytest.raises(ConfigError, match="no models were given"):
        read_settings([])


def test_the_token_is_not_printed_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in repr(read_settings(["a/b"]))


@pytest.mark.parametrize("text", ["hf_secret\n", "  hf_secret "])
def test_blanks_around_the_token_are_not_part_of_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HF_TOKEN", text)
    assert read_settings(["a/b"]).hf_token == "hf_secret"


@pytest.mark.parametrize("text", ["hf_secret\nx", "hf secret", "hf_sécret"])
def test_a_token_that_can_be_none_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HF_TOKEN", text)
    with pytest.raises(ConfigError, match="HF_TOKEN") as refusal:
        read_settings(["a/b"])
    assert "cret" not in str(refusal.value)


@pytest.mark.parametrize("option", ["--output", "--hf-endpoint", "--pushgateway"])
def test_a_password_in_an_address_is_not_shown(option: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_settings(["a/b", option, "ftp://user:secret@host"])
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("option", ["--hf-endpoint", "--pushgateway"])
@pytest.mark.parametrize(
    "address", ["http://me:pa/secret@host:1", "http://me:my secret@host", "me:secret@host:9091", "http://host:secret"]
)
def test_a_password_that_is_written_wrongly_is_not_shown_either(option: str, address: str) -> None:
    with pytest.raises(ConfigError, match=r"host.*was found") as refusal:
        read_settings(["a/b", option, address])
    assert "secret" not in str(refusal.value)


def test_an_argument_is_one_reference_whatever_it_holds() -> None:
    assert names(["./a folder, with commas", "s3://bucket/a b"]) == ["./a folder, with commas", "s3://bucket/a b"]


def test_the_home_folder_may_be_written_short() -> None:
    assert read_settings(["a/b", "--output", "~/surveys"]).output == str(Path.home() / "surveys")


WRONG = {
    "no-models": ([], "no models were given"),
    "bad-model": (["gpt2"], "'gpt2' is not a model reference"),
    "bad-output": (["a/b", "--output", "gs://bucket"], "OUTPUT: 'gs://bucket' was found"),
    "bad-tensor": (["a/b", "--tensors", "W,gamma"], "TENSORS: 'W,gamma' was found"),
    "no-tensor": (["a/b", "--tensors", ","], "TENSORS"),
    "bad-dedup": (["a/b", "--dedup", "sort"], "'--dedup'.*'sort'"),
    "bad-number": (["a/b", "--connections", "0"], "connections"),
    "no parts": (["a/b", "--parts", "0"], "parts"),
    "plan-of-nothing": (["plan"], "no models were given"),
    "plan-after-a-model": (["a/b", "plan"], "'plan' is not a model reference"),
    "bad-scratch": (["a/b", "--scratch", "/does/not/exist"], "/does/not/exist"),
    "bad-endpoint": (["a/b", "--hf-endpoint", "hub.local"], "HF_ENDPOINT: 'hub.local'"),
    "bad-endpoint-port": (["a/b", "--hf-endpoint", "http://h:99999"], "HF_ENDPOINT"),
    "bad-endpoint-host": (["a/b", "--hf-endpoint", "http://[::1"], "HF_ENDPOINT"),
    "endless-deadline": (["a/b", "--model-deadline", "inf"], "MODEL_DEADLINE"),
    "endless-timeout": (["a/b", "--read-timeout", "nan"], "READ_TIMEOUT"),
    "half-an-address": (["a/b", "--output", "s3:/bucket"], "OUTPUT: 's3:/bucket'"),
    "unknown-option": (["a/b", "--model", "x"], "--model"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_a_config_error_that_names_it(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(arguments)


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> HelpOf:
    """What is printed instead of a run, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def printed(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as stop:
            read_settings(arguments)
        assert stop.value.code == 0
        return capsys.readouterr().out

    return printed


def test_help_names_every_variable(help_of: HelpOf) -> None:
    printed = help_of(["--help"])
    for variable in ("MODELS", "MODELS_FILE", "OUTPUT", "TENSORS", "DEDUP", "SHOW_TOKENS", "LOG_FORMAT", "HF_TOKEN"):
        assert variable in printed


def test_every_field_says_its_setting_once() -> None:
    said = {*options_of(Settings), *(one.name for one in variables_of(Settings))}
    assert len(said) == len(fields(Settings)) - len({"verb", "surveys"})
    assert all(one.help for one in DECLARED)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_what_it_heeds_and_nothing_else(verb: str, help_of: HelpOf) -> None:
    printed = help_of([verb, "--help"])
    arguments = {"compare": " A [B]", "index": ""}.get(verb, " [MODELS]...")
    assert printed.startswith(f"Usage: entrypoint.py {verb} [OPTIONS]{arguments}\n")
    shown = set(re.findall(r"^  (--[a-z-]+)", printed, re.MULTILINE)) - {"--version"}
    assert shown == {option_name(field) for field, option in options_of(Settings).items() if heeds(verb, option)}
    for variable in variables_of(Settings):
        assert (f"\n  {variable.name} " in printed) == heeds(verb, variable)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--output", "x", "--help"]], ids=" ".join)
def test_the_help_without_a_verb_shows_the_verbs_and_how_to_survey(arguments: list[str], help_of: HelpOf) -> None:
    printed = help_of(arguments)
    for verb in VERBS:
        assert f"\n  {verb} " in printed
    survey = help_of(["survey", "--help"])
    assert printed[printed.index("Options:") :] == survey[survey.index("Options:") :]


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_fits_a_terminal(arguments: list[str], help_of: HelpOf) -> None:
    assert max(map(len, help_of(arguments).splitlines())) <= 80


def test_verbs_are_those_that_settings_name() -> None:
    assert tuple(VERBS) == get_args(Verb)
    named = [one.verbs or () for one in DECLARED]
    assert {verb for verbs in named for verb in verbs} <= set(VERBS)


SAID = {
    "a/b c/d": ("survey", ["a/b", "c/d"]),
    "survey a/b": ("survey", ["a/b"]),
    "plan a/b": ("plan", ["a/b"]),
    "--output x plan a/b": ("plan", ["a/b"]),
    "plan --output x a/b": ("plan", ["a/b"]),
    "plan a/b --output=x": ("plan", ["a/b"]),
    "--output plan a/b": ("survey", ["a/b"]),
    "-- plan a/b": ("plan", ["a/b"]),
    "plan -- a/b": ("plan", ["a/b"]),
    "./plan": ("survey", ["./plan"]),
    "plan ./survey": ("plan", ["./survey"]),
}


@pytest.mark.parametrize(("line", "expected"), SAID.items(), ids=SAID)
def test_the_first_argument_is_a_verb_or_else_a_model_to_survey(line: str, expected: tuple[str, list[str]]) -> None:
    settings = read_settings(line.split())
    assert (settings.verb, [str(model) for model in settings.models]) == expected


def test_compare_takes_one_or_two_surveys_and_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "from/environment")
    monkeypatch.setenv("JOB_COMPLETIONS", "3")
    settings = read_settings(["--output", "x", "compare", "a/b@main", "local/c d"])
    assert (settings.verb, settings.surveys, settings.models) == ("compare", ("a/b@main", "local/c d"), ())
    for arguments in ([], ["a/b", "c/d", "e/f"]):
        with pytest.raises(ConfigError, match="one or two surveys were expected"):
            read_settings(["compare", *arguments])


@pytest.mark.parametrize(
    ("verb", "default", "refused"), [("plan", "table", "html"), ("plan", "table", "text"), ("compare", "text", "table")]
)
def test_a_verb_has_its_own_formats(verb: str, default: str, refused: str) -> None:
    assert read_settings([verb, "a/b"]).format == default
    with pytest.raises(ConfigError, match=f"FORMAT: '{refused}' was found, {default} or .* of {verb}"):
        read_settings([verb, "a/b", "--format", refused])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_the_options_of_the_others(verb: str, tmp_path: Path) -> None:
    unheeded = ["--format", "json", "--plan-concurrency", "2", "--scratch", str(tmp_path), "--show-tokens", "3"]
    arguments = [] if verb == "index" else ["a/b"]
    settings = read_settings(
        [verb, *arguments, *unheeded, "--run", "nightly", "--metrics-file", "m", "--pushgateway", ""]
    )
    assert (settings.format, settings.plan_concurrency, settings.scratch, settings.show_tokens, settings.run) == (
        *("json", 2, tmp_path, 3, "nightly"),
    )


@pytest.mark.parametrize("arguments", [["--version"], ["plan", "--version"], ["a/b", "--version"]], ids=" ".join)
def test_the_version_is_told_with_any_verb(arguments: list[str], help_of: HelpOf) -> None:
    assert help_of(arguments) == f"black-hole survey {__version__}\n"
