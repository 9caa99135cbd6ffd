"""The command line. Each group is a file; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nearfield import __version__
from nearfield.cli import (
    advise,
    collections,
    compare,
    cost,
    demo,
    doctor,
    embed,
    evaluate,
    golden,
    index,
    judge,
    keys,
    mcp,
    models,
    mteb,
    rerank,
    search,
    serve,
    similarity,
    size,
    speed,
    top,
    verify,
)
from nearfield.errors import InputError, NearfieldError, SettingsError

app = typer.Typer(
    name="nearfield",
    help="Turn text into vectors on your own machine: exactly, fast, for every client.",
    epilog="Start with: nearfield demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("embed", epilog=embed.EXAMPLES)(embed.embed)
app.command("index", epilog=index.EXAMPLES)(index.index)
app.command("search", epilog=search.SEARCH_EXAMPLES)(search.search)
app.command("ask", epilog=search.ASK_EXAMPLES)(search.ask)
app.command("mcp", epilog=mcp.EXAMPLES)(mcp.mcp)
app.command("similarity", epilog=similarity.EXAMPLES)(similarity.similarity)
app.command("rerank", epilog=rerank.EXAMPLES)(rerank.rerank)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("top", epilog=top.EXAMPLES)(top.top)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("judge", epilog=judge.JUDGE_EXAMPLES)(judge.judge)
app.command("synthetic", epilog=judge.SYNTHETIC_EXAMPLES)(judge.synthetic)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("mteb", epilog=mteb.EXAMPLES)(mteb.mteb)
app.command("advise", epilog=advise.EXAMPLES)(advise.advise)
app.command("verify", epilog=verify.EXAMPLES)(verify.verify)
app.command("speed", epilog=speed.EXAMPLES)(speed.speed)
app.command("size", epilog=size.EXAMPLES)(size.size)
app.command("cost", epilog=cost.EXAMPLES)(cost.cost)
app.add_typer(collections.app, name="collections")
app.add_typer(golden.app, name="golden")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nearfield {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Turn text into vectors on your own machine: exactly, fast, for every client."""


def main() -> None:
    """Run the command line; an error of ours is one clear message, not a traceback."""
    try:
        app()
    except (NearfieldError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"nearfield: {error}", fg="red", err=True)
        raise SystemExit(2 if isinstance(error, (InputError, SettingsError)) else 1) from None
