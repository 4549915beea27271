"""Every setting, said once, read once from the environment and the command line, validated, frozen.

Nothing else reads either. (boto3 reads the ``AWS_…`` variables, its own.)

To add a setting, add a field to Settings. To add a verb, add it to Verb, to VERBS and to entrypoint.py; and to
``verbs`` of those settings that it heeds and others do not.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args

import click
from click.core import ParameterSource

from job.command_line.options import VerbCommand, VerbGroup, heeds, option, variable, variables_of
from job.command_line.values import finite, parse_endpoint, parse_names, parse_output, parse_run, parse_token
from job.errors import BUG, CHANGED, ConfigError, ModelError, Terminated, TransientError, join_limited
from job.geometry.methods import Dedup
from job.limits.need import default_parts
from job.models.lists import parse_entry, parse_line, read_list, unique
from job.models.queries import KEYS, Entry
from job.models.references import EXPECTED

TENSORS: Final = ("W", "mu", "gamma_centered", "black_holes", "tokens", "projection", "covariance")
"""What can be published. ``tokens`` stands for all that is said of the rows' tokens."""
DEFAULT_TENSORS: Final = tuple(name for name in TENSORS if name != "covariance")
"""What is published if nothing is asked for: what costs little more than to read W."""

LogFormat = Literal["text", "json"]
Format = Literal["table", "text", "json", "html"]
Verb = Literal["survey", "plan", "compare", "index"]

VERBS: Final[Mapping[Verb, str]] = {
    "survey": """Survey the unembedding matrices of language models.

For each model, stream only its unembedding matrix W, measure it, and publish W, its centroid mu, the centred rows
gamma_centered, the black holes (rows that are bit-for-bit identical) and a table of the tokens with a manifest and a
report. Models already published are skipped.""",
    "plan": """Say what a survey would do, and why a model would fail.

Nothing is surveyed or written. From headers alone, a plan says of each model which tensor W is and why, what its survey
would read and need, whether it is published already, or why it will fail. The exit status is the one that the survey
would have, as far as headers tell.""",
    "compare": """Say how two published surveys differ, or a survey and the one before it.

Tokens that entered or left black holes; holes that merged, split, appeared or vanished; how ids map where the
tokenizers differ; how far the centroid moved, and which norms changed most. Only OUTPUT is read.""",
    "index": """Bring the index of OUTPUT up to date.

The index is index.html, surveys.parquet and surveys.csv: all surveys that are published, a row each, made from their
manifests alone. Every survey brings it up to date at its end. Only manifests that are new are read; to make all of it
anew, delete surveys.parquet first.""",
}
"""What each verb does, for its help. The first is the default: no reference is called like a verb, since references
have a slash or a dot."""

EXPECTED_SURVEY: Final = "org/name, or org/name@revision-or-commit"

_OF_MODELS: Final = ("survey", "plan")
"""The verbs that take models."""

