"""nearfield mcp: collections as tools for agents, by the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """Examples:

nearfield mcp

nearfield mcp -c handbook -c notes

nearfield mcp --http 8090

Agents start the server themselves. Configure the command 'nearfield' with the argument 'mcp'."""


def mcp(
    collections: Annotated[
        list[str] | None,
        typer.Option("--collection", "-c", help="Collection that agents may read; may be repeated [all]."),
    ] = None,
    http: Annotated[
        int | None,
        typer.Option("--http", min=1, max=65535, help="Serve HTTP on this port of 127.0.0.1, at /mcp [stdio]."),
    ] = None,
) -> None:
    """Let agents search and read collections.

    The server speaks the Model Context Protocol. Agents cannot change anything.
    """
    from nearfield.errors import CollectionNotFound, MissingExtra, nearest

    try:
        from nearfield.server.collections.mcp import OpenCollections, create_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nearfield"):
            raise
        raise MissingExtra(f"nearfield mcp needs {error.name!r}: pip install 'nearfield[corpus,mcp]'") from error
    opened = OpenCollections(frozenset(collections or ()))
    unknown = next((name for name in collections or () if name not in opened.names()), None)
    if unknown is not None:
        hint = nearest(unknown, OpenCollections().names())
        raise CollectionNotFound(f"There is no collection {unknown!r}. {hint}", param="collection")
    server = create_server(opened)
    try:
        if http is None:
            server.run()  # the protocol runs over stdout, so nothing else may be printed
        else:
            typer.echo(f"Nearfield's tools are at http://127.0.0.1:{http}/mcp", err=True)
            server.run("streamable-http", host="127.0.0.1", port=http)
    finally:
        opened.close()
