"""The command line: one module per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from nearfield import __version__
from nearfield.cli.terminal.local_paths import refuse_objects_in
from nearfield.errors import InputError, ModelNotFound, NearfieldError, SettingsError
from nearfield.message_text import escape_lines

#: The commands in the order of ``nearfield --help``: the name, the module in this package that has a function of that
#: name, and the name of its examples there. A new command is one module and one row.
COMMANDS = (
    ("serve", "serve", "EXAMPLES"),
    ("route", "route", "EXAMPLES"),
    ("embed", "embed", "EXAMPLES"),
    ("dedupe", "dedupe", "EXAMPLES"),
    ("index", "index", "EXAMPLES"),
    ("search", "search", "SEARCH_EXAMPLES"),
    ("ask", "search", "ASK_EXAMPLES"),
    ("mcp", "mcp", "EXAMPLES"),
    ("similarity", "similarity", "EXAMPLES"),
    ("classify", "classify", "EXAMPLES"),
    ("topics", "topics", "EXAMPLES"),
    ("recommend", "recommend", "EXAMPLES"),
    ("outliers", "outliers", "EXAMPLES"),
    ("map", "map", "EXAMPLES"),
    ("rerank", "rerank", "EXAMPLES"),
    ("doctor", "doctor", "EXAMPLES"),
    ("top", "top", "EXAMPLES"),
    ("evaluate", "evaluate", "EXAMPLES"),
    ("judge", "judge", "EXAMPLES"),
    ("synthetic", "synthetic", "EXAMPLES"),
    ("compare", "compare", "EXAMPLES"),
    ("mteb", "mteb", "EXAMPLES"),
    ("quantize", "quantize", "EXAMPLES"),
    ("advise", "advise", "EXAMPLES"),
    ("verify", "verify", "EXAMPLES"),
    ("speed", "speed", "EXAMPLES"),
    ("size", "size", "EXAMPLES"),
    ("cost", "cost", "EXAMPLES"),
    ("capacity", "capacity", "EXAMPLES"),
)
#: The groups of commands: modules that have a typer application named ``app``.
GROUPS = ("demo", "train", "convert", "cluster", "collections", "golden", "models", "keys")

#: The exit status of all commands.
EXIT_CODES = {
    0: "done. A search without results is done; so is an index run in which single documents failed or are partial, "
    "which its report names.",
    1: "failed: a model, a database or a server cannot be used, nothing could be indexed, a source could not be "
    "listed, removals wait for --allow-removal, a check (verify, golden check) found a difference, demo media did not "
    "find a file, or dedupe lists files that cannot be read or linked.",
    2: "wrong usage: an argument, option, setting or file is wrong, or a name (of a model, a collection) is unknown.",
    3: "not better: nothing was written, since the measured result does not allow it (train, convert, quantize).",
    130: "interrupted with Ctrl-C.",
}
_USAGE_ERRORS = (InputError, SettingsError, ModelNotFound, FileNotFoundError)

app = typer.Typer(
    name="nearfield",
    help="Turn text into vectors on your own machine: exactly, fast, for every client.",
    epilog="Start with: nearfield demo\n\nExit status: 0 done, 1 failed, 2 wrong usage, 3 not better, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _add_commands() -> None:
    for name, module_name, examples in COMMANDS:
        module = import_module(f"nearfield.cli.{module_name}")
        app.command(name, epilog=getattr(module, examples))(getattr(module, name))
    for name in GROUPS:
        app.add_typer(import_module(f"nearfield.cli.{name}").app, name=name)
    refuse_objects_in(app)


_add_commands()


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"nearfield {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Turn text into vectors on your own machine: exactly, fast, for every client."""


def main() -> None:
    """Run the command line; an error of Nearfield is one clear message, not a traceback."""
    try:
        app()
    except (NearfieldError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"nearfield: {escape_lines(str(error))}", fg="red", err=True)
        raise SystemExit(2 if isinstance(error, _USAGE_ERRORS) else 1) from None
