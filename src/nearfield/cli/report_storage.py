"""Reports of commands, which the console of a server on this machine shows later."""

from __future__ import annotations

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import quote_name


def keep_report(kind: str, report: JsonObject, *, quiet: bool) -> None:
    """Store what a command measured, and say where; that it cannot be stored is no error of the command."""
    from nearfield.evaluation.reports.report_writer import store_report

    try:
        path = store_report(kind, report)
    except OSError as error:
        typer.echo(f"The report is not stored: {error}. NEARFIELD_REPORTS names another folder.", err=True)
        return
    if path is not None and not quiet:
        typer.echo(f"Stored for the console: {quote_name(str(path))}", err=True)
