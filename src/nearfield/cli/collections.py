"""nearfield collections: list, inspect, copy, move and remove collections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import count_of, escape_controls, quote_name, to_json
from nearfield.units import format_bytes

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
#: What ``verify`` reports, of one and of several.
_PROBLEMS = {
    "missing": ("chunk without a vector in the store", "chunks without a vector in the store"),
    "foreign": (
        "vector in the store that the manifest does not know",
        "vectors in the store that the manifest does not know",
    ),
    "unlike": ("vector that the model does not reproduce", "vectors that the model does not reproduce"),
    "outdated": ("feature whose model has changed", "features whose model has changed"),
}
_OCR = {
    False: "off (--ocr)",
    True: "on: pictures and pages without text (--no-ocr)",
    "damaged": "on: pictures, pages without text, and pages with text that looks damaged (--no-ocr)",
}
_FIELD_TYPES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
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
        typer.echo(to_json(infos))
        return
    if not infos:
        typer.echo(f"There are no collections in {home()}. Create one: nearfield index docs FOLDER")
    for info in infos:
        named = ", ".join(f"{table['feature']} ({quote_name(table['model'])})" for table in info["tables"])
        counts = f"{count_of(info['documents'], 'document')}, {count_of(info['chunks'], 'chunk')}"
        typer.echo(f"{info['name']}: {counts}; {named or 'empty'}")


@app.command(epilog="Example: nearfield collections show docs")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show the counts, the store, the features, the language, OCR, speech, the fields for filters, and the sources."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        info = collection.info()
    typer.echo(to_json(info) if as_json else _format(info))


def _format(info: JsonObject) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in info["states"].items()) or "none"
    counts = (info["tokens"], "token"), (info["repeats"], "duplicate")
    facts = [
        ("Documents", states),
        ("Chunks", f"{info['chunks']:,} with {'; '.join(count_of(*count) for count in counts)}"),
        ("Store", quote_name(info["store"])),
        *((table["feature"], _describe_table(table)) for table in info["tables"]),
        *_definition(info["definition"]),
    ]
    return "\n".join([info["name"], *(f"  {label + ':':<11} {value}" for label, value in facts)])


def _describe_table(table: JsonObject) -> str:
    size = "" if table["bytes"] is None else f", {format_bytes(table['bytes'])}"
    shape = f"{count_of(table['dimensions'], 'dimension')}, {table['dtype']}, {table['state']}"
    return f"{quote_name(table['model'])}, {shape}{size}"


def _definition(definition: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield what the definition says about reading documents, the fields for filters, and the sources."""
    from nearfield.corpus.config import parse_config

    config = parse_config(definition)
    for feature in config.features.values():
        if feature.query_map:
            yield "Queries", f"moved by the map {quote_name(feature.query_map)} (--query-map)"
    yield "Language", f"{quote_name(config.language)} (--language)"
    yield "OCR", _OCR[config.ocr]
    yield "Speech", _describe_speech(config.speech)
    yield "Filter by", ", ".join(f"{name} ({_FIELD_TYPES[kind]})" for name, kind in config.all_fields.items())
    for source in config.sources:
        yield "Source", f"{source.kind}, {quote_name(source.location)}"


def _describe_speech(mode: bool | str) -> str:
    if not mode:
        return "off (--speech)"
    return f"on: sounds and videos, by {'the default model' if mode is True else quote_name(mode)} (--no-speech)"


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
        typer.echo(to_json(asdict(info)) if as_json else _format_document(info))


def _format_document(info: DocumentInfo) -> str:
    share = "     " if info.share is None else f"{info.share:>5.0%}"
    lines = [f"{info.state:<8} {info.chunks:>6,} {share}  {quote_name(info.id)}"]
    lines += [escape_controls(info.error)] if info.error else []
    for loss in info.losses:
        pages = f" ({_format_pages(loss.pages)})" if loss.pages else ""
        line = f"not read: {loss.reason}{pages}" + (f". {loss.advice}" if loss.advice else "")
        lines.append(escape_controls(line))
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
        typer.echo(to_json(result))
    else:
        wrong = {key: result[key] for key in _PROBLEMS}
        stored = ", ".join(f"{count:,} in {feature}" for feature, count in result["tables"].items())
        typer.echo(f"{name}: {count_of(result['chunks'], 'chunk')}; {stored}")
        for key, ids in wrong.items():
            if ids:
                examples = ", ".join(map(quote_name, ids[:5]))
                typer.secho(f"  {count_of(len(ids), *_PROBLEMS[key])}: {examples}", fg="red")
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
    typer.echo(f"{folder}: {count_of(len(files), 'file')}, {format_bytes(size)}")


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
    typer.echo(f"{name}: removed the source {quote_name(source)} and {count_of(count, 'document')}.")


@app.command(epilog="Example: nearfield collections drop docs --yes")
def drop(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
) -> None:
    """Delete a collection with its vectors. The files of its sources are not touched."""
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as collection:
        counts = collection.manifest.counts()
        if not yes:
            size = f"{count_of(counts['documents'], 'document')}, {count_of(counts['chunks'], 'chunk')}"
            typer.confirm(f"Delete {name}: {size}?", abort=True)
        collection.drop()
    typer.echo(f"Deleted {name}.")
