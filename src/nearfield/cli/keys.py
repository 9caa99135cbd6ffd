"""nearfield keys: making API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="API keys: made here, kept as hashes.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep the group a group while it has one command."""


@app.command("new", epilog="Example: nearfield keys new --name search-team --file keys.toml --rate 600000")
def new(
    name: Annotated[str, typer.Option(help="Who it is for; it stands in logs.")],
    file: Annotated[Path, typer.Option(help="Key file to add it to: nearfield serve --api-key-file.")] = Path(
        "keys.toml"
    ),
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="infer or manage; may be repeated [infer].")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Model it may use, or a pattern such as 'BAAI/*' [all].")
    ] = None,
    rate: Annotated[int | None, typer.Option(help="Tokens a minute that are read for it [no bound].", min=1)] = None,
) -> None:
    """Make a key, print it once, and add its hash to a key file; a running server takes it within a second."""
    from nearfield.errors import InputError
    from nearfield.server.auth import key_file
    from nearfield.server.auth.api_key import ApiKey

    known = [key.name for key in key_file.read_key_file(file)] if file.exists() else []
    if file.suffix != ".toml":
        raise InputError(f"{file} must be named *.toml: lines hold no names and scopes.")
    if name in known:
        raise InputError(f"{file} has a key named {name!r} already; take it out first, or choose another name.")
    key, key_hash = key_file.create_key()
    key_file.append_key(file, ApiKey(name, b"", tuple(scopes or ["infer"]), tuple(models or ["*"]), rate), key_hash)
    typer.echo(f"{key}\nThis is shown once. Its hash was added to {file}.")