FORMATS: Final[Mapping[Verb, tuple[Format, ...]]] = {"plan": ("table", "json"), "compare": ("text", "json", "html")}
"""How a verb can write what it finds, the default first."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do: a field for each setting, with what its help says, its default and its check."""

    verb: Verb

    models: tuple[Entry, ...] = field(
        metadata=variable(
            "MODELS", "References and queries separated by spaces, commas or new lines.", verbs=_OF_MODELS
        )
    )
    """As listed: queries have not been resolved yet."""
    surveys: tuple[str, ...]
    """Those to compare, one or two, as they are typed."""
    # A secret has no option: a command line is visible to every process of the machine.
    hf_token: str | None = field(repr=False, metadata=variable("HF_TOKEN", "For gated models.", verbs=_OF_MODELS))
    worker: int = field(
        metadata=variable("JOB_COMPLETION_INDEX", "Which worker of the run this is, from 0.", verbs=("survey",))
    )
    workers: int = field(
        metadata=variable("JOB_COMPLETIONS", "How many workers the run has; with RUN.", verbs=("survey",))
    )

    models_file: Path | None = option(
        "A list of models: YAML (each a reference, or model with revision and tensor, or query) or text, one a line.",
        type=click.Path(path_type=Path),
        verbs=_OF_MODELS,
    )
    output: str = option("A folder, or s3://bucket/prefix.", default="./surveys", parse=parse_output)
    tensors: frozenset[str] = option(
        "Which of these to publish, separated by commas; covariance takes minutes, and memory.",
        default=",".join(DEFAULT_TENSORS),
        parse=partial(parse_names, TENSORS),
        verbs=_OF_MODELS,
    )
    dedup: Dedup = option(
        "How black holes are found: streaming, or by torch.unique with several copies of W in memory. Same result.",
        default="byte-hash",
        type=click.Choice(get_args(Dedup)),
        verbs=_OF_MODELS,
    )
    show_tokens: int = option(
        "Print this many tokens of each black hole.", default=0, type=click.IntRange(min=0), verbs=("survey",)
    )
    plan_concurrency: int = option(
        "Models that a plan asks about at once.", default=8, type=click.IntRange(1, 64), verbs=("plan",)
    )
    format: Format | None = option(
        "A plan as table or json; a comparison as text, json or html, one page.",
        shown_default="table of a plan, text of a comparison",
        type=click.Choice(get_args(Format)),
        verbs=tuple(FORMATS),
    )
    log_format: LogFormat = option(
        "Log lines for people or for machines.", default="text", type=click.Choice(get_args(LogFormat))
    )
    scratch: Path = option(
        "Where a copy of W may lie while a model is surveyed.",
        default=tempfile.gettempdir,
        shown_default="the system's temporary folder",
        type=click.Path(path_type=Path, file_okay=False, exists=True, writable=True),
        verbs=_OF_MODELS,
    )
    scratch_limit: int | None = option(
        "Bytes that SCRATCH and the log may have together, such as a container's limits.ephemeral-storage.",
        type=click.IntRange(min=1),
        verbs=_OF_MODELS,
    )
    """None: what the disk has room for."""
    connections: int = option(
        "Ranges of a file in flight at once; each holds 4 MiB.",
        default=12,
        type=click.IntRange(1, 32),
        verbs=_OF_MODELS,
    )
    parts: int = option(
        "Parts of an upload to S3 in flight at once; each holds 10 MiB.",
        default=default_parts,
        shown_default="16, or fewer if memory is short",
        type=click.IntRange(1, 32),
        verbs=_OF_MODELS,
    )
    read_timeout: float = option(
        "Seconds without a byte after which a connection is given up and tried again.",
        default=30.0,
        type=click.FloatRange(min=0, min_open=True),
        parse=finite,
        verbs=_OF_MODELS,
    )
    model_deadline: float = option(
        "Seconds that one model may take; then it fails, and the run goes on with the next.",
        default=43_200.0,
        type=click.FloatRange(min=0, min_open=True),
        parse=finite,
        verbs=_OF_MODELS,
    )
    hf_endpoint: str | None = option("Another Hub than https://huggingface.co.", parse=parse_endpoint, verbs=_OF_MODELS)
    run: str | None = option(
        "The name that all workers of one run have in common; another for every run.",
        parse=parse_run,
        verbs=("survey",),
    )
    """None: this process goes through the whole list."""
    termination_message: Path | None = option(
        "Where the summary is written in short, such as Kubernetes' /dev/termination-log.",
        type=click.Path(path_type=Path, dir_okay=False),
        verbs=("survey",),
    )
    metrics_file: Path | None = option(
        "Where metrics are kept up to date, as OpenMetrics text.",
        type=click.Path(path_type=Path, dir_okay=False),
        verbs=("survey",),
    )
    pushgateway: str | None = option(
        "A Prometheus Pushgateway, http(s)://host, that the metrics are sent to.",
        parse=parse_endpoint,
        verbs=("survey",),
    )


_VARIABLES_HELP: Final = "Every option can be given in the environment under the name shown."
_MODELS_HELP: Final = f"""MODELS are references: {EXPECTED.removeprefix("expected ")}.

They may also be queries, which are asked of the Hub anew in every run: 'hub?author=Qwen&name=Qwen3&since=30d', with any
of {", ".join(KEYS)}. What a query finds and cannot be surveyed is passed over.

{_VARIABLES_HELP}"""

_SURVEYS_HELP: Final = f"""A and B are published surveys: {EXPECTED_SURVEY}. A commit may be shortened.
A survey that is named alone is B, and the one before it of the same model is A.

{_VARIABLES_HELP}"""

_ARGUMENTS: Final[Mapping[Verb, tuple[str, str]]] = {
    "survey": ("[MODELS]...", _MODELS_HELP),
    "plan": ("[MODELS]...", _MODELS_HELP),
    "compare": ("A [B]", _SURVEYS_HELP),
    "index": ("", _VARIABLES_HELP),
}
"""What the help calls a verb's arguments, and what it says of them."""

_AWS: Final = (
    "AWS_...",
    "boto3's: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, ...",
)

