"""Every setting, read once from the environment and the command line, validated, frozen. Nothing else reads either.

(boto3 reads the ``AWS_…`` variables, its own.)
"""

import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import click

from job import __version__
from job.errors import ConfigError, without_credentials
from job.models.lists import parse_entry, parse_line, read_list, unique
from job.models.queries import KEYS, Entry
from job.models.references import EXPECTED

TENSORS: Final = ("W", "mu", "gamma_centered", "black_holes")
"""What can be published, in the order in which it is."""


Dedup = Literal["byte-hash", "torch-unique"]
LogFormat = Literal["text", "json"]
Verb = Literal["survey", "plan"]
PlanFormat = Literal["table", "json"]


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do."""

    verb: Verb
    models: tuple[Entry, ...]
    """As listed: queries have not been resolved yet."""
    output: str
    """``s3://bucket/prefix`` or a folder."""
    tensors: frozenset[str]
    """Those of TENSORS to publish."""
    dedup: Dedup
    show_tokens: int
    """How many tokens of each hole to print on the terminal."""
    log_format: LogFormat
    scratch: Path
    """Where a copy of W may lie while a model is surveyed."""
    connections: int
    """Ranges of one file in flight at once."""
    read_timeout: float
    """Seconds without a byte after which a connection is given up."""
    plan_concurrency: int
    """Models asked about at once by a plan."""
    format: PlanFormat
    """How a plan is printed."""
    hf_endpoint: str | None
    hf_token: str | None = field(repr=False)
    run: str | None
    """The name that all workers of a distributed run have in common; None: this process goes through the whole list."""
    worker: int
    """Which of the run's workers this is, from 0."""
    workers: int
    termination_message: Path | None
    """Where the summary is written in short, for Kubernetes to keep with the container's status."""
    metrics_file: Path | None
    """Where the run's metrics are kept up to date, as OpenMetrics text."""
    pushgateway: str | None
    """The Pushgateway's address that the metrics are sent to as well."""


_HELP: Final = f"""Survey the unembedding matrices of language models.

For each model, stream only its unembedding matrix W, measure it, and publish W, its centroid mu, the centred rows
gamma_centered and the black holes (rows that are bit-for-bit identical) with a manifest and a report.

MODELS are references: {EXPECTED.removeprefix("expected ")}. Models already published are skipped.

They may also be queries, which are asked of the Hub anew in every run: 'hub?author=Qwen&name=Qwen3&since=30d', with any
of {", ".join(KEYS)}. What a query finds and cannot be surveyed is passed over.

With "plan" before them, nothing is surveyed or written: from headers alone, it says of each model which tensor W is and
why, what its survey would read and need, whether it is published already, or why it will fail. The exit status is the
one that the run would have, as far as headers tell.

Every option can be given in the environment under the name shown. In the environment alone:

\b
  MODELS    references and queries separated by spaces, commas or new lines
  HF_TOKEN  for gated models
  JOB_COMPLETION_INDEX, JOB_COMPLETIONS
            which worker of how many this is, from 0; with RUN
  AWS_...   boto3's own: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
            AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, ...

\b
Exit status:
  0    every model is published, or would be, or was passed over
  65   a model can never succeed
  75   something failed that a retry may mend
  78   a setting is wrong, or the store refuses it
  143  terminated; what is finished stays finished
"""


_Function = TypeVar("_Function", bound=Callable[..., object])


