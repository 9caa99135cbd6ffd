"""The arguments that repeat a command with the options that were set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer


def command_words(context: typer.Context, **changes: object) -> list[str]:
    """Return the arguments that call a command again, without its name; options may follow them.

    Args:
        context: the call that is repeated.
        changes: other values of parameters, by their names; None or False leaves an option out.
    """
    values = {**context.params, **changes}
    words: list[str] = []
    arguments: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in changes or was_set(context, name):
            target = arguments if parameter.param_type_name == "argument" else words
            target.extend(_words(parameter, values[name]))
    return [*arguments, *words]


def was_set(context: typer.Context, name: str) -> bool:
    """Return whether a parameter has a value that is not its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _words(parameter: Any, value: object) -> Iterator[str]:
    """Yield the words of a parameter: one for each value, so that a value that begins with a dash stays one."""
    option = max(parameter.opts, key=len)
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if parameter.param_type_name == "argument":
            yield str(item)
        elif item is True:
            yield option
        elif item is not None and item is not False:
            yield f"{option}={item}"
