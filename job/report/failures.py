"""How it is told, after a run and in a plan, that a model failed or was passed over."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from job.errors import SurveyError
from job.models.references import ModelRef
from job.outcome import Outcome
from job.plan import Planned
from job.report.text import shown


def status_text(one: Outcome | Planned) -> Text:
    """What a table says became of a model, or will: of a failure, its kind."""
    if one.status == "passed over":
        return Text(one.status, "yellow")
    if one.error:
        return Text(type(one.error).__name__, "bold red")
    return Text(one.status, "green")


def print_failures(console: Console, models: Iterable[Outcome | Planned]) -> None:
    """What was passed over and why, and then every failure with its kind, its cause and what to do."""
    failed = [one for one in models if one.error]
    for one in sorted(failed, key=lambda one: one.status != "passed over"):
        if one.error:
            is_passed_over = one.status == "passed over"
            label = Text("Passed over  ", "yellow") if is_passed_over else Text()
            kind = Text(type(one.error).__name__, "" if is_passed_over else "bold red")
            console.print(Text.assemble(label, kind, f"  {shown(cause_of(one.ref, one.error))}"), soft_wrap=True)


def cause_of(ref: ModelRef, error: SurveyError) -> str:
    """The error's message, which may name the model by its address alone, with the model as the list names it."""
    cause, model = str(error), str(ref)
    return cause if cause.startswith(model) else f"{model}: {cause}"
