"""nearfield train: fit a model to your data. One file per command; ``train MODEL`` means ``train run MODEL``."""

from __future__ import annotations

from importlib import import_module

import typer

from nearfield.cli.default_command import DefaultCommandGroup

#: The commands: the name, and the module in this package with a function of the module's name and ``EXAMPLES``.
#: A new command is one module and one row.
COMMANDS: tuple[tuple[str, str], ...] = (
    ("run", "run"),
    ("classifier", "classifier"),
    ("map", "query_map"),
    ("mine", "mine"),
    ("prune", "prune"),
    ("static", "static"),
)


class TrainGroup(DefaultCommandGroup):
    """``nearfield train MODEL`` means ``nearfield train run MODEL``."""

    default_command = "run"


app = typer.Typer(
    help="Fit a model to your data: measured before and after, and written only if it is better. "
    "`nearfield train MODEL --data ROWS -o FOLDER` is `nearfield train run MODEL ...`.",
    cls=TrainGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Make typer treat the application as a group, however many commands it has."""


def _add_commands() -> None:
    for name, module_name in COMMANDS:
        module = import_module(f"nearfield.cli.train.{module_name}")
        app.command(name, epilog=module.EXAMPLES)(getattr(module, module_name))


_add_commands()
