"""nearfield keys: create API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Create API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Make typer treat the application as a group although it has one command."""


@app.command("new", epilog="Example: nearfield keys new --name search-team --file keys.toml --rate 600000")
def new(
    name: Annotated[str, typer.Option(help="Name of the client; it appears in logs.")],
    file: Annotated[Path, typer.Option(help="Key file to add the key to; see nearfield serve --api-key-file.")] = Path(
        "keys.toml"
    ),
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="Scope of the key: infer or manage; may be repeated [infer].")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="Model that the key may use, or a pattern such as 'BAAI/*'; may be repeated [all]."
        ),
    ] = None,
    rate: Annotated[int | None, typer.Option(help="Maximum number of tokens per minute [no limit].", min=1)] = None,
) -> None:
    """Create a key, print it once, and add its hash to a key file. A running server accepts it within a second."""
    from nearfield.server.auth import key_file
    from nearfield.server.auth.api_key import ApiKey

    key, key_hash = key_file.create_key()
    key_file.append_key(file, ApiKey(name, b"", tuple(scopes or ["infer"]), tuple(models or ["*"]), rate), key_hash)
    typer.echo(f"{key}\nThe key is shown only now. Its hash was added to {file}.")
