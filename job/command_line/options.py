"""A command line with verbs, made from what the fields of a dataclass say of themselves. It knows no setting by name.

A field is an ``option``, which is an environment variable too, or a ``variable``, which has no option.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import click

from job import __version__

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Option:
    """What a field that can be typed says of itself, as ``option`` takes it."""

    help: str
    default: str | int | float | Callable[[], str | int] | None
    shown_default: str | None
    type: click.ParamType[object] | None
    parse: Callable[..., object] | None
    verbs: tuple[str, ...] | None


@dataclass(frozen=True)
class Variable:
    """A setting in the environment alone."""

    name: str
    help: str
    verbs: tuple[str, ...] | None


def variable(name: str, help: str, *, verbs: tuple[str, ...] | None = None) -> Mapping[str, Variable]:
    """The metadata of a field that has no option; whoever makes the settings reads the variable."""
    return {"variable": Variable(name, help, verbs)}


def option(
    help: str,
    *,
    default: str | int | float | Callable[[], str | int] | None = None,
    shown_default: str | None = None,
    type: click.ParamType[_Value] | None = None,
    parse: Callable[..., _Value] | None = None,
    verbs: tuple[str, ...] | None = None,
) -> _Value:
    """A field ``some_name`` that is typed as ``--some-name``, or set in the environment as ``SOME_NAME``.

    Args:
        default: what would be typed for it. None: the field is None.
        shown_default: what the help shows for a default that is not the same on every machine.
        type: what click checks and converts; text by default.
        parse: makes the field's value of the variable's name, for messages, and of what click gives.
        verbs: those that heed it; None: every verb.
    """
    value: _Value = field(metadata={"option": Option(help, default, shown_default, type, parse, verbs)})
    return value  # typed as the field's value, as dataclasses.field is


def options_of(settings: type) -> Mapping[str, Option]:
    """The options of a dataclass, by the names of their fields."""
    return {each.name: each.metadata["option"] for each in fields(settings) if "option" in each.metadata}


def variables_of(settings: type) -> Sequence[Variable]:
    """What is in the environment alone."""
    return [each.metadata["variable"] for each in fields(settings) if "variable" in each.metadata]


def option_name(field: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{field.replace('_', '-')}"


def variable_name(field: str) -> str:
    """The environment variable of a field with an option."""
    return field.upper()


def environment_of(settings: type) -> set[str]:
    """The names of all environment variables."""
    return {variable_name(field) for field in options_of(settings)} | {one.name for one in variables_of(settings)}


def heeds(verb: str, setting: Option | Variable) -> bool:
    """Whether a setting changes what a verb does."""
    return setting.verbs is None or verb in setting.verbs


class VerbCommand(click.Command):
    """A verb with its own help. It takes every option, so that the same settings serve several verbs; its help shows
    those that it heeds.

    ``read(context)`` makes the settings, of what it finds among the parameters as ``arguments`` too. ``lists`` are what
    the help has below the options, and ``metavar`` is what it calls the arguments.
    """

    def __init__(
        self,
        name: str,
        text: str,
        settings: type,
        read: Callable[[click.Context], object],
        lists: Mapping[str, Sequence[tuple[str, str]]],
        metavar: str,
    ) -> None:
        @click.pass_context
        def callback(context: click.Context, /, **_values: object) -> object:
            return read(context)

        arguments = click.Argument(["arguments"], nargs=-1, metavar=metavar)
        options = [_click_option(field, option, name) for field, option in options_of(settings).items()]
        super().__init__(name, callback=callback, help=text, params=[arguments, *options])
        click.version_option(__version__, message="black-hole survey %(version)s")(self)
        self.lists = lists

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        for title, rows in self.lists.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class VerbGroup(click.Group):
    """Verbs, of which the first may stay unsaid. Options may stand before the verb as well as after it."""

    def __init__(self, verbs: Sequence[VerbCommand]) -> None:
        self.default = verbs[0]
        super().__init__(
            commands=verbs,
            help=self.default.help,
            options_metavar="[VERB] [OPTIONS]",
            subcommand_metavar="[MODELS]...",
            context_settings={
                "help_option_names": ["-h", "--help"],
                "show_default": True,
                "max_content_width": 110,
            },
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # In a group, the parser takes all that follows the first argument, a verb or a model, for arguments too.
        options, _, _ = self.default.make_parser(ctx).parse_args(list(args))
        typed = options["arguments"] if isinstance(options["arguments"], tuple) else ()  # not if there are none
        if typed and typed[0] in self.commands:
            args = [typed[0], *args[: -len(typed)], *typed[1:]]
        elif (asked_help := self.get_help_option(ctx)) and asked_help.name in options:
            args = ["--help"]
        else:
            args = [str(self.default.name), *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs (VERB --help shows the options of each)"):
            formatter.write_dl(
                [
                    (name, verb.get_short_help_str(formatter.width) + ("  [default]" if verb is self.default else ""))
                    for name, verb in self.commands.items()
                ]
            )
        self.default.format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.default.format_epilog(ctx, formatter)


def _click_option(field: str, option: Option, verb: str) -> click.Option:
    def parse(_context: click.Context, _parameter: click.Parameter, value: object) -> object:
        return value if value is None or option.parse is None else option.parse(variable_name(field), value)

    return click.Option(
        [option_name(field), field],
        envvar=variable_name(field),
        show_envvar=True,
        type=option.type,
        default=option.default,
        show_default=option.shown_default,
        callback=parse,
        help=option.help,
        hidden=not heeds(verb, option),
    )