_STATUSES: Final = (
    ("0", "every model is published, or would be, or was passed over"),
    (str(ModelError.exit_status), "a model can never succeed"),
    (str(TransientError.exit_status), "something failed that a retry may mend"),
    (str(ConfigError.exit_status), "a setting is wrong, or the store refuses it"),
    (str(Terminated.exit_status), "terminated; what is finished stays finished"),
)
_STATUSES_OF_COMPARISON: Final = (
    ("0", "nothing changed, as far as can be told"),
    (str(CHANGED), "something changed"),
    (str(BUG), "a bug of this program; a traceback shows it"),
    (str(TransientError.exit_status), "the store failed, or what is published is damaged"),
    (str(ConfigError.exit_status), "no survey has such a name, or the store refuses to be read"),
    (str(Terminated.exit_status), "terminated"),
)
_STATUSES_OF_INDEX: Final = (
    ("0", "the index is up to date"),
    (str(TransientError.exit_status), "the store failed; run again"),
    (str(ConfigError.exit_status), "a setting is wrong, or the store may not be listed or written to"),
    (str(Terminated.exit_status), "terminated"),
)
_STATUSES_OF: Final[Mapping[Verb, tuple[tuple[str, str], ...]]] = {
    "survey": _STATUSES,
    "plan": _STATUSES,
    "compare": _STATUSES_OF_COMPARISON,
    "index": _STATUSES_OF_INDEX,
}


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of this run.

    Raises:
        ConfigError: a setting is wrong.
        SystemExit: help or the version was asked for, and printed.
    """
    verbs = VerbGroup([_command(verb) for verb in VERBS])
    try:
        settings = verbs.main(list(arguments), prog_name="entrypoint.py", standalone_mode=False)
    except click.ClickException as error:
        raise ConfigError(f"settings: {error.format_message()}") from error
    if not isinstance(settings, Settings):
        raise SystemExit(0)
    return settings


def _command(verb: Verb) -> VerbCommand:
    variables = [(one.name, one.help) for one in variables_of(Settings) if heeds(verb, one)]
    metavar, about = _ARGUMENTS[verb]
    lists = {
        "In the environment alone": [*variables, _AWS],
        "Exit status": _STATUSES_OF[verb],
    }
    return VerbCommand(verb, f"{VERBS[verb]}\n\n{about}", Settings, partial(_settings, verb), lists, metavar)


def _settings(verb: Verb, context: click.Context) -> Settings:
    options = dict(context.params)
    typed = options.pop("arguments")
    options["format"] = _format(verb, options["format"])
    if verb == "compare":
        return Settings(verb, models=(), surveys=_surveys(typed), hf_token=None, worker=0, workers=1, **options)
    worker, workers = _share(options["run"])
    message, metrics = options.get("termination_message"), options.get("metrics_file")
    if message and metrics and os.path.realpath(message) == os.path.realpath(metrics):
        raise ConfigError(
            f"TERMINATION_MESSAGE, METRICS_FILE: found {message} for both, expected two files, or one would be lost; "
            "choose another"
        )
    return Settings(
        verb=verb,
        models=_models(typed, options["models_file"], context) if verb in _OF_MODELS else _no_models(verb, typed),
        surveys=(),
        hf_token=parse_token("HF_TOKEN", os.environ.get("HF_TOKEN", "").strip()),
        worker=worker,
        workers=workers,
        **options,
    )


def _format(verb: Verb, asked: Format | None) -> Format | None:
    """How this verb writes what it finds; what is asked is checked only if the verb has formats."""
    formats = FORMATS.get(verb)
    if formats is None:
        return asked
    if asked not in (None, *formats):
        raise ConfigError(f"FORMAT: {asked!r} was found, {' or '.join(formats)} was expected of {verb}; correct it")
    return asked or formats[0]


def _surveys(typed: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(typed) <= 2:
        found = ", ".join(map(repr, typed)) or "none"
        raise ConfigError(f"compare: {found} was found, one or two surveys were expected, each {EXPECTED_SURVEY}")
    return typed


def _models(typed: tuple[str, ...], models_file: Path | None, context: click.Context) -> tuple[Entry, ...]:
    """The models typed, or else those of MODELS and MODELS_FILE together."""
    if typed and context.get_parameter_source("models_file") is ParameterSource.COMMANDLINE:
        raise ConfigError(
            f"settings: found models and --models-file {models_file} on the command line, expected either; remove one, "
            "or add the models to the file"
        )
    if typed:
        models = [parse_entry(argument, f"argument {number}") for number, argument in enumerate(typed, 1)]
    else:
        models = parse_line(os.environ.get("MODELS", ""), "MODELS")
        if models_file:
            models += read_list(models_file)
    if not models:
        raise ConfigError(
            "settings: no models were given; name some as arguments, in MODELS or in a file with MODELS_FILE "
            "(python entrypoint.py --help tells how)"
        )
    return tuple(unique(models))


def _no_models(verb: Verb, typed: tuple[str, ...]) -> tuple[Entry, ...]:
    """No models. Those of MODELS are for the other verbs."""
    if typed:
        raise ConfigError(
            f"settings: found {join_limited(typed)} after {verb}, expected nothing, since it is of all of OUTPUT; "
            "remove it"
        )
    return ()


def _share(run: str | None) -> tuple[int, int]:
    """Which worker this is, and of how many, as an Indexed Job tells its pods."""
    index, completions = (os.environ.get(name, "").strip() for name in ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"))
    if not index and completions in ("", "1"):
        return 0, 1
    if not (
        re.fullmatch(r"\d{1,9}", index) and re.fullmatch(r"\d{1,9}", completions) and int(index) < int(completions)
    ):
        raise ConfigError(
            f"JOB_COMPLETION_INDEX, JOB_COMPLETIONS: {index!r} and {completions!r} were found, an index from 0 and the "
            "number of workers, larger than it, were expected; set JOB_COMPLETIONS to the Job's spec.completions "
            "(Kubernetes sets the other one)"
        )
    if int(completions) > 1 and not run:
        raise ConfigError(
            f"RUN: nothing was found, a name that all {completions} workers have in common was expected, since they "
            "share one pinned list; set it (k8s/base/job.yaml shows how), anew for every run"
        )
    return int(index), int(completions)
