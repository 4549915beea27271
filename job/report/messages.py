"""Prints warnings, failures and models that were passed over, after a run and in a plan."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from job.errors import SurveyError
from job.models.references import ModelRef
from job.outcome import Outcome, PlannedModel
from job.report.text import escape


def status_text(model: Outcome | PlannedModel) -> Text:
    """The status of a model in a table. For a failure, it is the kind of error."""
    if model.status == "passed over":
        return Text(model.status, "yellow")
    if model.error:
        return Text(type(model.error).__name__, "bold red")
    return Text(model.status, "green")


def print_failures(console: Console, models: Iterable[Outcome | PlannedModel]) -> None:
    """Print the models that were passed over, then the failures. Each line has the kind of error and its message."""
    passed_over: list[Text] = []
    failed: list[Text] = []
    for model in models:
        if model.error:
            kind, message = type(model.error).__name__, f"  {escape(message_with_model(model.ref, model.error))}"
            if model.status == "passed over":
                passed_over.append(Text.assemble(("Passed over", "yellow"), f"  {kind}{message}"))
            else:
                failed.append(Text.assemble((kind, "bold red"), message))
    for line in passed_over + failed:
        console.print(line, soft_wrap=True)


def print_warning(console: Console, text: str) -> None:
    """Print what a reader of the results should know."""
    console.print(Text.assemble(("Warning", "yellow"), f"  {escape(text)}"), soft_wrap=True)


def message_with_model(ref: ModelRef, error: SurveyError) -> str:
    """The error's message, which begins with the model as the list names it."""
    message, model = str(error), str(ref)
    return message if message.startswith(model) else f"{model}: {message}"
