"""How `vtcc` lists its verbs and what it checks before one runs."""

import os
import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vtcc import extras
from vtcc.errors import VtccError


class Pipeline(TyperCommand):
    """A verb that needs the extra `pipeline`; says so before anything else is done."""

    def invoke(self, ctx: Any) -> Any:
        """Runs it, where the extra is installed."""
        extras.need(f"`vtcc {self.name}`", *extras.PACKAGES["pipeline"])
        return super().invoke(ctx)


class Clone(TyperCommand):
    """A verb that works on the files of a clone: parameters, cards, what stages made."""


class Verbs(TyperGroup):
    """Lists what `pip install vtcc` can do apart from what needs more; names variables."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Arguments as of `TyperGroup`."""
        super().__init__(*given, **named)
        _name_variables(dict(self.commands), "VTCC")

    def invoke(self, ctx: Any) -> Any:
        """Runs a verb; what is wrong with an option names its variable, where that is set."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message += self._set(ctx.invoked_subcommand, error.format_message())
            raise
        except VtccError as error:
            told = str(error)
            error.args = (told + self._set(ctx.invoked_subcommand, told), *error.args[1:])
            raise

    def _set(self, verb: str, told: str) -> str:
        """Which variables are set of the options of a verb that an error speaks of."""
        said = ""
        for option in _options(self.commands[verb]):
            if not any(re.search(rf"(?<![\w-]){name}(?![\w-])", told) for name in option.opts):
                continue
            name = max(option.opts, key=len)
            for variable in filter(os.environ.get, option.envvar):
                said += f" ({variable} is set; {name} on the command line wins)"
        return said

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the three lists of `vtcc --help`."""
        pipeline = f"Commands of the pipeline ({extras.install('pipeline')})"
        lists: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in ("Commands", "Commands inside a clone", pipeline)
        }
        kinds: dict[type, str] = {Clone: "Commands inside a clone", Pipeline: pipeline}
        width = max(map(len, self.commands))
        for name, command in self.commands.items():
            line = command.get_short_help_str(formatter.width - 6 - width)
            lists[kinds.get(type(command), "Commands")].append((name.ljust(width), line))
        for heading, commands in lists.items():
            with formatter.section(heading):
                formatter.write_dl(commands)


def _name_variables(commands: dict[str, Any], prefix: str) -> None:
    """Gives every option a variable after its name, which `--help` does not repeat."""
    for name, command in commands.items():
        place = f"{prefix}_{name}"
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                own = f"{place}_{max(option.opts, key=len).lstrip('-')}".upper().replace("-", "_")
                option.show_envvar = option.envvar is not None
                option.envvar = [*([option.envvar] if option.envvar else []), own]
        _name_variables(getattr(command, "commands", {}), place)


def _options(command: Any) -> Iterator[Any]:
    """The options of a command that have variables, and of all verbs below it."""
    yield from (option for option in command.params if option.envvar)
    for verb in getattr(command, "commands", {}).values():
        yield from _options(verb)


def variables(command: Any) -> set[str]:
    """The variables of the options of all verbs below a command."""
    return {name for option in _options(command) for name in option.envvar}
