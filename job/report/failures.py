"""How it is told, after a run and in a plan, that a model failed or was passed over."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from job.errors import SurveyError
from job.models.references import ModelRef
from job.outcome import Outcome, Planned
from job.report.text import escape


def status_text(one: Outcome | Planned) -> Text:
    """What a table says became of a model, or will: of a failure, its kind."""
    if one.status == "passed over":
        return Text(one.status, "yellow")
    if one.error:
        return Text(type(one.error).__name__, "bold red")
    return Text(one.status, "green")


def print_failures(console: Console, models: Iterable[Outcome | Planned]) -> None:
    """What was passed over and why, and then every failure with its kind, its cause and what to do."""
    passed_over: list[Text] = []
    failed: list[Text] = []
    for one in models:
        if one.error:
            kind, cause = type(one.error).__name__, f"  {escape(cause_of(one.ref, one.error))}"
            if one.status == "passed over":
                passed_over.append(Text.assemble(("Passed over", "yellow"), f"  {kind}{cause}"))
            else:
                failed.append(Text.assemble((kind, "bold red"), cause))
    for line in passed_over + failed:
        console.print(line, soft_wrap=True)


def cause_of(ref: ModelRef, error: SurveyError) -> str:
    """The error's message, which may name the model by its address alone, with the model as the list names it."""
    cause, model = str(error), str(ref)
    return cause if cause.startswith(model) else f"{model}: {cause}"
