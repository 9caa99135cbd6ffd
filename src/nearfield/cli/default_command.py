"""Groups of commands of which one runs where no command is named."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup


class DefaultCommandGroup(TyperGroup):
    """A group in which arguments that begin with no command are those of the default one."""

    default_command: ClassVar[str]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the default command before arguments that do not begin with a command."""
        names_none = not args and not self.no_args_is_help
        if names_none or (args and args[0] not in (*self.commands, "--help")):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)
