"""nearfield collections: list, inspect, copy, move and remove collections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

if TYPE_CHECKING:
    from nearfield.corpus.manifest.document_info import DocumentInfo

EXAMPLES = """Examples:

nearfield collections list

nearfield collections show docs

nearfield collections documents docs --state failed

nearfield collections export docs backup/

nearfield collections import docs-again backup/ --store qdrant://localhost:6333

nearfield collections move docs 'postgresql://me@host/db'

nearfield collections verify docs"""

app = typer.Typer(help="List, check, copy, move and delete collections.", epilog=EXAMPLES, no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the collection.")]
#: What ``verify`` reports, in words.
_PROBLEMS = {
    "missing": "chunks without a vector in the store",
    "foreign": "vectors in the store that the manifest does not know",
    "unlike": "vectors that the model does not reproduce",
    "outdated": "features whose model has changed",
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: nearfield collections list --json")
def list_(as_json: AsJson = False) -> None:
    """List all collections."""
    from nearfield.corpus.collection import Collection, home, list_collections

    infos = []
    for name in list_collections():
        with Collection.open(name) as collection:
            infos.append(collection.info())
    if as_json:
        typer.echo(json.dumps(infos, ensure_ascii=False))
        return
    if not infos:
        typer.echo(f"There are no collections in {home()}. Create one: nearfield index docs FOLDER")
    for info in infos:
        named = ", ".join(f"{table['feature']} ({table['model']})" for table in info["tables"])
        typer.echo(f"{info['name']}: {info['documents']:,} documents, {info['chunks']:,} chunks; {named or 'empty'}")


@app.command(epilog="Example: nearfield collections show docs")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show the features, the store, the counts and the sizes of a collection."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        info = collection.info()
    typer.echo(json.dumps(info, ensure_ascii=False) if as_json else _format(info))


def _format(info: JsonObject) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in info["states"].items()) or "none"
    lines = [
        info["name"],
        f"  Documents:  {states}",
        f"  Chunks:     {info['chunks']:,} with {info['tokens']:,} tokens; {info['repeats']:,} duplicates",
        f"  Store:      {info['store']}",
    ]
    for table in info["tables"]:
        size = "" if table["bytes"] is None else f", {table['bytes'] / 2**20:,.1f} MiB"
        lines.append(
            f"  {table['feature'] + ':':<11} {table['model']}, {table['dimensions']:,} dimensions, {table['dtype']}, "
            f"{table['state']}{size}"
        )
    for source in info["definition"].get("sources", []):
        lines.append(f"  Source:     {source['kind']}, {source['location']}")
    return "\n".join(lines)


@app.command(epilog="Example: nearfield collections documents docs --state failed")
def documents(
    name: Name,
    state: Annotated[
        str | None, typer.Option("--state", help="Only documents in this state: done, partial, failed or writing.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of documents.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="Start after this document.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents of a collection: state, chunks, share of words that are searchable, what is missing."""
    from dataclasses import asdict

    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        infos = collection.documents(state=state, limit=limit, after=after)
    for info in infos:
        typer.echo(json.dumps(asdict(info), ensure_ascii=False) if as_json else _format_document(info))


def _format_document(info: DocumentInfo) -> str:
    share = "     " if info.share is None else f"{info.share:>5.0%}"
    lines = [f"{info.state:<8} {info.chunks:>6,} {share}  {info.id}"]
    lines += [info.error] if info.error else []
    for loss in info.losses:
        pages = f" ({_format_pages(loss.pages)})" if loss.pages else ""
        lines.append(f"not read: {loss.reason}{pages}" + (f". {loss.advice}" if loss.advice else ""))
    return "\n                ".join(lines)


def _format_pages(pages: Sequence[int]) -> str:
    """Return page numbers with ranges, such as 3-6, 9."""
    runs: list[list[int]] = []
    for page in sorted(set(pages)):
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


@app.command(epilog="Example: nearfield collections verify docs --sample 1000")
def verify(
    name: Name,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Number of vectors to compute again and compare.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Compare the manifest of a collection with its store, and a sample of vectors with newly computed ones."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        result = collection.verify(sample=sample)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        wrong = {key: result[key] for key in _PROBLEMS}
        stored = ", ".join(f"{count:,} in {feature}" for feature, count in result["tables"].items())
        typer.echo(f"{name}: {result['chunks']:,} chunks; {stored}")
        for key, ids in wrong.items():
            if ids:
                typer.secho(f"  {len(ids):,} {_PROBLEMS[key]}: {', '.join(ids[:5])}", fg="red")
        if result["whole"]:
            typer.echo("  No problems.")
    if not result["whole"]:
        raise typer.Exit(1)


@app.command(epilog="Example: nearfield collections export docs backup/")
def export(name: Name, folder: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Export a collection with its vectors to Parquet files."""
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
    folder: Annotated[Path, typer.Argument(help="Folder that export has written.")],
    store: Annotated[
        str | None, typer.Option("--store", help="Address of the store for the vectors [LanceDB].")
    ] = None,
) -> None:
    """Create a collection from an export, without computing vectors again."""
    from nearfield.corpus.collection import Collection

    with Collection.import_(name, folder, store=store) as collection:
        typer.echo(_format(collection.info()))


@app.command(epilog="Example: nearfield collections move docs 'postgresql://me@host/db'")
def move(name: Name, store: Annotated[str, typer.Argument(help="Address of the other store.")]) -> None:
    """Move the vectors of a collection to another store, without computing them again."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        collection.move(store)
        typer.echo(_format(collection.info()))


@app.command(epilog="Example: nearfield collections forget docs ~/old-notes")
def forget(
    name: Name, source: Annotated[str, typer.Argument(help="Name or location of the source, as in show.")]
) -> None:
    """Remove a source and its documents from a collection. The files of the source are not touched."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        count = collection.forget(source)
    typer.echo(f"{name}: removed the source {source} and {count:,} documents.")


@app.command(epilog="Example: nearfield collections drop docs --yes")
def drop(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
) -> None:
    """Delete a collection with its vectors. The files of its sources are not touched."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        counts = collection.manifest.counts()
        if not yes:
            typer.confirm(f"Delete {name}: {counts['documents']:,} documents, {counts['chunks']:,} chunks?", abort=True)
        collection.drop()
    typer.echo(f"Deleted {name}.")
