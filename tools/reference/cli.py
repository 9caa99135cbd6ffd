"""Generator of ``cli.md``: every command with its arguments, options and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from nearfield.cli import EXIT_CODES, app
from tools.reference.markdown import join_page, render_table

PAGE = "cli.md"
_INTRO = (
    "Every command of `nearfield`, with its arguments and options. `nearfield COMMAND --help` prints the same in a "
    "terminal. This page is generated from the code by `python -m tools.reference`."
)


def render() -> str:
    """Return the whole page."""
    return join_page("Command line", _INTRO, *_render_exit_codes(), *_render_commands(get_command(app), "nearfield"))


def _render_exit_codes() -> Iterator[str]:
    yield "## Exit status"
    yield render_table(("status", "meaning"), ((f"`{code}`", meaning) for code, meaning in EXIT_CODES.items()))


def _render_commands(command: Any, name: str) -> Iterator[str]:
    """Yield the parts of a command, or of the commands of a group."""
    nested = getattr(command, "commands", {})
    for key, inner in nested.items():
        yield from _render_commands(inner, f"{name} {key}")
    if nested:
        return
    yield f"## {name}"
    yield command.help
    yield render_table(("argument or option", "meaning"), _parameter_rows(command))
    examples = _examples(command.epilog or "")
    if examples:
        yield "```console\n" + "\n".join(f"$ {line}" for line in examples) + "\n```"


def _examples(epilog: str) -> list[str]:
    """Return those lines of a command's epilogue that can be typed."""
    lines = [line.removeprefix("Example: ") for line in epilog.splitlines()]
    return [line for line in lines if "nearfield " in line and not line.endswith((".", ":"))]


def _parameter_rows(command: Any) -> Iterator[tuple[str, str]]:
    """Yield (names, meaning) for each argument and option."""
    for parameter in command.params:
        option = parameter.param_type_name == "option"
        names = ", ".join(f"`{name}`" for name in parameter.opts) if option else f"`{parameter.name.upper()}`"
        default = parameter.default
        shown = option and isinstance(default, (str, int, float)) and default and default is not True
        yield names, f"{parameter.help}{f' [{default}]' if shown else ''}"
