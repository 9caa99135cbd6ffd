"""Commands whose files must be on this machine: URLs of objects are refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from nearfield.fileio.s3.path import refuse_object


class LocalPathCommand(TyperCommand):
    """A command that refuses ``s3://`` URLs where it takes paths; texts such as a query may be anything."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            InputError: a path is a URL of an object.
        """
        for name, value in ctx.params.items():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    refuse_object(str(path), param=name)
        return super().invoke(ctx)


def refuse_objects_in(app: typer.Typer) -> None:
    """Let all commands of an application, and of its groups, refuse ``s3://`` URLs where they take paths."""
    for command in app.registered_commands:
        command.cls = LocalPathCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            refuse_objects_in(group.typer_instance)
