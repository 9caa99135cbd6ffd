"""nearfield collections: what collections there are, and what is done with them as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield collections list

nearfield collections show docs

nearfield collections documents docs --state failed

nearfield collections export docs backup/

nearfield collections import docs-again backup/ --store qdrant://localhost:6333

nearfield collections move docs 'postgresql://me@host/db'

nearfield collections verify docs"""

app = typer.Typer(
    help="List, show, verify, export, import, move and drop collections.", epilog=EXAMPLES, no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="The collection.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: nearfield collections list --json")
def list_(as_json: AsJson = False) -> None:
    """List all collections."""
    from nearfield.corpus.collection import Collection, home, list_collections

    told = []
    for name in list_collections():
        with Collection.open(name) as collection:
            told.append(collection.info())
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    if not told:
        typer.echo(f"There are no collections in {home()}. Make one: nearfield index docs FOLDER")
    for each in told:
        named = ", ".join(f"{table['feature']} ({table['model']})" for table in each["tables"])
        typer.echo(f"{each['name']}: {each['documents']:,} documents, {each['chunks']:,} chunks; {named or 'empty'}")


@app.command(epilog="Example: nearfield collections show docs")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a collection: its features, store, counts and sizes."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        info = collection.info()
    typer.echo(json.dumps(info, ensure_ascii=False) if as_json else _shown(info))


def _shown(info: dict[str, Any]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in info["states"].items()) or "none"
    lines = [
        info["name"],
        f"  documents  {states}",
        f"  chunks     {info['chunks']:,} of {info['tokens']:,} tokens; {info['repeats']:,} repeat others",
        f"  store      {info['store']}",
    ]
    for table in info["tables"]:
        size = "" if table["bytes"] is None else f", {table['bytes'] / 2**20:,.1f} MiB"
        lines.append(
            f"  {table['feature']:<10} {table['model']}, {table['dimensions']:,} dimensions, {table['dtype']}, "
            f"{table['state']}{size}"
        )
    for source in info["definition"].get("sources", []):
        lines.append(f"  source     {source['kind']}: {source['location']}")
    return "\n".join(lines)


@app.command(epilog="Example: nearfield collections documents docs --state failed")
def documents(
    name: Name,
    state: Annotated[str | None, typer.Option("--state", help="Only those that are done, failed or writing.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most documents to show.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this document.")] = None,
    as_json: AsJson = False,
) -> None:
    """List a collection's documents, their states, and why some failed."""
    from dataclasses import asdict

    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        found = collection.documents(state=state, limit=limit, after=after)
    for each in found:
        line = f"{each.state:<8} {each.chunks:>6,}  {each.id}" + (f"\n         {each.error}" if each.error else "")
        typer.echo(json.dumps(asdict(each), ensure_ascii=False) if as_json else line)


@app.command(epilog="Example: nearfield collections verify docs --sample 1000")
def verify(
    name: Name,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Vectors to make anew and compare.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Compare a collection's books with its store, and some vectors with those that the model makes now."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        told = collection.verify(sample=sample)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        wrong = {key: told[key] for key in ("missing", "foreign", "unlike", "outdated")}
        held = ", ".join(f"{count:,} in {feature}" for feature, count in told["tables"].items())
        typer.echo(f"{name}: {told['chunks']:,} chunks; {held}")
        for key, found in wrong.items():
            if found:
                typer.secho(f"  {len(found):,} {key}: {', '.join(found[:5])}", fg="red")
        if told["whole"]:
            typer.echo("  whole")
    if not told["whole"]:
        raise typer.Exit(1)


@app.command(epilog="Example: nearfield collections export docs backup/")
def export(name: Name, folder: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Write a collection, vectors included, as Parquet files."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        files = collection.export(folder)
    size = sum(path.stat().st_size for path in files)
    typer.echo(f"{folder}: {len(files)} files, {size / 2**20:,.1f} MiB")


@app.command(
    "import", epilog="Example: nearfield collections import docs-again backup/ --store qdrant://localhost:6333"
)
def import_(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="What export wrote.")],
    store: Annotated[str | None, typer.Option("--store", help="Where vectors are to lie. [LanceDB]")] = None,
) -> None:
    """Make a collection of what export wrote, without embedding anything."""
    from nearfield.corpus.collection import Collection

    with Collection.import_(name, folder, store=store) as collection:
        typer.echo(_shown(collection.info()))


@app.command(epilog="Example: nearfield collections move docs 'postgresql://me@host/db'")
def move(name: Name, store: Annotated[str, typer.Argument(help="Address of the other store.")]) -> None:
    """Take a collection's vectors to another store, without embedding anything."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        collection.move(store)
        typer.echo(_shown(collection.info()))


@app.command(epilog="Example: nearfield collections forget docs ~/old-notes")
def forget(
    name: Name, source: Annotated[str, typer.Argument(help="A source's name or location, as show has it.")]
) -> None:
    """Let go of a source, and of all documents that came from it. The source itself is not touched."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        count = collection.forget(source)
    typer.echo(f"{name}: {source} is let go, and {count:,} documents with it.")


@app.command(epilog="Example: nearfield collections drop docs --yes")
def drop(name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove a collection, its vectors included. Sources are not touched."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        counts = collection.manifest.counts()
        if not yes:
            typer.confirm(f"Remove {name}: {counts['documents']:,} documents, {counts['chunks']:,} chunks?", abort=True)
        collection.drop()
    typer.echo(f"{name} is gone.")
