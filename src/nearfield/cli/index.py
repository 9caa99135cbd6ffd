"""nearfield index: bring a collection to the state of its sources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nearfield.corpus.indexing.report import IndexReport
    from nearfield.corpus.sources import Source

EXAMPLES = """Examples:

nearfield index docs ~/notes 'manual/*.pdf'

nearfield index docs                       (again: only what changed)

nearfield index papers papers.jsonl --text abstract --title title --id id --meta year:int

nearfield index docs --feature dense=bge-m3 --feature sparse=bge-m3:sparse --feature short=dense:binary

nearfield index docs ~/notes --store 'postgresql://me:${PGPASSWORD}@host/db' --watch

nearfield index docs --config docs.toml --dry-run

An interrupted run goes on where it stopped when the command is given again."""


def index(
    name: Annotated[str, typer.Argument(help="The collection; it is made where there is none.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, globs, tables (.jsonl, .csv, .parquet), URLs, or - for stdin. [those it has]"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Definition of the collection: TOML or YAML.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature", help="NAME=MODEL[:sparse|:multivector], or NAME=FEATURE:DIMS or :binary cut from it."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model of the only feature, dense.")] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Where vectors lie: lancedb://, qdrant://, postgresql://, chroma://.")
    ] = None,
    chunker: Annotated[
        str | None, typer.Option("--chunker", help="auto, sentence, markdown, code, semantic, fixed or late.")
    ] = None,
    tokens: Annotated[int | None, typer.Option("--chunk-tokens", help="Most tokens of a chunk.")] = None,
    overlap: Annotated[int | None, typer.Option("--overlap", help="Tokens that neighbouring chunks share.")] = None,
    include: Annotated[list[str] | None, typer.Option("--include", help="Only files that match this glob.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="No files that match this glob.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Tables: column of the text. [text]")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Tables: column of the title.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Tables: column of the id.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", help="Column to filter by, such as year:int (str, int, float, bool).")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Language of the texts, such as de. [en]")] = None,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep chunks that nearly repeat.")] = False,
    keep_boilerplate: Annotated[
        bool, typer.Option("--keep-boilerplate", help="Keep lines that repeat over documents or pages.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on: index again whenever files change.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Read failed documents again.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Bring a collection to the state of its sources: only what is new or changed is read and embedded."""
    from nearfield.corpus import config as definition
    from nearfield.corpus.collection import Collection, list_collections
    from nearfield.corpus.sources.spec import ColumnSpec, parse_source
    from nearfield.errors import InputError, NearfieldError

    told = dict(definition.load(config).told()) if config else {}
    if model and feature:
        raise InputError("Give --model or --feature, not both.", param="model")
    parts: dict[str, dict[str, Any]] = {
        "features": definition.features_of([f"dense={model}"] if model else feature or []),
        "chunks": _given(by=chunker, tokens=tokens, overlap=overlap),
        "clean": {
            **({"duplicates": False} if keep_duplicates else {}),
            **({"boilerplate": False} if keep_boilerplate else {}),
        },
        "fields": definition.fields_of(meta or []),
    }
    for key, value in parts.items():
        if value:
            told[key] = {**told.get(key, {}), **value} if key != "features" else value
    told |= _given(store=store, language=language) | ({"accept_license": True} if accept_license else {})
    columns = ColumnSpec(text, title, id_column, tuple(parts["fields"]))
    opened = [
        parse_source(each, include=include or [], exclude=exclude or [], columns=columns) for each in sources or []
    ]
    if dry_run:
        report = _plan(name, told, opened, retry_failed=retry_failed)
        typer.echo(report.json() if as_json else report.text())
        return
    fresh = name not in list_collections()
    with Collection.ensure(name, told) as collection:
        shown = not quiet and sys.stderr.isatty()
        try:
            report = collection.index(opened, shown=shown, retry_failed=retry_failed)
        except NearfieldError:
            if fresh and not collection.manifest.placements():  # such as a model that there is not
                collection.drop()
            raise
        typer.echo(report.json() if as_json else report.text())
        if watch:
            _watch(collection, shown=shown, as_json=as_json)
        if report.failed and not report.documents and not report.unchanged:
            raise typer.Exit(1)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _plan(name: str, told: dict[str, Any], sources: Sequence[Source], *, retry_failed: bool) -> IndexReport:
    """Tell what would be done; of a collection that there is not yet, by one that is gone afterwards."""
    from nearfield.corpus.collection import Collection, list_collections

    if name in list_collections():
        with Collection.open(name) as collection:
            return collection.plan(sources, told, retry_failed=retry_failed)
    with TemporaryDirectory() as place:
        made = Collection.create(name, {**told, "store": f"memory:{place}"}, home=Path(place))
        with made as collection:
            return collection.plan(sources)


def _watch(collection: Any, *, shown: bool, as_json: bool) -> None:
    """Index again whenever a source's files change, until the user stops it."""
    from nearfield.corpus.indexing.watcher import watch_paths
    from nearfield.errors import NearfieldError

    typer.echo("Watching for changes; stop with Ctrl-C.", err=True)
    paths, own = collection.watched()
    for _ in watch_paths(paths, but=own):
        try:
            report = collection.index(shown=shown)
        except NearfieldError as error:  # the next change may find it well again
            typer.secho(f"nearfield: {error}", fg="red", err=True)
            continue
        if report.documents or report.removed or report.failed or report.unlisted:
            typer.echo(report.json() if as_json else report.text())
