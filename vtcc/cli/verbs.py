"""How `vtcc` lists its verbs and what it checks before one runs."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from vtcc import extras


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


def variables(command: Any) -> set[str]:
    """The variables of the options of all verbs below a command."""
    found = set()
    for verb in getattr(command, "commands", {}).values():
        found |= {name for option in verb.params for name in option.envvar or ()}
        found |= variables(verb)
    return found