def _option(name: str, help_text: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """An option ``--some-name`` that is also the environment variable ``SOME_NAME``."""
    variable = name.upper().replace("-", "_")
    return click.option(f"--{name}", envvar=variable, show_envvar=True, help=help_text, **attributes)


@click.command(
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
)
@click.argument("models", nargs=-1, metavar="[plan] [MODELS]...")
@_option(
    "models-file",
    "A list of models: YAML (each a reference, or model with revision and tensor, or query) or text, one a line.",
    type=click.Path(path_type=Path),
)
@_option("output", "A folder, or s3://bucket/prefix.", default="./surveys")
@_option("tensors", "Which of these to publish, separated by commas.", default=",".join(TENSORS))
@_option(
    "dedup",
    "How black holes are found: streaming, or by torch.unique with several copies of W in memory. Same result.",
    type=click.Choice(get_args(Dedup)),
    default="byte-hash",
)
@_option("show-tokens", "Print this many tokens of each black hole.", type=click.IntRange(min=0), default=0)
@_option("log-format", "Log lines for people or for machines.", type=click.Choice(get_args(LogFormat)), default="text")
@_option(
    "scratch",
    "Where a copy of W may lie while a model is surveyed.",
    type=click.Path(path_type=Path, file_okay=False, exists=True, writable=True),
    default=tempfile.gettempdir,
    show_default="the system's temporary folder",
)
@_option("connections", "Ranges in flight at once; each holds 8 MiB.", type=click.IntRange(1, 32), default=4)
@_option(
    "read-timeout",
    "Seconds without a byte after which a connection is given up and tried again.",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
)
@_option("plan-concurrency", "Models that a plan asks about at once.", type=click.IntRange(1, 64), default=8)
@_option(
    "format",
    "A plan for people, or one JSON document for machines.",
    type=click.Choice(get_args(PlanFormat)),
    default="table",
)
@_option("hf-endpoint", "Another Hub than https://huggingface.co.", default=None)
@_option("run", "The name that all workers of one run have in common; another for every run.", default=None)
@_option(
    "termination-message",
    "Where the summary is written in short, such as Kubernetes' /dev/termination-log.",
    type=click.Path(path_type=Path, dir_okay=False),
)
@_option(
    "metrics-file",
    "Where metrics are kept up to date, as OpenMetrics text.",
    type=click.Path(path_type=Path, dir_okay=False),
)
@_option("pushgateway", "A Prometheus Pushgateway, http(s)://host, that the metrics are sent to.", default=None)
@click.version_option(__version__, message="black-hole survey %(version)s")
def command(
    models: tuple[str, ...],
    models_file: Path | None,
    output: str,
    tensors: str,
    dedup: Dedup,
    show_tokens: int,
    log_format: LogFormat,
    scratch: Path,
    connections: int,
    read_timeout: float,
    plan_concurrency: int,
    format: PlanFormat,
    hf_endpoint: str | None,
    run: str | None,
    termination_message: Path | None,
    metrics_file: Path | None,
    pushgateway: str | None,
) -> Settings:
    # No reference is called "plan": models have a slash or a dot.
    verb: Verb = "plan" if models[:1] == ("plan",) else "survey"
    worker, workers = _share(run)
    return Settings(
        verb=verb,
        models=_models(models[1:] if verb == "plan" else models, models_file),
        output=_output(output),
        tensors=_tensors(tensors),
        dedup=dedup,
        show_tokens=show_tokens,
        log_format=log_format,
        scratch=scratch,
        connections=connections,
        read_timeout=_finite(read_timeout),
        plan_concurrency=plan_concurrency,
        format=format,
        hf_endpoint=_endpoint("HF_ENDPOINT", hf_endpoint),
        # A secret has no option: a command line is visible to every process of the machine.
        hf_token=_token(os.environ.get("HF_TOKEN", "").strip()),
        run=_run(run),
        worker=worker,
        workers=workers,
        termination_message=termination_message,
        metrics_file=metrics_file,
        pushgateway=_endpoint("PUSHGATEWAY", pushgateway),
    )


def _finite(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ConfigError(f"READ_TIMEOUT: {seconds} was found, a number of seconds was expected; correct it")
    return seconds


def _token(text: str) -> str | None:
    if not re.fullmatch("[!-~]*", text):
        raise ConfigError("HF_TOKEN: holds blanks or characters that no token has; set it anew")
    return text or None


def _models(typed: tuple[str, ...], models_file: Path | None) -> tuple[Entry, ...]:
    """The models typed, or else those of MODELS and MODELS_FILE together."""
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


def _output(text: str) -> str:
    is_address = re.match(r"\w+:/", text)
    if is_address and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", text):
        found = without_credentials(text)
        raise ConfigError(f"OUTPUT: {found!r} was found, a folder or s3://bucket/prefix was expected; correct it")
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _tensors(text: str) -> frozenset[str]:
    names = text.replace(",", " ").split()
    if not names or not set(names) <= set(TENSORS):
        raise ConfigError(f"TENSORS: {text!r} was found, one or more of {', '.join(TENSORS)} were expected; correct it")
    return frozenset(names)


def _run(name: str | None) -> str | None:
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise ConfigError(
            f"RUN: {name!r} was found, letters, digits, '-', '_' and '.' were expected, since it names a folder below "
            "OUTPUT; choose another"
        )
    return name or None


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


def _endpoint(variable: str, url: str | None) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        sound = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port)
            and " " not in url
        )
    except ValueError:
        sound = False
    if not sound:
        # What stands before an @, or where a port is expected, may be a password, however it is written.
        found = re.sub(r"(//[^:/]*):(?!\d+(/|$)).*", r"\1:…", url.rpartition("@")[2])
        raise ConfigError(f"{variable}: {found!r} was found, http(s)://host was expected; correct it")
    return url.rstrip("/")


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of this run.

    Raises:
        ConfigError: a setting is wrong.
        SystemExit: help or the version was asked for, and printed.
    """
    try:
        settings = command.main(list(arguments), prog_name="entrypoint.py", standalone_mode=False)
    except click.ClickException as error:
        raise ConfigError(f"settings: {error.format_message()}") from error
    if not isinstance(settings, Settings):
        raise SystemExit(0)
    return settings
